"""A signal ends a training after the step at hand, with a checkpoint; under SLURM the job then queues itself again."""

import os
import signal
import subprocess
import sys
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from spf.stages.checkpoints import Checkpoints, say

EXIT_CODE = 75
"""Of a training that was interrupted and saved (EX_TEMPFAIL of sysexits.h): the same command continues it."""

REQUEUE = "SPF_REQUEUE"
"""Set to 1 by a job script that wants to be queued again on SIGUSR1, the signal that its time is nearly up."""


class Interruption(Callback):
    """SIGTERM, SIGUSR1 and Ctrl-C set a flag; at the next optimizer step all ranks agree, save, and stop.

    Lightning's own handlers save at once, wherever each rank happens to be, and wait for one another meanwhile.
    SIGTERM asks for an end (``scancel``); SIGUSR1 for an end now and more later. A second Ctrl-C does not wait.
    """

    def __init__(self) -> None:
        self.received = 0  # the signal
        self.stopped = False

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Only now: Lightning has just installed its own, and restores when it is done what was there before them."""
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, self._note)
        self._step = trainer.global_step

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """At the boundary between two optimizer steps: ask, save, stop."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        if trainer.world_size > 1:  # a rank may not have heard yet; SIGTERM is the greatest number and wins
            heard = torch.tensor(self.received, device=module.device)
            self.received = int(trainer.strategy.reduce(heard, reduce_op="max"))
        if not self.received or trainer.global_step >= trainer.estimated_stepping_batches:
            return  # of a training that is done the end is near, and its last checkpoint
        say(f"interrupted after step {trainer.global_step}: saving, then stopping")
        for callback in trainer.callbacks:
            if isinstance(callback, Checkpoints):
                callback.save(trainer)
        self.stopped = trainer.should_stop = True

    def conclude(self, trainer: Trainer) -> None:
        """After the training: on rank zero of an interrupted one, requeue where asked, and exit with ``EXIT_CODE``."""
        if not self.stopped or not trainer.is_global_zero:
            return  # of the other ranks a launcher takes any status but 0 for a crash
        job = os.environ.get("SLURM_JOB_ID")
        if job and self.received == signal.SIGUSR1 and os.environ.get(REQUEUE) == "1":
            print(f"job {job} {'is queued again' if _requeue(job) else 'could not be queued again: submit it'}")
        print("interrupted and saved: the same command continues", flush=True)
        sys.exit(EXIT_CODE)


def _requeue(job: str) -> bool:
    try:
        return subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0
    except OSError:  # no scontrol on this node
        return False
