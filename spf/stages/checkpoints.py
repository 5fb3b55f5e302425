"""When checkpoints are written, what a failed write costs, and which one a run resumes from."""

import errno
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from spf.stages.atomic import CheckpointError, give_second_name

DAMAGED = (RuntimeError, UnpicklingError, EOFError, KeyError, TypeError)  # what a file that is not whole leads to


class Checkpoints(ModelCheckpoint):
    """Lightning's, made safe: a write that fails costs one line while there are more to come, never a checkpoint.

    The old file is removed when the new one is on the disk. ``last.ckpt`` is the last step of the run also when that is
    no multiple of the interval; with ``save_last="link"`` it is a second name of the newest file, not a second write.
    """

    _failed_at = -1  # the step whose checkpoint could not be written
    _insist = False

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """A run that resumes has its checkpoint of this step."""
        super().on_train_start(trainer, module)
        self._last_global_step_saved = trainer.global_step

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save what came after the last interval."""
        if trainer.global_step != self._last_global_step_saved:
            self.save(trainer)

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Save, unless other ranks go on and would be waited for, or the exception may have come within an update."""
        harmless = isinstance(exception, Exception) and not isinstance(exception, CheckpointError)
        if harmless and trainer.world_size == 1 and self._should_save_on_exception(trainer):
            self._save_all(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save now, on all ranks. Raises CheckpointError on all of them if that fails."""
        self._insist, self._failed_at = True, -1
        try:
            self._save_all(trainer)
        finally:
            self._insist = False

    def _save_all(self, trainer: Trainer) -> None:
        candidates = self._monitor_candidates(trainer)
        self._save_topk_checkpoint(trainer, candidates)
        self._save_last_checkpoint(trainer, candidates)

    def _save_topk_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        self._attempt(super()._save_topk_checkpoint, trainer, monitor_candidates)

    def _save_last_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        self._attempt(super()._save_last_checkpoint, trainer, monitor_candidates)

    def _attempt(self, save: Callable[..., None], trainer: Trainer, candidates: dict[str, Tensor]) -> None:
        """Where ``save`` fails, forget that it was tried: what Lightning would have rotated away stays."""
        if self._failed_at == trainer.global_step:
            return
        before = vars(self) | {"best_k_models": dict(self.best_k_models)}
        try:
            save(trainer, candidates)
        except CheckpointError as error:
            vars(self).update(before, _failed_at=trainer.global_step)
            good = self._last_checkpoint_saved or trainer.ckpt_path
            text = f"{error}. {f'Still good: {good}' if good else 'There is no earlier one'}"
            if self._insist:
                raise CheckpointError(text) from error
            say(f"{text}. The next interval tries again.")

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        _together(trainer, lambda: super(Checkpoints, self)._save_checkpoint(trainer, filepath))

    @staticmethod
    def _link_checkpoint(trainer: Trainer, filepath: str, linkpath: str) -> None:
        def link() -> None:
            if trainer.is_global_zero:
                give_second_name(Path(filepath), Path(linkpath))
            trainer.strategy.barrier()

        _together(trainer, link)


@rank_zero_only
def say(line: str) -> None:
    """Print a line once, however many processes there are."""
    print(line, flush=True)


def _together(trainer: Trainer, write: Callable[[], None]) -> None:
    """Let rank zero write while the others wait at the barrier that ends ``write``; fail on all ranks or on none."""
    failure = ""
    try:
        write()
    except CheckpointError as error:
        failure = str(error)
        trainer.strategy.barrier()
    failure = trainer.strategy.broadcast(failure)
    if failure:
        raise CheckpointError(failure)


@rank_zero_only
def remove(file: Path) -> None:
    """Once, however many processes there are."""
    file.unlink(missing_ok=True)


def newest_whole(folder: Path) -> Path | None:
    """The checkpoint in ``folder`` with most steps, or None where there is none.

    What is passed over is named in a line each: the leftovers of a write that was killed, which are removed, and files
    that do not read. Raises ValueError where none of several reads: to start anew would overwrite them.
    """
    for leftover in sorted(folder.glob(".*.partial")):
        say(f"passing over {leftover}: its writing was interrupted")
        remove(leftover)
    steps = {file: _steps(file) for file in sorted(folder.glob("*.ckpt"))}
    for file in (file for file, count in steps.items() if count is None):
        say(f"passing over {file}: it is incomplete or damaged")
    whole = {file: count for file, count in steps.items() if count is not None}
    if steps and not whole:
        raise ValueError(f"no checkpoint in {folder} can be read; put a good one there, or give another --run")
    return max(whole, key=lambda file: (whole[file], file.name == "last.ckpt"), default=None)


def steps_made(folder: Path) -> int:
    """Optimizer steps of the newest whole checkpoint in ``folder``, 0 without one; changes and says nothing."""
    return max((_steps(file) or 0 for file in folder.glob("*.ckpt")), default=0)


def _steps(file: Path) -> int | None:
    """Optimizer steps in a checkpoint; None if it is not whole. Maps the weights and reads none of them."""
    try:
        return int(torch.load(file, map_location="cpu", mmap=True, weights_only=True)["global_step"])
    except DAMAGED:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:  # torch's word for a file that is too short
            raise
        return None
