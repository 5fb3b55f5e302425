"""Rectified flow: the straight path from image to noise (Eq. 13), in float32 as every process.

Nobody else in the house writes 1 - sigma.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from spf.backbones.process import Process, SolverName


class RectifiedFlow(Process):
    """The straight path from image to noise: a network that outputs the velocity along it, Eq. 13; Eq. 9 goes back.

    A time is T sigma, a float in [0, T); sigma, the share of noise, is the t of Eq. 13.

    Raises ValueError when the configuration's shift depends on the size of the image.
    """

    def __init__(self, scheduler_config: Mapping[str, Any]) -> None:
        super().__init__()
        if scheduler_config.get("use_dynamic_shifting"):
            raise ValueError("use_dynamic_shifting is unknown; a rectified flow has one shift for every size")
        self._steps, self.shift = scheduler_config["num_train_timesteps"], scheduler_config["shift"]

    @property
    def steps(self) -> int:
        return self._steps

    def times(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Logit-normal (mean 0, std 1) and shifted towards noise, as Stable Diffusion 3 was trained; float32."""
        # ---- Esser et al. 2024, Sec. 3.1: logit(sigma) ~ N(0, 1); Sec. 5.3.2: the shift of larger images ----
        sigma = torch.randn(batch, generator=generator, dtype=torch.float32).sigmoid()
        return self.steps * self.shift * sigma / (1 + (self.shift - 1) * sigma)

    def _sigma(self, t: Tensor) -> Tensor:
        return (t.float() / self.steps).view(-1, 1, 1, 1)  # (B,1,1,1)

    def noised(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        sigma = self._sigma(t)
        # ---- Eq. 13: x_t = (1 - t) x_0 + t x_1 ----
        return (1 - sigma) * x0.float() + sigma * noise.float()

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        # ---- Eq. 13: v_t = d x_t / dt = x_1 - x_0 ----
        return noise.float() - x0.float()

    def one_step(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        # ---- Eq. 9 along the straight path: x_{t->0} = x_t - t v_theta ----
        return x_t.float() - self._sigma(t) * output.float()

    def solver(self, scheduler: Any, name: SolverName) -> Any:
        """Both names are Euler's steps along the path: what DDIM is where paths are straight, and the base's own."""
        return EulerFlow.from_config(scheduler.config)


class EulerFlow(FlowMatchEulerDiscreteScheduler):
    """Euler's steps, with the two names that all other schedulers of diffusers have."""

    init_noise_sigma = 1.0

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """The network reads x_t as it is."""
        return sample
