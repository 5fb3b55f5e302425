"""The commands by which the grids' cells are trained and measured: `make grids` gives them to a shell."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from comparing.grids import GRIDS, UNTRAINED, Setting

SHARE = 0.4  # of the optimizer steps that the row itself has
PLAIN = "--samples.every_n_steps 0 --trainer.enable_progress_bar false"


def commands(base: str, results: Path) -> Iterator[str]:
    """Shell lines for each cell that ``results`` lacks: a training where it has one, and its measuring on the
    validation triples."""
    for row, settings in GRIDS.items():
        for number, setting in enumerate(settings, 1):
            if not (results / f"{row}_{number}.json").is_file():
                yield from _cell(base, row, f"{row}_{number}", setting, results)


def _cell(base: str, row: str, name: str, setting: Setting, results: Path) -> Iterator[str]:
    home, run = Path("experiments") / base, Path("runs") / base / "grids" / name
    spf = f"{shlex.quote(sys.executable)} -m spf"
    own = f" -c {home}/rows/{row}.yaml" if row in UNTRAINED else ""
    test = (f"{spf} test -c {home}/evaluate.yaml{own} --data.triples runs/{base}/validation --model.row {name} "
            f"--run {run}/test --model.result {results}/{name}.json")
    if row in UNTRAINED:
        yield f"{test} --model.neutral null --model.guidance.strength {setting['strength']:g}"
        return
    steps = round(SHARE * yaml.safe_load((home / f"{row}.yaml").read_text(encoding="utf-8"))["trainer"]["max_steps"])
    yield (f"{spf} fit -c {home}/stage1.yaml -c {home}/{row}.yaml --run {run} --trainer.max_steps {steps} {PLAIN} "
           + " ".join(f"--model.{name} {value:g}" for option in setting.items() for name, value in _given(*option)))
    yield f"{test} --model.checkpoint {run}/checkpoints/last.ckpt"


def _given(option: str, value: float) -> list[tuple[str, float]]:
    """Its arguments below ``model``; a rank brings the alpha by which its scale stays 1, AdaLoRA's where it begins."""
    if option == "learning_rate":
        return [(option, value)]
    if option == "rank":
        return [("tuning.rank", value), ("tuning.alpha", value)]
    if option == "target_rank":
        return [("tuning.target_rank", value), ("tuning.initial_rank", 1.5 * value), ("tuning.alpha", 1.5 * value)]
    return [(f"objective.{option}", value)]
