"""Lightning's own counters after a resume: they follow the portraits, of which only whole optimizer steps count."""

import math
import warnings
from typing import Any

from lightning import Trainer
from lightning.pytorch.trainer.states import TrainerFn

from spf.portraits.datamodule import PortraitData

TRACKED = ("ready", "started", "processed", "completed")

def rewind(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """Makes the fit loop's progress in `checkpoint` agree with the samples seen, before Lightning restores it.

    A checkpoint may stand between the batches of a step, between hooks, or come from another number of devices. The
    loop then is set to the last complete step, as if the run had been on these devices from the start. Other data
    modules and other runs than `fit` are left alone.
    """
    data = trainer.datamodule
    if not isinstance(data, PortraitData) or trainer.state.fn != TrainerFn.FITTING:
        return
    state = checkpoint.get(type(data).__qualname__)
    if state is None:
        return
    epochs, steps = divmod(state["samples_seen"] // data.samples_per_step, _steps_per_epoch(data, trainer))
    accumulated, loop = trainer.accumulate_grad_batches, checkpoint["loops"]["fit_loop"]
    begun = epochs + (steps > 0)  # between two epochs neither is begun nor unfinished
    for tracker in ("current", "total"):
        loop["epoch_progress"][tracker] = {"ready": begun, "started": begun, "processed": epochs, "completed": epochs}
    loop["epoch_loop.batch_progress"] = {
        "current": dict.fromkeys(TRACKED, steps * accumulated),
        "total": dict.fromkeys(TRACKED, checkpoint["global_step"] * accumulated),
        "is_last_batch": False,
    }
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
    # Lightning looks for the state in the loader; it is in the data module
    warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")


def _steps_per_epoch(data: PortraitData, trainer: Trainer) -> int:
    """Optimizer steps of one of Lightning's epochs; the loader that would tell must not be made before its start."""
    batches = len(data.portraits) // data.samples_per_step * trainer.accumulate_grad_batches
    limit = trainer.limit_train_batches
    batches = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
    return max(1, math.ceil(batches / trainer.accumulate_grad_batches))
