"""From prompts and seeds to images; the one place where x_T becomes x_0.

The paper compares in pairs: the same seed, the original model on the base text beside the customised model on the full
text. A pair is two calls with the same seeds:

    original = generate(reference, [prompt.base for prompt in prompts], seeds)
    customised = generate(response, prompts, seeds)

An image depends on its prompt and its seed alone: its noise comes from its own generator, and every batch has exactly
``chunk`` rows, so neither the number nor the order of the images asked for chooses other kernels.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from spf.backbones.base import Backbone
from spf.backbones.process import SolverName
from spf.notation import AttentionRecord, Conditions, Guidance
from spf.text import Prompt

CHUNK = 4
"""Images made at a time: a larger chunk chooses other kernels, and so changes the last bits of an image."""


def initial_noise(seeds: Sequence[int], shape: tuple[int, int, int]) -> Tensor:
    """x_T (B,C,h,w): unit Gaussian noise on the CPU, each row from its own seed; ``shape`` is (C, h, w)."""
    return _draw(_generators(seeds), shape)


def _generators(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _draw(generators: Sequence[torch.Generator], shape: tuple[int, int, int]) -> Tensor:
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])  # (B,C,h,w)


@torch.inference_mode(False)  # a guidance may take gradients: not of what inference mode, a trainer's, has made
@torch.no_grad()
def generate(
    backbone: Backbone,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    *,
    steps: int = 20,
    guidance_scale: float = 7.5,
    scheduler: SolverName = "ddim",
    guidance: Guidance | None = None,
    height: int | None = None,
    width: int | None = None,
    chunk: int = CHUNK,
    progress: bool = True,
) -> Tensor:
    """One image per prompt and seed: (B,3,H,W) float32 in [0,1] on the CPU.

    ``guidance_scale`` is that of classifier-free guidance against the empty prompt; at 1 or below there is none.
    ``scheduler`` is DDIM on the base's noise schedule, or the base's own (a flow has only its own). ``height`` and
    ``width`` are pixels, by default the model's own. ``chunk`` images are made at a time (classifier-free guidance
    doubles the rows).

    Raises ValueError without prompts, or when there are not as many seeds.
    """
    if not prompts or len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts and {len(seeds)} seeds: each image needs one of both")
    shape = backbone.latent_shape(height, width)
    solver = backbone.process.solver(backbone.scheduler, scheduler)
    images = []
    was_training = backbone.training
    backbone.eval()
    with tqdm(total=len(prompts), unit="image", disable=not progress) as bar:
        for start in range(0, len(prompts), chunk):
            some = [min(index, len(prompts) - 1) for index in range(start, start + chunk)]  # the last row pads
            solver.set_timesteps(steps, device=backbone.device)
            generators = _generators([seeds[index] for index in some])
            texts = [prompts[index] for index in some]
            x0 = _sample(backbone, texts, generators, shape, solver, guidance_scale, guidance or Guidance())
            images.append(backbone.decode(x0).clamp(0, 1)[: len(prompts) - start].cpu())
            bar.update(len(images[-1]))
    backbone.train(was_training)
    return torch.cat(images)


def _sample(
    backbone: Backbone,
    prompts: Sequence[Prompt],
    generators: list[torch.Generator],
    shape: tuple[int, int, int],
    solver: Any,
    guidance_scale: float,
    guidance: Guidance,
) -> Tensor:
    """x_0 (B,C,h,w) of one chunk."""
    conditions = guidance.edit(prompts, backbone.condition(prompts), backbone)
    denoise = _Denoise(backbone, conditions, solver, guidance_scale)
    takes_noise = "generator" in inspect.signature(solver.step).parameters
    noise_source = {"generator": generators} if takes_noise else {}
    x_t = _draw(generators, shape).to(backbone.device) * solver.init_noise_sigma
    for step, t in enumerate(solver.timesteps):
        denoise.step = step
        output = guidance.adjust(x_t, t.expand(len(x_t)), denoise)
        x_t = solver.step(output, t, x_t, **noise_source).prev_sample
    return x_t


@dataclass
class _Denoise:
    """``spf.notation.Denoise`` of one chunk; the solver scales what the model reads."""

    backbone: Backbone
    conditions: Conditions
    solver: Any
    guidance_scale: float
    step: int = 0

    def __post_init__(self) -> None:
        empty = [Prompt("")] * len(self.conditions.sequence)
        self._both = self.backbone.condition(empty).followed_by(self.conditions) if self.guidance_scale > 1 else None

    @property
    def steps(self) -> int:
        return len(self.solver.timesteps)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        x_t = self.solver.scale_model_input(x_t, t[0])
        if self._both is None:
            return self.backbone.denoise(x_t, t, self.conditions).output.float()
        output = self.backbone.denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), self._both).output.float()
        without, with_text = output.chunk(2)
        return without + self.guidance_scale * (with_text - without)

    def attention(self, x_t: Tensor, t: Tensor) -> tuple[AttentionRecord, ...]:
        x_t = self.solver.scale_model_input(x_t, t[0])
        return self.backbone.denoise(x_t, t, self.conditions, capture=True).attention
