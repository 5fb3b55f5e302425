"""What STORM (Han et al. 2025) minimises: two nouns in one place, or on wrong sides, or an adjective beside its noun.

Written down from the released code, with its faults by choice. Maps are distributions over the h*w cells of a layer.

The released code transports each noun's map to a disc on its side by Sinkhorn's plan. Its cost says what a cell is left
for, not what it is taken to, so the plan is the product of both distributions and the disc drops out: the cost of that
transport is the mean of the cells' costs, which is what stands here. Where cells cost more than about 2 the released
plan underflows and forgets them; here they count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from spf.method.response import phrase_attention
from spf.notation import AttentionRecord

GRID = 16  # the side of the layers that are read, or the nearest there is
SHARPNESS = 100.0  # of the softmax over tokens
BLUR = 0.5  # cells: sigma of the Gaussian over 3 x 3
ATTRIBUTES_FROM = 7.0  # the position in the schedule from which adjectives count
REGULARISATION, ROUNDS, TINY = 0.1, 100, 1e-8  # of Sinkhorn's plan


@dataclass(frozen=True)
class Arrangement:
    """Two nouns of a prompt, by their tokens; with an axis the first is to stand left of (x) or above (y) the other."""

    nouns: tuple[int, int]
    adjectives: tuple[int | None, int | None] = (None, None)  # of each noun
    axis: Literal["x", "y"] | None = None


def token_maps(attention: Sequence[AttentionRecord]) -> Tensor:
    """What share of each place each token has, from the layers of the grid nearest 16 x 16: (B,T,h,w) float32."""
    grid = min((record.grid for record in attention), key=lambda grid: abs(math.log(math.prod(grid) / GRID**2)))
    batch, tokens = attention[0].text.shape[0], attention[0].text.shape[2]
    each = torch.eye(tokens, device=attention[0].text.device).expand(batch, -1, -1)
    mean = torch.stack([phrase_attention(record, each) for record in attention if record.grid == grid]).mean(0)
    # ---- STORM: softmax over tokens of 100 A; the start mark and the last token take no part ----
    shares = (SHARPNESS * mean[:, 1:-1]).softmax(1)
    return functional.pad(shares, (0, 0, 0, 0, 1, 1))


def distribution(token_map: Tensor, blur: bool) -> Tensor:
    """A token's map (h,w), blurred or not, with the sum 1."""
    if blur:
        kernel = torch.tensor([-1.0, 0.0, 1.0], device=token_map.device).div(BLUR).square().div(-2).exp()
        kernel = kernel.outer(kernel) / kernel.sum() ** 2
        padded = functional.pad(token_map[None, None], (1, 1, 1, 1), mode="reflect")
        token_map = functional.conv2d(padded, kernel[None, None])[0, 0]
    return token_map / token_map.sum()


def centroid(where: Tensor, axis: Literal["x", "y"]) -> Tensor:
    """Of a distribution (h,w), in cells: ()."""
    return (where * _coordinate(where, axis)).sum()


def _coordinate(where: Tensor, axis: Literal["x", "y"]) -> Tensor:
    """Of every cell: (h,w) in cells."""
    rows, columns = (torch.arange(float(side), device=where.device) for side in where.shape)
    return (columns[None] if axis == "x" else rows[:, None]).expand(where.shape)


def arrangement_cost(maps: Tensor, wanted: Arrangement, position: float, strict_repo: bool = False) -> Tensor:
    """STORM's loss of one sample: ().

    Args:
        maps: (T,h,w) of ``token_maps``.
        wanted: the nouns and how they should stand.
        position: in the schedule of 50 steps.
        strict_repo: above and below as released, where their cost varies from left to right.
    """
    first, second = (distribution(maps[token], blur=True) for token in wanted.nouns)
    shared = first * second
    before, after = torch.ones(2, *shared.shape, device=shared.device)
    if wanted.axis:
        before, after = (side(other, wanted.axis, sign, position) for other, sign in ((second, -1), (first, 1)))
        if strict_repo and wanted.axis == "y":
            if shared.shape[0] != shared.shape[1]:
                raise ValueError(f"strict_repo knows square portraits alone, not a grid of {tuple(shared.shape)}")
            before, after = before.mT, after.mT
    # ---- STORM: L = sum_p first(p) C_first(p) + second(p) C_second(p), C_first = second phi_second and conversely ----
    cost = (shared * (before + after)).sum()
    described = [(noun, distribution(maps[token], blur=False))
                 for noun, token in zip((first, second), wanted.adjectives, strict=True) if token is not None]
    if described and position >= ATTRIBUTES_FROM:
        cost = cost + sum(adjective_cost(noun, adjective) for noun, adjective in described) / len(described)
    return cost


def side(other: Tensor, axis: Literal["x", "y"], sign: int, position: float) -> Tensor:
    """phi: what a cell costs beside the other noun (h,w), less the farther on the right side, more on the wrong one.

    ``sign`` -1 is the side before the other's centroid, 1 the one after it. Returns (h,w).
    """
    beyond = sign * (_coordinate(other, axis) - centroid(other, axis))
    # ---- STORM: w = 1 + 99 (1 - exp(-0.4 i)); phi = 1 / (w dist) where allowed, w dist where not ----
    weighted = (1 + 99 * (1 - math.exp(-0.4 * position))) * (beyond.abs() + TINY)
    return torch.where(beyond > 0, 1 / weighted, weighted)


def adjective_cost(noun: Tensor, adjective: Tensor) -> Tensor:
    """What it costs to bring a noun's distribution (h,w) to its adjective's: ()."""
    a, b = noun.flatten(), adjective.flatten()  # (N,)
    cells = torch.arange(float(len(a)), device=a.device)
    # ---- STORM: C = (|n - m| + |a_n - b_m|) / 2 over its greatest, n and m counted row by row ----
    cost = (cells[:, None] - cells).abs() / 2 + (a[:, None] - b).abs() / 2
    cost = cost / cost.max()
    return (transport_plan(a, b, cost) * cost).sum()


def transport_plan(source: Tensor, target: Tensor, cost: Tensor) -> Tensor:
    """Sinkhorn's plan between distributions (N,) and (M,) at a cost (N,M): (N,M), whose sums they are."""
    kernel = (-cost / REGULARISATION).exp()
    u, v = torch.ones_like(source), torch.ones_like(target)
    for _ in range(ROUNDS):
        # ---- Sinkhorn: u = a / K v, v = b / K^T u, T = diag(u) K diag(v) ----
        u = source / (kernel @ v + TINY)
        v = target / (kernel.mT @ u + TINY)
    return u[:, None] * kernel * v
