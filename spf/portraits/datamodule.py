"""Hands portraits to Lightning."""

import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import datasets
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from spf.portraits.batches import PortraitBatch, Portraits, collate
from spf.portraits.formats import PortraitError
from spf.portraits.problems import Problems
from spf.portraits.reader import read_portraits
from spf.portraits.sampler import PortraitSampler


class PortraitData(LightningDataModule):
    """Training portraits for both stages.

    A portrait that cannot be used (no image or one that cannot be decoded, no caption, an id that another one has) is
    reported once, and the next good one stands in for it.

    Args:
        source: folder, glob or file of tar shards, parquet shards or images with metadata; see `read_portraits`.
        resolution: side of the square images, in pixels.
        train_batch_size: portraits per batch and device.
        num_workers: processes per device that decode images.
        seed: of the order; see `PortraitSampler`.
        columns: our column name -> the source's, as in `{base_text: caption}`.
        limit: use the first `limit` portraits only.
        require_target: refuse a source in which a portrait has no target text (else it is "").
        max_bad_fraction: share of the portraits that may be unusable; more of them are an error.
        global_batch_size: portraits per optimizer step over all devices. It sets the trainer's
            `accumulate_grad_batches`, so that the steps stay what they are on any number of devices.
    """

    def __init__(
        self,
        source: str,
        resolution: int = 512,
        train_batch_size: int = 8,
        num_workers: int = 4,
        seed: int = 0,
        columns: dict[str, str] | None = None,
        limit: int | None = None,
        require_target: bool = False,
        max_bad_fraction: float = 0.01,
        global_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.source, self.columns, self.limit, self.require_target = source, columns, limit, require_target
        self.resolution, self.max_bad_fraction, self.global_batch_size = resolution, max_bad_fraction, global_batch_size
        self.train_batch_size, self.num_workers, self.seed = train_batch_size, num_workers, seed

    def prepare_data(self) -> None:
        """Builds the cached table on one process per node, while the others wait without a time limit."""
        report = Problems(self._read(), self.source, self.max_bad_fraction).report()
        if report:
            print(f"{report}\nThe next good portrait stands in for each.", flush=True)

    def setup(self, stage: str) -> None:
        table = self._read()
        self.problems = Problems(table, self.source, self.max_bad_fraction)
        self.portraits = Portraits(table, self.resolution, self.problems.allowed)
        # the ids and not the files, so that a folder may move
        self.fingerprint = hashlib.sha256(json.dumps(table["id"][:]).encode()).hexdigest()[:32]
        self._loader: DataLoader | None = None
        # samples_seen at some optimizer step; None: at the step that the loop has when the first batch comes
        self._samples_before, self._step_before = 0, 0
        if self.trainer and self.global_batch_size is not None:
            self._accumulate(self.global_batch_size, self.train_batch_size * self.trainer.world_size)

    def train_dataloader(self) -> DataLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if len(self.portraits) < self.samples_per_step:
            times = self.samples_per_step // (self.train_batch_size * world_size)
            raise PortraitError(
                f"{self.source}: {len(self.portraits)} portraits are fewer than one step takes, train_batch_size "
                f"{self.train_batch_size} on {world_size} device(s), {times} time(s) accumulated.\n"
                "Lower train_batch_size, or add portraits."
            )
        sampler = PortraitSampler(
            self.portraits, self.seed, rank, world_size, self.samples_per_step, lambda: self.samples_seen
        )
        self._loader = _Loader(
            self.portraits,
            batch_size=self.train_batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            multiprocessing_context="fork" if self.num_workers else None,  # they inherit what signals are blocked
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            drop_last=True,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_obey_the_training,
        )
        return self._loader

    def on_before_batch_transfer(self, batch: PortraitBatch, dataloader_idx: int) -> PortraitBatch:
        """Tells of the bad portraits that the batch met; here, and not in the workers, they can be counted."""
        if self._step_before is None:
            self._step_before = self.trainer.global_step
        for problem in self.problems.add(batch.bad):
            print(f"{problem} The next good portrait stands in.", flush=True)
        return batch

    @property
    def samples_per_step(self) -> int:
        """Of one optimizer step: over all devices and accumulated batches."""
        batches = self.trainer.world_size * self.trainer.accumulate_grad_batches if self.trainer else 1
        return self.train_batch_size * batches

    @property
    def samples_seen(self) -> int:
        """By the optimizer steps so far: the place in the sampler's stream where the next step begins."""
        if self._step_before is None or self.trainer is None:
            return self._samples_before
        return self._samples_before + (self.trainer.global_step - self._step_before) * self.samples_per_step

    def state_dict(self) -> dict[str, Any]:
        """Where the training is in the stream of portraits, for every rank alike.

        `samples_seen` counts complete optimizer steps: what was accumulated for the next one is lost with its
        gradients, and comes again. `epoch` is the next portrait's; `fingerprint` is made of the ids in their order.
        """
        seen = self.samples_seen
        return {
            "epoch": seen // len(self.portraits),
            "samples_seen": seen,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue there. Raises `PortraitError` where seed or portraits are others, and so the stream."""
        before, remedy = state_dict["seed"], "or start a new run (another --run)."
        if before != self.seed:
            raise PortraitError(
                f"the checkpoint's portraits are shuffled by seed {before}, and now by {self.seed}.\n"
                f"Set the seed (seed_everything) back to {before}, {remedy}"
            )
        if state_dict["fingerprint"] != self.fingerprint:
            raise PortraitError(
                f"{self.source}: these {len(self.portraits)} portraits are not those that the checkpoint has seen, or "
                f"not in that order.\nGive data.source the same files (they may have moved), {remedy}"
            )
        self._samples_before, self._step_before = state_dict["samples_seen"], None
        if self._loader is not None:  # strategies that restore late have let the workers start: they start anew
            iter(self._loader)

    def _read(self) -> datasets.Dataset:
        table = read_portraits(self.source, self.columns, self.require_target)
        return table if self.limit is None else table.select(range(min(self.limit, len(table))))

    def _accumulate(self, samples: int, per_batch: int) -> None:
        """Lets the trainer accumulate as many batches as make up a step of so many samples."""
        given = f"global_batch_size {samples} with train_batch_size {self.train_batch_size}"
        given = f"{given} on {self.trainer.world_size} device(s)"
        batches, rest = divmod(samples, per_batch)
        if rest or batches < 1:
            fitting = " or ".join(str(count * per_batch) for count in sorted({max(1, batches), max(1, batches + 1)}))
            raise PortraitError(
                f"{given}: it is no multiple of {per_batch}.\nMake it {fitting}, or change train_batch_size."
            )
        if self.trainer.accumulate_grad_batches not in (1, batches):
            told = f"the trainer is told to accumulate {self.trainer.accumulate_grad_batches}"
            raise PortraitError(f"{given} accumulates {batches} batch(es), and {told}.\nGive one of the two only.")
        self.trainer.accumulate_grad_batches = batches


class _Loader(DataLoader):
    """Its workers do not hear the signals that SLURM and a terminal send to every process of a training.

    A worker that died of one would end the step that is still to be finished. They are blocked before the workers
    start, who inherit that: a worker that were to ignore them itself could be told before it does.
    """

    def __iter__(self) -> Iterator[PortraitBatch]:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT))
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _obey_the_training(_: int) -> None:
    """Lets SIGTERM end this worker where its own training sends it: so Python ends what is left when it exits."""

    def listen() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
