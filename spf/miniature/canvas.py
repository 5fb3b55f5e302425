"""A batch of canvases painted back to front; each portrait keeps a mask of every part that stays visible."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

HEAD_Y, EYE_Y, MOUTH_Y = -0.12, -0.10, 0.20
"""Where a head has its middle, its eyes and its mouth, in its own coordinates."""

PARTS = ("background", "skin", "hair", "clothes", "eyes", "mouth", "target")


class Canvas:
    """Images (B, 3, R, R) in [0, 1] and part masks (B, 7, R, R) in [0, 1] which sum to 1 everywhere."""

    def __init__(self, count: int, resolution: int, device: torch.device, with_masks: bool = True) -> None:
        self.image = torch.zeros(count, 3, resolution, resolution, device=device)
        self.masks = torch.zeros(count, len(PARTS), resolution, resolution, device=device) if with_masks else None
        self.pixel = 2.0 / resolution

    def coverage(self, distance: Tensor) -> Tensor:
        """Share of each pixel that a shape covers, from its signed distance: the antialiasing."""
        return (0.5 - 0.8 * distance / self.pixel).clamp(0, 1)

    def over(self, rows: Tensor, alpha: Tensor, colour: Tensor, part: str | None) -> None:
        """Paint ``colour`` (b, 3, 1|R, 1|R) with opacity ``alpha`` (b, R, R) over ``rows`` (b,)."""
        opacity = alpha[:, None]  # (b, 1, R, R)
        self.image[rows] = torch.lerp(self.image[rows], colour.expand(-1, 3, *alpha.shape[1:]), opacity)
        if self.masks is not None and part is not None:
            visible = self.masks[rows] * (1 - opacity)
            visible[:, PARTS.index(part)] += alpha
            self.masks[rows] = visible


@dataclass
class Layer:
    """Some rows of a canvas with all that is needed to paint on them.

    ``X, Y`` are page coordinates, ``xb, yb`` those of the body, ``x, y`` those of the tilted head (b, R, R);
    ``numbers[name]`` is (b, 1, 1), ``colours[name]`` (b, 3, 1, 1).
    """

    canvas: Canvas
    rows: Tensor
    frames: dict[str, Tensor]
    numbers: dict[str, Tensor]
    colours: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.numbers[name]

    def only(self, keep: Sequence[bool]) -> "Layer":
        """The same on the rows where ``keep``, given for the whole batch, is true."""
        chosen = torch.tensor([keep[row] for row in self.rows.tolist()], dtype=torch.bool, device=self.rows.device)
        if bool(chosen.all()):
            return self
        pick = [{name: value[chosen] for name, value in group.items()}
                for group in (self.frames, self.numbers, self.colours)]
        return Layer(self.canvas, self.rows[chosen], *pick)

    def fill(self, distance: Tensor, colour: Tensor, part: str | None, opacity: float = 1.0) -> None:
        """Fill a shape given by its signed distance (b, R, R)."""
        if len(self.rows):
            self.canvas.over(self.rows, opacity * self.canvas.coverage(distance), colour, part)
