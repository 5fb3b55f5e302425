"""What is true where: the regions of phrases and target, of painted portraits and of pools of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from spf.miniature.painter import changed, paint, paint_with_parts
from spf.miniature.people import PHRASE_PARTS, Person

REGIONS = (*PHRASE_PARTS, "target")
GRID = 8


@dataclass
class Pictures:
    """N portraits: ``image`` (N,3,R,R) uint8 and ``regions`` (N,6,8,8) float16, the share of each patch in a region."""

    image: Tensor
    regions: Tensor

    def __len__(self) -> int:
        return len(self.image)


def phrase_regions(parts: dict[str, Tensor]) -> Tensor:
    """Where each base phrase is true: masks by part (B,R,R) -> (B,5,R,R) in [0,1]."""
    return torch.stack([sum((parts[part] for part in own[1:]), parts[own[0]]) for own in PHRASE_PARTS.values()], 1)


@torch.no_grad()
def pictures(people: Sequence[Person], vae: AutoencoderKL | None = None, chunk: int = 32) -> Pictures:
    """Paint; with ``vae``, show the portraits as it decodes them."""
    rows = [_painted(people[i:i + chunk], vae) for i in range(0, len(people), chunk)]
    return Pictures(*(torch.cat(column) for column in zip(*rows, strict=True)))


def _painted(people: Sequence[Person], vae: AutoencoderKL | None) -> tuple[Tensor, Tensor]:
    image, parts = paint_with_parts(people)
    target = changed(image, paint([person.without_target() for person in people]))
    regions = torch.cat([phrase_regions(parts), target[:, None]], 1)
    image = image if vae is None else through(vae, image)
    return (image * 255).round().byte(), F.adaptive_avg_pool2d(regions, GRID).half()


@torch.no_grad()
def through(vae: AutoencoderKL, image: Tensor) -> Tensor:
    """Portraits as the VAE gives them back: (B,3,R,R) in [0,1], both."""
    with torch.autocast("cpu", torch.bfloat16):
        decoded = vae.decode(vae.encode(image * 2 - 1).latent_dist.mode()).sample.float()
    return (decoded / 2 + 0.5).clamp(0, 1)
