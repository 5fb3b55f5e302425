"""What the reader sees in a portrait that was to keep all of the original but the target; it is never tuned."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from card.networks import dressed
from torch import Tensor
from torch.nn import functional as F

from spf.backbones import Backbone
from spf.miniature.painter import response_region
from spf.miniature.reader import Reader, Reading, repaint_residual

BLUR = 3  # pixels at 128 by which the VAE smears the edge of a target


@dataclass(frozen=True)
class Judgement:
    """Of n portraits, (n,) each: ``accuracy`` 0 or 1, distances from 0 (the original itself) up."""

    accuracy: Tensor  # the reader reads the asked target
    preservation: Tensor  # mean |portrait - original| outside the response region, in [0,1]
    identity: Tensor  # 1 - cosine of the identity embeddings, in [0,2]
    residual: Tensor  # mean |portrait - its repainting|, in [0,1]: image quality, 0 is best

    def numbers(self) -> dict[str, list[float]]:
        """For JSON."""
        return {name: [round(value, 6) for value in column.tolist()] for name, column in asdict(self).items()}


class Judge:
    """Judges portraits against n originals (n,3,R,R) in [0,1] whose i-th was to get the i-th target.

    The response region is read from the originals, so every row is compared on the same pixels.
    """

    def __init__(self, reader: Reader, originals: Tensor, targets: Sequence[str]) -> None:
        self.reader, self.originals, self.targets = reader, originals, tuple(targets)
        self.reading: Reading = reader.read(originals)
        self.outside = 1 - self._response_region()

    def _response_region(self) -> Tensor:
        """Where the target differs from its absence on the people as read, and a blur around: (n,R,R) in [0,1]."""
        people = [replace(p, target=t) for p, t in zip(self.reading.people(), self.targets, strict=True)]
        side = self.originals.shape[-1]
        blur = round(BLUR * side / 128)
        return F.max_pool2d(response_region(people, side), 2 * blur + 1, stride=1, padding=blur)

    def judge(self, portraits: Tensor) -> Judgement:
        """The i-th of (n,3,R,R) in [0,1] against the i-th original."""
        reading = self.reader.read(portraits)
        people = reading.people()
        moved = (portraits - self.originals).abs().mean(1) * self.outside  # (n,R,R)
        return Judgement(
            hits(reading, self.targets),
            moved.sum((1, 2)) / self.outside.sum((1, 2)),
            1 - (reading.identity * self.reading.identity).sum(-1),
            repaint_residual(portraits, people))

    def painted(self, backbone: Backbone) -> Tensor:
        """The counterfactual, 1 on the scale: the target painted on the originals as read, through the VAE."""
        painted = torch.empty_like(self.originals)
        for target in sorted(set(self.targets)):
            rows = [row for row, asked in enumerate(self.targets) if asked == target]
            painted[rows] = dressed(self.reader, self.originals[rows], backbone, target).clamp(0, 1)
        return painted


def hits(reading: Reading, targets: Sequence[str]) -> Tensor:
    """1 where the reader reads the asked target, else 0: (n,)."""
    return torch.tensor([float(p.target == t) for p, t in zip(reading.people(), targets, strict=True)])
