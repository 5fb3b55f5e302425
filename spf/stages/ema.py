"""The exponential moving average of the weights that learn: steadier than the last ones, at no cost in samples."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn


class Ema(Callback):
    """Averages the weights that learn, in float32, after each optimizer step; frozen parts are neither kept nor saved.

    The decay at step n (from 0) is min(decay, (1 + n) / (10 + n)), so that the first weights are soon forgotten.

    Args:
        decay: such as 0.999; 0 keeps no average.
    """

    def __init__(self, decay: float = 0.0) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of an average lies in [0, 1), not {decay}")
        self.decay, self.updates, self.weights = decay, 0, dict[str, Tensor]()
        self._step = 0

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Raises ValueError for a sharded denoiser."""
        if self.decay and module.device_mesh is not None:
            raise ValueError("the weights of a sharded denoiser are not averaged: give --ema.decay 0")

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin at the weights of the model, or go on with those of the checkpoint."""
        if self.decay:
            begun = {name: self.weights.get(name, weight.detach()) for name, weight in _learning(module).items()}
            self.weights = {name: value.to(module.device, torch.float32, copy=True) for name, value in begun.items()}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """From here steps are counted."""
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Once an optimizer step, whatever the accumulation."""
        self._update(trainer, module)

    @torch.no_grad()
    def _update(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.decay or trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        now = [weight.detach().float() for weight in _learning(module).values()]
        torch._foreach_lerp_(list(self.weights.values()), now, 1 - decay)
        self.updates += 1

    @contextmanager
    def in_place(self, module: LightningModule) -> Iterator[None]:
        """The model with the averaged weights; afterwards it has its own again, bit for bit."""
        own = _learning(module)
        kept = {name: weight.data for name, weight in own.items()}
        try:
            for name, weight in own.items():
                weight.data = self.weights[name].to(weight.dtype)
            yield
        finally:
            for name, weight in own.items():
                weight.data = kept[name]

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Under "ema", by the names of ``state_dict``."""
        self._update(trainer, module)  # who saves may come before this callback
        if self.decay:
            checkpoint["ema"] = {"updates": self.updates, "weights": self.weights}

    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Raises ValueError where the checkpoint holds no average and this run keeps one."""
        if self.decay and "ema" not in checkpoint:
            raise ValueError("the checkpoint holds no averaged weights: resume it without --ema.decay")
        if self.decay:
            self.updates, self.weights = checkpoint["ema"]["updates"], checkpoint["ema"]["weights"]


def _learning(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
