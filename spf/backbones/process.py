"""The process apart from the network: noise, what the network should output, and its one-step estimate of x_0.

Paper: Eq. 1 (diffusion) and Eq. 9 (one-step prediction); Eq. 13 is ``spf.backbones.flow``. Nobody else in the house
writes alpha-bar. Everything is computed and returned in float32, whatever the precision of the network's output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn

SolverName = Literal["ddim", "base"]


class Process(nn.Module, ABC):
    """How a clean latent becomes x_t and back: the four verbs a training step needs, and who samples.

    A time t is what the network reads: an integer or a float, as the process draws it; each verb takes both.
    """

    @property
    @abstractmethod
    def steps(self) -> int:
        """T: times lie in [0, T)."""

    @abstractmethod
    def times(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """t (B,), on the CPU, drawn from a CPU generator (so that t does not depend on the device)."""

    @abstractmethod
    def noised(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t (B,C,h,w) from x_0 (B,C,h,w), Gaussian noise of its shape and t (B,)."""

    @abstractmethod
    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should output for x_t: epsilon or v (B,C,h,w)."""

    @abstractmethod
    def one_step(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The estimate of x_0 (B,C,h,w) from the network's output at x_t; gradients flow."""

    @abstractmethod
    def solver(self, scheduler: Any, name: SolverName) -> Any:
        """A fresh diffusers scheduler that steps from x_T to x_0 on the schedule of ``scheduler``, the base's own.

        "ddim" is the deterministic one of first order, "base" the base's own.
        """


class Diffusion(Process):
    """Denoising diffusion over the T integer timesteps of a diffusers scheduler configuration.

    Raises ValueError when the configuration's prediction_type is neither "epsilon" nor "v_prediction".
    """

    alphas_cumprod: Tensor  # (T,) float32

    def __init__(self, scheduler_config: Mapping[str, Any]) -> None:
        super().__init__()
        self.prediction_type = scheduler_config.get("prediction_type", "epsilon")
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise ValueError(f"prediction_type {self.prediction_type!r} is unknown; epsilon and v_prediction are known")
        schedule = DDPMScheduler.from_config(dict(scheduler_config)).alphas_cumprod
        self.register_buffer("alphas_cumprod", schedule.float(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Diffusion:
        """Follow the network to its device, but not to its precision: bfloat16 would round the schedule."""
        exact = self.alphas_cumprod
        super()._apply(fn, recurse)
        self.alphas_cumprod = exact.to(self.alphas_cumprod.device)
        return self

    @property
    def steps(self) -> int:
        return len(self.alphas_cumprod)

    def times(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Algorithm 1: t ~ U(0, T), as integers in [0, T), int64."""
        return torch.randint(self.steps, (batch,), generator=generator)

    def _signal_and_noise(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = self.alphas_cumprod[t].view(-1, 1, 1, 1)  # (B,1,1,1)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def noised(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        signal, sigma = self._signal_and_noise(t)
        # ---- Eq. 1: x_t = sqrt(alpha-bar_t) x_0 + sqrt(1 - alpha-bar_t) epsilon ----
        return signal * x0.float() + sigma * noise.float()

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        if self.prediction_type == "epsilon":
            return noise.float()
        signal, sigma = self._signal_and_noise(t)
        return signal * noise.float() - sigma * x0.float()

    def one_step(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        signal, sigma = self._signal_and_noise(t)
        if self.prediction_type == "epsilon":
            # ---- Eq. 9: x_{t->0} = (x_t - sqrt(1 - alpha-bar_t) epsilon_theta) / sqrt(alpha-bar_t) ----
            # (both denominators alpha-bar, as in Algorithm 1; the print of Eq. 9 drops one bar)
            return (x_t.float() - sigma * output.float()) / signal
        return signal * x_t.float() - sigma * output.float()

    def solver(self, scheduler: Any, name: SolverName) -> Any:
        if name == "base":
            return type(scheduler).from_config(scheduler.config)
        # DDIM's default clips x_0 to [-1,1], which is right for pixels only
        return DDIMScheduler.from_config(scheduler.config, clip_sample=False)
