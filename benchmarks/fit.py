"""Whether `spf doctor --fit` says what a training step takes: its estimate beside the measured peak.

    python benchmarks/fit.py [--backbone unet|mmdit] [--batches 16 32] [--quick] [--threads N] [--out DIR]

Measured is a whole step of the shipped miniature recipes (training_step, backward, clipping, AdamW) in a process of its
own: its greatest resident memory less that of the same process before the model was built (Linux alone, on the CPU).
It is the second step, on other portraits than the first, so that they are encoded as in a first epoch. Pages of files
(code that a first use loads) are taken off, and freed memory is given back at once (MALLOC_MMAP_THRESHOLD_). What
compiled kernels keep is estimated by a constant, which one and two portraits gave (`--batches 1 2`).

The last line is JSON: ``cases``, and ``worst_ratio``, that of estimate and measurement, the greater over the smaller.
``--quick`` measures one case; without it ``fit.md`` is written.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from itertools import product
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # resident memory is the CPU's
os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**18)  # in the processes that measure, what is freed is given back at once

import torch
from machine.memory import fresh, peak, resident
from machine.processor import processor
from timing.bases import Base, painted
from timing.rows import CHANGES, SHIPPED, STAGE1, module, read_recipe
from timing.training import Training

from spf.backbones import BASES
from spf.cli.fits import GIB, estimate
from spf.clip import CLIPS

STAGES = (1, 2)


@dataclass(frozen=True)
class Case:
    """A recipe of a miniature and what is changed in it."""

    base: str
    stage: int
    batch: int
    precision: str
    checkpointed: bool

    @property
    def arguments(self) -> list[str]:
        """Of `spf fit`."""
        changes = {"data.train_batch_size": self.batch, "trainer.precision": self.precision,
                   "model.gradient_checkpointing": str(self.checkpointed).lower(), "trainer.accelerator": "cpu"}
        return ["-c", f"experiments/{self.base}/stage{self.stage}.yaml",
                *(part for key, value in changes.items() for part in (f"--{key}", str(value)))]


def cases(base: str, batches: list[int], quick: bool) -> Iterator[Case]:
    """Both stages; in a hurry stage 1 alone, at the most portraits in float32."""
    some = product(STAGES[:1], batches[-1:], ("32-true",), (False,))
    every = product(STAGES, batches, ("32-true", "bf16-mixed"), (False, True))
    yield from (Case(base, *one) for one in (some if quick else every))


def measured(case: Case) -> float:
    """GiB of the second step."""
    recipe = read_recipe(case.base, case.stage)
    recipe["model"]["init_args"]["gradient_checkpointing"] = case.checkpointed
    base = Base(case.base, {"base": BASES[case.base], "clip": CLIPS["miniature"]}, "", painted)
    batch = painted(case.batch)
    row, clip = STAGE1 if case.stage == 1 else SHIPPED, recipe["trainer"]["gradient_clip_val"]
    before, files = resident(), resident("RssFile")
    training = Training(module(recipe, base, CHANGES[row]), batch, case.precision, clip)
    training.step()
    training.batch = replace(batch, ids=[f"{name}, once more" for name in batch.ids])
    _, gib = peak(training.step)
    return gib - before - (resident("RssFile") - files)


def main() -> None:
    """Estimate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=("unet", "mmdit"), default="unet", help="of which miniature")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32], help="portraits a step")
    parser.add_argument("--quick", action="store_true", help="one case")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    base = "miniature" + "_mmdit" * (options.backbone == "mmdit")
    lines, ratios = [], []
    for case in cases(base, options.batches, options.quick):
        held, said = fresh(measured, case), estimate(case.arguments).total / GIB
        ratios.append(said / held)
        lines.append(f"| {case.stage} | {case.batch} | {case.precision} | {'yes' if case.checkpointed else 'no'} | "
                     f"{said:.2f} | {held:.2f} | {said / held:.2f} |")
        print(lines[-1], flush=True)
    if not options.quick:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "fit.md").write_text("\n".join([*heading(base, options.threads), *lines]) + "\n")
    print(json.dumps({"cases": len(ratios), "worst_ratio": round(max(max(one, 1 / one) for one in ratios), 3)}))


def heading(base: str, threads: int) -> list[str]:
    """Of the report."""
    return [f"# Estimated and measured memory of a training step, {date.today()}", "",
            f"The recipes of {base}, 128 pixels; {threads} threads, {processor()}.",
            "Measured: the greatest resident memory during the second step, less that before the model was built and "
            "pages of files (Linux alone).", "",
            "| stage | batch | precision | gradient checkpointing | estimate (GiB) | measured (GiB) | ratio |",
            "|---|---|---|---|---|---|---|"]


if __name__ == "__main__":
    main()
