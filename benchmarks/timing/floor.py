"""The floor: the arithmetic that stage 1 does, and that stage 2 cannot do without, counted in FLOPs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import mse_loss
from torch.utils.flop_counter import FlopCounterMode

from spf.portraits.datamodule import PortraitBatch
from timing.training import Training

Result = TypeVar("Result")


@dataclass
class Floor:
    """FLOPs (a multiply and an add are two) of one step on one batch."""

    stage1: float = 0.0  # forward and backward, all weights learning
    parts: dict[str, float] = field(default_factory=dict)  # of stage 2, what is necessary
    executed: float = 0.0  # by stage 2's own step and backward: the parts, the features F, Q and the SFCM

    @property
    def ratio(self) -> float:
        """What stage 2 must do, over what stage 1 does."""
        return sum(self.parts.values()) / self.stage1


def whole(training: Training) -> float:
    """FLOPs of a training step as it is, forward and backward."""
    return count(lambda: training.backward(training.forward()["loss"]))[0]


def necessary(training: Training) -> dict[str, float]:
    """FLOPs of the parts that stage 2 is made of; attention features and control map are not among them.

    Backward runs through the activations down to the first learning weight, and to the learning weights alone.
    """
    module, batch = training.module, training.batch
    process = module.backbone.process
    with torch.autocast(module.device.type, training.half, enabled=training.half is not None):
        latents, (prompts, times, t, noise, x0) = count(lambda: module.drawn(batch))
        x_t, target = process.noised(x0, noise, t), process.target(x0, noise, t)
        reference, _ = count(lambda: module.refer(x_t, t, prompts))
        response, output = count(lambda: module.backbone.denoise(x_t, t, module.backbone.condition(prompts)).output)
        loss, decoded = mse_loss(output.float(), target), 0.0
        if module.objective.needs("image"):
            rows = module.images.chosen(times, prompts)
            decoded, seen = count(lambda: _seen(module, batch, process.one_step(output, x_t, t)[rows]))
            loss = loss + seen.sum()
    backward, _ = count(lambda: training.backward(loss))
    return {"latents": latents, "reference": reference, "response": response, "decode + CLIP": decoded,
            "backward": backward}


def _seen(module: Any, batch: PortraitBatch, estimate: Tensor) -> Tensor:
    module._portrait(batch, list(range(len(batch))))  # nothing where it is kept
    return module.images.embedded(module.images.decoded(estimate))


def count(call: Callable[[], Result]) -> tuple[float, Result]:
    """FLOPs of ``call``, and what it returns. Attention is taken apart: the counter knows no fused one of a CPU."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        result = call()
    return float(counter.get_total_flops()), result
