"""Everything random in a training step, as a pure function of (seed, epoch, sample id).

A resumed run, another number of devices and the other path then meet the same noise by construction.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spf.backbones.process import Process


@dataclass(frozen=True)
class Draws:
    """What chance contributes to one batch, on the CPU."""

    t: Tensor  # (B,)
    noise: Tensor  # (B,C,h,w) the epsilon of Eq. 1
    posterior: Tensor  # (B,C,h,w) the noise with which the VAE's posterior is sampled
    keep_text: list[bool]  # B; False where caption dropout empties the text


def draw(process: Process, shape: tuple[int, int, int], ids: Sequence[str], seed: int,
         epochs: Sequence[int], caption_dropout: float = 0.0) -> Draws:
    """The draws for samples ``ids``, each in its epoch, with latents of ``shape`` (C,h,w)."""
    rows = [_draw_one(process, shape, _generator(seed, epoch, name)) for name, epoch in zip(ids, epochs, strict=True)]
    t, noise, posterior, chance = zip(*rows, strict=True)
    return Draws(torch.cat(t), torch.stack(noise), torch.stack(posterior), [c >= caption_dropout for c in chance])


def chosen(count: int, ids: Sequence[str], seed: int, epochs: Sequence[int]) -> list[int]:
    """Which of ``count`` things each sample is given in its epoch, from 0."""
    generators = [_generator(seed, epoch, f"{name}/choice") for name, epoch in zip(ids, epochs, strict=True)]
    return [int(torch.randint(count, (), generator=generator)) for generator in generators]


def _draw_one(process: Process, shape: tuple[int, int, int],
              generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, float]:
    t = process.times(1, generator)
    noise, posterior = torch.randn(2, *shape, generator=generator, dtype=torch.float32)
    return t, noise, posterior, float(torch.rand((), generator=generator, dtype=torch.float32))


def _generator(seed: int, epoch: int, sample_id: str) -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}/{epoch}/{sample_id}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
