"""Signed distances to simple shapes: negative inside, positive outside, in units of half an image.

Coordinates run from -1 to 1, x to the right, y downwards. Every argument broadcasts against ``x`` and ``y`` (B, R, R).
"""

import torch
from torch import Tensor

Number = float | Tensor


def ellipse(x: Tensor, y: Tensor, cx: Number, cy: Number, rx: Number, ry: Number) -> Tensor:
    """Distance to an axis-aligned ellipse (first order, exact on its border)."""
    u, v = (x - cx) / rx, (y - cy) / ry
    norm = torch.sqrt(u * u + v * v + 1e-9)
    steepness = torch.sqrt((u / rx) ** 2 + (v / ry) ** 2 + 1e-9)
    return norm * (norm - 1) / steepness


def box(x: Tensor, y: Tensor, cx: Number, cy: Number, hx: Number, hy: Number, corner: float) -> Tensor:
    """Distance to a box of half sizes (hx, hy) whose corners are rounded by ``corner``."""
    qx, qy = (x - cx).abs() - (hx - corner), (y - cy).abs() - (hy - corner)
    outside = torch.sqrt(qx.clamp(min=0) ** 2 + qy.clamp(min=0) ** 2 + 1e-12)
    return outside + torch.maximum(qx, qy).clamp(max=0) - corner


def stroke(x: Tensor, y: Tensor, x0: Number, y0: Number, x1: Number, y1: Number, radius: Number) -> Tensor:
    """Distance to a round-ended line from (x0, y0) to (x1, y1), ``2 * radius`` thick."""
    dx, dy = x1 - x0, y1 - y0
    along = (((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy + 1e-9)).clamp(0, 1)
    return torch.sqrt((x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2 + 1e-12) - radius


def arc(x: Tensor, y: Tensor, cx: Number, cy: Number, width: Number, sag: Number, radius: Number) -> Tensor:
    """Distance to a parabolic arc ``2 * width`` wide that hangs ``sag`` below its ends, ``2 * radius`` thick."""
    u = ((x - cx) / width).clamp(-1, 1)
    slope = 2 * sag * u / width
    bow = (y - cy - sag * (1 - u * u)).abs() / torch.sqrt(1 + slope * slope)
    beyond = ((x - cx).abs() - width).clamp(min=0)
    return torch.sqrt(bow * bow + beyond * beyond + 1e-12) - radius


def ring(distance: Tensor, radius: float) -> Tensor:
    """The outline of a shape, ``2 * radius`` thick."""
    return distance.abs() - radius


def union(*distances: Tensor) -> Tensor:
    """Distance to several shapes taken together."""
    nearest = distances[0]
    for distance in distances[1:]:
        nearest = torch.minimum(nearest, distance)
    return nearest
