"""The commands by which the grids' cells are trained and measured: `make grids` gives them to a shell."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from comparing.grids import GRIDS, Setting

SHARE = 0.4  # of the optimizer steps that the row itself has
PLAIN = "--samples.every_n_steps 0 --trainer.enable_progress_bar false"


def commands(base: str, results: Path) -> Iterator[str]:
    """Two shell lines for each cell that ``results`` lacks: a training, and its measuring on the validation triples."""
    for row, settings in GRIDS.items():
        for number, setting in enumerate(settings, 1):
            if not (results / f"{row}_{number}.json").is_file():
                yield from _cell(base, row, number, setting, results)


def _cell(base: str, row: str, number: int, setting: Setting, results: Path) -> Iterator[str]:
    home, name = Path("experiments") / base, f"{row}_{number}"
    run = Path("runs") / base / "grids" / name
    steps = round(SHARE * yaml.safe_load((home / f"{row}.yaml").read_text(encoding="utf-8"))["trainer"]["max_steps"])
    spf = f"{shlex.quote(sys.executable)} -m spf"
    yield (f"{spf} fit -c {home}/stage1.yaml -c {home}/{row}.yaml --run {run} --trainer.max_steps {steps} {PLAIN} "
           + " ".join(f"--model.{name} {value:g}" for option in setting.items() for name, value in _given(*option)))
    yield (f"{spf} test -c {home}/evaluate.yaml --data.triples runs/{base}/validation --model.row {name} "
           f"--model.checkpoint {run}/checkpoints/last.ckpt --run {run}/test --model.result {results}/{name}.json")


def _given(option: str, value: float) -> list[tuple[str, float]]:
    """Its arguments below ``model``; a rank brings the alpha by which its scale stays 1, AdaLoRA's where it begins."""
    if option == "learning_rate":
        return [(option, value)]
    if option == "rank":
        return [("tuning.rank", value), ("tuning.alpha", value)]
    if option == "target_rank":
        return [("tuning.target_rank", value), ("tuning.initial_rank", 1.5 * value), ("tuning.alpha", 1.5 * value)]
    return [(f"objective.{option}", value)]
