"""Checkpoints: written whole or not at all, and read back as a customised model."""

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from spf.backbones import Backbone, load_backbone

PREFIX = "backbone.denoiser."


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name and renames it: a file that is there is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """As Lightning's, but ``path`` keeps its old content until the new one is on the disk."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.partial")
        super().save_checkpoint(checkpoint, partial, storage_options)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)


class Checkpoints(ModelCheckpoint):
    """Lightning's, whose ``last.ckpt`` is the last step of the run also when that is no multiple of the interval."""

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save what came after the last interval."""
        if trainer.global_step != self._last_global_step_saved:
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)


def load_customised(checkpoint: str | Path, base: str | None = None) -> tuple[Backbone, Backbone]:
    """(original, customised) models, in float32 on the CPU.

    ``checkpoint`` is a training checkpoint (.ckpt, which names its base model) or whatever ``load_backbone`` reads;
    ``base`` is the original model, needed in the second case.

    Raises FileNotFoundError, or ValueError where the weights do not fit the base model.
    """
    path = Path(checkpoint)
    if path.suffix == ".ckpt" and not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    if path.suffix != ".ckpt":
        if base is None:
            raise ValueError(f"{checkpoint} is no training checkpoint (.ckpt): say with --base what it was tuned from")
        return load_backbone(base), load_backbone(checkpoint)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint of spf; use an earlier one beside it") from error
    if "hyper_parameters" not in state:
        return load_backbone(base or "sd15"), load_backbone(path)  # an original single-file SD 1.5 .ckpt
    original = load_backbone(base or state["hyper_parameters"]["base"])
    customised = original.frozen_copy()
    weights = {name.removeprefix(PREFIX): value for name, value in state["state_dict"].items()}
    try:
        customised.denoiser.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit its base model: {error}") from error
    return original, customised
