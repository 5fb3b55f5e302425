"""Trains the rows of the plane by `spf fit` and the shipped recipes; a run that is there goes on where it stopped."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from plane.triples import TARGETS

STAGE1_STEPS, EVERY = 1200, 50
HERE = Path(__file__).parents[1]

ROWS: dict[str, tuple[str, ...]] = {
    "stage 2": (),
    "all lambdas 0": tuple(f"--model.objective.{term}=0" for term in ("m_text", "m_fine", "enhanced")),
    "oracle map": ("--model.class_path=plane.oracle.OracleAlignment",),
    "full weights": ("--model.tuning=Full", "--model.learning_rate=2.0e-4"),
}
"""What each row changes in experiments/miniature/stage2.yaml."""


def paint(out: Path) -> Path:
    """4,000 portraits of the four targets in the foreign studio."""
    folder = out / "data"
    _spf("portraits", "paint", "--out", str(folder), "--count", "4000", "--seed", "41",
         "--targets", f"[{','.join(TARGETS)}]")
    return folder


def stage1(out: Path) -> Path:
    """Stage 1, far beyond where it will be stopped; returns the folder of its checkpoints."""
    _fit(1, out / "stage1", out, f"--trainer.max_steps={STAGE1_STEPS}", f"--checkpoint.every_n_train_steps={EVERY}",
         "--checkpoint.save_top_k=-1")
    return out / "stage1" / "checkpoints"


def stage2(out: Path, start: Path, jobs: int) -> dict[str, Path]:
    """Every row from one stage 1, ``jobs`` at a time: name -> last checkpoint."""
    runs = {name: out / name.replace(" ", "_") for name in ROWS}
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda name: _fit(2, runs[name], out, *ROWS[name], f"--model.start={start}"), ROWS))
    return {name: run / "checkpoints" / "last.ckpt" for name, run in runs.items()}


def _fit(stage: int, run: Path, out: Path, *changes: str) -> None:
    _spf("fit", "-c", str(HERE.parent / "experiments" / "miniature" / f"stage{stage}.yaml"), "--run", str(run),
         "--data.source", str(out / "data"), "--samples.every_n_steps=0", "--panels.every_n_steps=0",
         "--trainer.enable_progress_bar=false", *changes)


def _spf(*arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": f"{HERE}:{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run([sys.executable, "-m", "spf", *arguments], check=True, env=environment)
