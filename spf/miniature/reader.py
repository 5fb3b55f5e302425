"""The reader judge: what is true of a portrait, painted, decoded or generated.

One small CNN reads the whole person from an image, so that the person can be painted again: with and without the
target, which gives the true response region of a generated portrait; and beside the image, whose distance to it is
the repaint residual. It shares no weights, seed or architecture with any network that is trained or sampled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from spf.miniature.canvas import PARTS
from spf.miniature.painter import paint
from spf.miniature.people import ATTRIBUTES, IDENTITY, NUISANCE, TARGETS, Person

BOUNDS: Mapping[str, tuple[float, float]] = {
    **IDENTITY, **{name: (min(s[name][0] for s in NUISANCE.values()), max(s[name][1] for s in NUISANCE.values()))
                   for name in NUISANCE["home"]}}
"""Every continuous factor and its range over both studios."""

CHOICES: Mapping[str, tuple[str | None, ...]] = {**ATTRIBUTES, "target": (None, *TARGETS), "studio": ("home", "away")}
"""Every named factor and its values."""


@dataclass(frozen=True)
class Reading:
    """B portraits as the reader sees them."""

    choices: dict[str, Tensor]  # logits (B, values) of each of CHOICES
    factors: Tensor  # (B,15) each of BOUNDS, from 0 to 1 within its range
    parts: Tensor  # (B,7,R,R) logits of PARTS

    @property
    def identity(self) -> Tensor:
        """The identity embedding: (B,9) unit vectors; cosines near 1 mean the same person."""
        return F.normalize(self.factors[:, :len(IDENTITY)] - 0.5, dim=-1)

    def people(self) -> list[Person]:
        """B people, as the painter takes them."""
        chosen = {name: logits.argmax(1).tolist() for name, logits in self.choices.items()}
        low, high = torch.tensor(list(BOUNDS.values()), device=self.factors.device).T
        numbers = (low + (high - low) * self.factors.clamp(0, 1)).tolist()
        return [self._person({name: CHOICES[name][rows[k]] for name, rows in chosen.items()}, row)
                for k, row in enumerate(numbers)]

    @staticmethod
    def _person(named: dict[str, str | None], numbers: Sequence[float]) -> Person:
        value = dict(zip(BOUNDS, numbers, strict=True))
        attributes = {name: str(named[name]) for name in ATTRIBUTES}
        return Person(attributes, {name: value[name] for name in IDENTITY},
                      {name: value[name] for name in NUISANCE["home"]}, named["target"], str(named["studio"]))


class Reader(nn.Module):
    """Image -> person. Strided convolutions with batch norm, a part segmenter, and heads that read the features of an
    8 x 8 grid and the moments of the segmented parts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _step(3, 24, 5, 2)  # 64 x 64
        self.down = nn.ModuleList([
            nn.Sequential(_step(24, 48, 3, 2), _Residual(48)),  # 32
            nn.Sequential(_step(48, 96, 3, 2), _Residual(96), _Residual(96)),  # 16
            nn.Sequential(_step(96, 128, 3, 2), _Residual(128), _Residual(128))])  # 8
        self.body = nn.Sequential(_step(128, 32, 1, 1), nn.Flatten(), nn.Linear(32 * 64, 256), nn.ReLU())
        self.scale = nn.BatchNorm1d(6 * len(PARTS))
        width = 256 + 6 * len(PARTS)
        self.naming = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in CHOICES.items()})
        self.measuring = nn.Sequential(nn.Linear(width, 192), nn.ReLU(), nn.Linear(192, len(BOUNDS)))
        self.up = nn.ModuleList([_step(128 + 96, 96, 3, 1), _step(96 + 48, 96, 3, 1)])
        self.segment = nn.Sequential(_step(24 + 24, 32, 3, 1), nn.Conv2d(32, 4 * len(PARTS), 3, padding=1),
                                     nn.PixelShuffle(2))

    def forward(self, image: Tensor) -> Reading:
        """Portraits (B,3,H,W) in [0,1], read at 128 x 128."""
        if image.shape[-2:] != (128, 128):
            image = F.interpolate(image, (128, 128), mode="bilinear", antialias=True)
        half = self.stem(image * 2 - 1)
        levels = [half]
        for down in self.down:
            levels.append(down(levels[-1]))
        body = self.body(levels[-1])
        up = levels[-1]
        for layer, skip in zip(self.up, levels[-2:0:-1], strict=True):
            up = layer(torch.cat([F.interpolate(up, scale_factor=2.0), skip], 1))
        parts = self.segment(torch.cat([F.pixel_shuffle(up, 2), half], 1)).float()
        measures = torch.cat([body, self.scale(moments(parts.detach().softmax(1)))], 1)
        choices = {name: head(measures).float() for name, head in self.naming.items()}
        return Reading(choices, self.measuring(measures).float() + 0.5, parts)

    @classmethod
    def load(cls, folder: str | Path) -> "Reader":
        """The shipped judge, from ``folder/reader``; frozen. Raises FileNotFoundError where it is absent."""
        file = Path(folder) / "reader" / "model.safetensors"
        if not file.is_file():
            raise FileNotFoundError(f"there is no reader judge {file}; `spf miniature` trains one")
        reader = cls()
        reader.load_state_dict({name: value.float() if value.is_floating_point() else value
                                for name, value in load_file(file).items()})
        return reader.eval().requires_grad_(False)

    @torch.no_grad()
    def read(self, image: Tensor, chunk: int = 64) -> Reading:
        """The same without gradients, ``chunk`` portraits at a time."""
        parts = [self(some) for some in image.split(chunk)]
        return Reading({name: torch.cat([p.choices[name] for p in parts]) for name in CHOICES},
                       torch.cat([p.factors for p in parts]), torch.cat([p.parts for p in parts]))


def _step(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs),
                         nn.ReLU())


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(_step(width, width, 3, 1), nn.Conv2d(width, width, 3, padding=1, bias=False),
                                   nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.inner(x))


def moments(parts: Tensor) -> Tensor:
    """Mass, centre and spread of each part: (B,K,R,R) in [0,1] -> (B,6K). They measure a face to a part of a pixel."""
    grid = torch.linspace(-1, 1, parts.shape[-1], device=parts.device)
    y, x = (axis.flatten() for axis in torch.meshgrid(grid, grid, indexing="ij"))
    shares = parts.flatten(2)  # (B,K,N)
    mass = shares.mean(-1, keepdim=True)
    shares = shares / (shares.sum(-1, keepdim=True) + 1.0)
    with torch.autocast(parts.device.type, enabled=False):  # half precision would lose the part of a pixel
        first = torch.stack([shares @ x, shares @ y], -1)  # (B,K,2)
        second = torch.stack([shares @ (x * x), shares @ (y * y), shares @ (x * y)], -1)
    cx, cy = first.unbind(-1)
    spread = second - torch.stack([cx * cx, cy * cy, cx * cy], -1)
    return torch.cat([mass, first, spread], -1).flatten(1)


def repaint_residual(image: Tensor, people: Sequence[Person]) -> Tensor:
    """Mean |image - paint(people)| of each, (B,) in [0,1]; 0 is best.

    With the people as read from the image, this is how far it lies from a paintable portrait, at most.
    """
    return (image - paint(people, image.shape[-1], image.device)).abs().mean((1, 2, 3))


def factors(people: Sequence[Person]) -> Tensor:
    """The continuous truth of people, each factor from 0 to 1 within its range: (B,15)."""
    rows = torch.tensor([[person.factors[name] for name in BOUNDS] for person in people])
    low, high = torch.tensor(list(BOUNDS.values())).T
    return (rows - low) / (high - low)


def factor_errors(before: Sequence[Person], after: Sequence[Person]) -> dict[str, Tensor]:
    """What was not preserved, by name: (B,) each, the difference over the factor's range, or 0 | 1 for names."""
    moved = (factors(before) - factors(after)).abs().T
    changed = {name: torch.tensor([float(a.attributes[name] != b.attributes[name])
                                   for a, b in zip(before, after, strict=True)]) for name in ATTRIBUTES}
    return dict(zip(BOUNDS, moved, strict=True)) | changed
