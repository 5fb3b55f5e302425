"""Finding images in a page."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def read(file: Path) -> Tensor:
    """A picture (3,H,W) uint8."""
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)


def places(page: Tensor, image: Tensor) -> list[tuple[int, int]]:
    """Every (row, column) of pixels where a page (3,H,W) uint8 holds an image (3,h,w) in [0,1], exactly."""
    wanted = (image * 255).round().byte()
    _, high, wide = wanted.shape
    strips = page.unfold(2, wide, 1)[:, : page.shape[1] - high + 1]  # (3,H-h+1,W-w+1,w)
    starts = (strips == wanted[:, None, None, 0]).all(-1).all(0).nonzero().tolist()
    return [(y, x) for y, x in starts if torch.equal(page[:, y:y + high, x:x + wide], wanted)]
