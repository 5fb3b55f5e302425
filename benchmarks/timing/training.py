"""A training step as Lightning makes it, without its loop, so that two trainings can take turns."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from types import SimpleNamespace

import torch
from lightning import LightningModule
from torch import Tensor, nn

from spf.portraits.datamodule import PortraitBatch
from timing.explicit import explicit_maps

HALVES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Training:
    """``training_step``, backward and the optimizer's step on one batch, over and over.

    Args:
        module: with its own AdamW; nothing is logged.
        batch: always the same portraits, so what a recipe keeps in memory (latents, embeddings) is kept after the
            first step: what is timed is every epoch but the first.
        precision: of Lightning: "32-true", "bf16-mixed" or "16-mixed".
        clip: the greatest norm of the gradient, or None.
        explicit: compute the attention features by explicit maps.
    """

    def __init__(self, module: LightningModule, batch: PortraitBatch, precision: str, clip: float | None,
                 explicit: bool = False) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.module, self.batch = module.to(device), batch.to(device)
        self.clip, self.explicit, self.half = clip, explicit, HALVES.get(precision)
        module.log = lambda *_, **__: None
        # all that configure_optimizers asks of a trainer
        module.trainer = SimpleNamespace(gradient_clip_val=clip, estimated_stepping_batches=1000)
        module.on_fit_start()
        self.optimizer = module.configure_optimizers()["optimizer"]
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "16-mixed")

    def forward(self) -> dict[str, Tensor]:
        """``training_step`` under autocast: what it returns, the loss by that name."""
        with torch.autocast(self.module.device.type, self.half, enabled=self.half is not None):
            with explicit_maps() if self.explicit else nullcontext():
                result = self.module.training_step(self.batch, 0)
        return result if isinstance(result, dict) else {"loss": result}

    def backward(self, loss: Tensor) -> None:
        """The gradients of this step alone."""
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()

    def update(self) -> None:
        """Clip, then step."""
        if self.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.optimizer.param_groups[0]["params"], self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def step(self) -> None:
        """One training step."""
        self.backward(self.forward()["loss"])
        self.update()

    def seconds(self) -> float:
        """Of one training step."""
        return stopped(self.step)


def check_peer(training: Training) -> None:
    """Raises AssertionError where explicit maps give another loss, to 1e-4, than a training's own way."""
    found = []
    for training.explicit in (True, False):
        with torch.no_grad():
            found.append(training.forward())
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)  # it names the entry


def stopped(call: Callable[[], object]) -> float:
    """Seconds that ``call`` takes, and the GPU with it."""
    synchronise()
    since = time.perf_counter()
    call()
    synchronise()
    return time.perf_counter() - since


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turn(trainings: Mapping[str, Training], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step of each, one after the other, so that a slow moment of the machine meets them all."""
    for training in trainings.values():
        training.step()
    laps = [{name: training.seconds() for name, training in trainings.items()} for _ in range(rounds)]
    return {name: [lap[name] for lap in laps] for name in trainings}
