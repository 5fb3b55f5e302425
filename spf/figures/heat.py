"""Maps as heat over portraits."""

import torch
from torch import Tensor
from torch.nn import functional

GLOW = torch.tensor([[0.0, 0.0, 0.02], [0.34, 0.06, 0.43], [0.73, 0.21, 0.33], [0.98, 0.55, 0.04], [0.99, 1.0, 0.64]])
"""Colours (5,3) of 0, 1/4, 1/2, 3/4 and 1, ever brighter."""

GREY, WEIGHT = (0.299, 0.587, 0.114), 0.6  # what of red, green and blue is seen as brightness; what of a place is heat


def glowing(maps: Tensor) -> Tensor:
    """(B,h,w) in [0,1] -> colours (B,3,h,w) in [0,1], brighter where the map is higher."""
    place = maps.clamp(0, 1) * (len(GLOW) - 1)
    below = place.floor().long().clamp(max=len(GLOW) - 2)  # (B,h,w)
    share = (place - below)[..., None]
    return torch.lerp(GLOW[below], GLOW[below + 1], share).permute(0, 3, 1, 2)  # (B,h,w,3) -> (B,3,h,w)


def overlaid(portraits: Tensor, maps: Tensor) -> Tensor:
    """Maps (B,h,w) in [0,1] as heat over portraits (B,3,H,W) in grey: (B,3,H,W)."""
    smooth = functional.interpolate(maps[:, None], portraits.shape[-2:], mode="bicubic", antialias=False)[:, 0]
    grey = (portraits * torch.tensor(GREY)[:, None, None]).sum(1, keepdim=True)
    return torch.lerp(grey.expand_as(portraits), glowing(smooth), WEIGHT)
