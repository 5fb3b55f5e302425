"""How well a map agrees with a region when both are soft: a target may be smaller than a latent cell."""

from collections.abc import Callable

import torch
from torch import Tensor


def weighted_auroc(maps: Tensor, truth: Tensor) -> Tensor:
    """How often a place inside ranks above one outside, ties counting half: (n,h,w), (n,h,w) in [0,1] -> (n,).

    Each cell stands inside with weight truth and outside with weight 1 - truth; where truth is constant it is 0.5.
    """
    values, inside = maps.flatten(1).contiguous(), truth.flatten(1).double()
    order = values.argsort(1)
    ranked, outside = values.gather(1, order), (1 - inside).gather(1, order)
    below = torch.cat([torch.zeros_like(outside[:, :1]), outside.cumsum(1)], 1)  # (n,N+1): weight outside of the lowest
    first, last = torch.searchsorted(ranked, values), torch.searchsorted(ranked, values, right=True)
    beaten = (below.gather(1, first) + below.gather(1, last)) / 2
    return ((inside * beaten).sum(1) / (inside.sum(1) * below[:, -1])).nan_to_num(0.5).float()


def soft_iou(maps: Tensor, truth: Tensor) -> Tensor:
    """sum(min) / sum(max) of (n,h,w) and (n,h,w), both in [0,1]: (n,), 1 where they are equal."""
    return torch.minimum(maps, truth).sum((1, 2)) / torch.maximum(maps, truth).sum((1, 2)).clamp(min=1e-6)


def mean_inside(maps: Tensor, truth: Tensor) -> Tensor:
    """The mean of the map (n,h,w) over the region: (n,); 1 lets the target through wholly."""
    return (maps * truth).sum((1, 2)) / truth.sum((1, 2)).clamp(min=1e-6)


def mean_outside(maps: Tensor, truth: Tensor) -> Tensor:
    """The mean of the map (n,h,w) over the rest: (n,); 0 keeps all of the original."""
    return mean_inside(maps, 1 - truth)


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "AUROC": weighted_auroc, "soft IoU": soft_iou, "inside": mean_inside, "outside": mean_outside}
"""Of maps (n,h,w) against truths of their shape: (n,) each; all but AUROC expect weights in [0,1]."""
