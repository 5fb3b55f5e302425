"""`spf fit` with a diary, for tests that kill it: which portraits at which learning rate, by step and by rank.

With PAUSE_AT set to a checkpoint's name, it stops for ever between the temporary file and the rename to that name.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from spf.__main__ import main

PAUSED = "paused"


class Diary(Callback):
    """A line when a batch has been learnt from, and one when an optimizer step is complete."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.file = (Path(trainer.default_root_dir) / f"diary_{trainer.global_rank}.jsonl").open("a", buffering=1)
        self.ids: list[str] = []
        self.step, self.rate = trainer.global_step, 0.0

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        self.rate = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, _: Any, batch: Any, __: int) -> None:
        self.ids += batch.ids
        self.file.write(json.dumps({"batch": batch.ids}) + "\n")
        if trainer.global_step > self.step:
            self.step = trainer.global_step
            self.file.write(json.dumps({"step": self.step, "ids": self.ids, "lr": self.rate}) + "\n")
            self.ids = []


def pause_at(name: str) -> None:
    """Make os.replace stop before it gives a file this name."""
    replace = os.replace

    def pausing(source: Path, target: Path) -> None:
        if Path(target).name == name:
            Path(target).with_name(PAUSED).touch()
            signal.pause()
        replace(source, target)

    os.replace = pausing


if __name__ == "__main__":
    if "PAUSE_AT" in os.environ:
        pause_at(os.environ["PAUSE_AT"])
    main(sys.argv[1:])
