"""Seg-Cons: how far the things that can be seen in a portrait are still the same things at the same place.

The paper cites SAM and gives no formula. Ours is a soft Dice score of two sets of masks: each mask of the original is
given to at most one of the customised, so that the IoU of all pairs is largest; masks without a partner count as 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import scipy
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from spf.evaluation.metric import Encoding, Metric
from spf.notation import Column
from spf.text import Prompt

MakeMasks = Callable[[Tensor], Tensor]
"""An image (3,H,W) uint8 RGB -> the masks of what is seen in it, (n,H,W) bool."""

SMALLEST, LARGEST = 0.001, 0.95  # shares of the image; beyond them it is a speck, or the image itself


class SegCons(Metric):
    """Seg-Cons from the masks of anything that segments; ``spf.evaluation.sam`` gives SAM's."""

    columns: ClassVar[tuple[Column, ...]] = (Column("seg_cons", "Seg-Cons", "Preservation", True),
                                             Column("seg_cov", "Seg-Cov", "More", True))
    same_size: ClassVar[bool] = True
    suffix: ClassVar[str] = ""  # of every key in its rows

    def __init__(self, make_masks: MakeMasks, about: Mapping[str, Any]) -> None:
        """``about`` says, for JSON, everything that decides which masks are made."""
        self.make_masks, self.about = make_masks, dict(about)

    def encode(self, images: Tensor, prompts: Sequence[Prompt], originals: Tensor | None) -> list[Encoding]:
        """The run lengths of each image's masks, without those too small or too large to be a thing."""
        return [run_lengths(things(self.make_masks(image))) for image in images]

    def score(self, originals: Sequence[Encoding], customised: Sequence[Encoding],
              prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """What ``consistency`` says of each pair."""
        pairs = zip(originals, customised, strict=True)
        rows = [consistency(from_run_lengths(before), from_run_lengths(after)) for before, after in pairs]
        return [{f"{name}{self.suffix}": value for name, value in row.items()} for row in rows]

    def describe(self) -> dict[str, Any]:
        """What makes the masks, which of them count, and how two sets are compared."""
        return {"network": self.about.get("network", "none"), "masks": self.about, "smallest": SMALLEST,
                "largest": LARGEST, "formula": "100 * 2 * sum of one-to-one matched IoU / (n + m)",
                "scipy": scipy.__version__}


class FastSegCons(SegCons):
    """The same from cheaper masks: its numbers cannot be compared with Seg-Cons, so they have another name."""

    columns: ClassVar[tuple[Column, ...]] = (Column("seg_cons_fast", "Seg-Cons (fast)", "More", True),
                                             Column("seg_cov_fast", "Seg-Cov (fast)", "More", True))
    suffix: ClassVar[str] = "_fast"


def things(masks: Tensor) -> Tensor:
    """Of (n,H,W) bool those whose share of the image is neither below ``SMALLEST`` nor above ``LARGEST``."""
    share = _areas(masks) / masks.shape[1:].numel()
    return masks[(share >= SMALLEST) & (share <= LARGEST)]


def consistency(original: Tensor, customised: Tensor) -> dict[str, float]:
    """Masks (n,H,W) and (m,H,W) bool of a pair -> its row, in percent but for the counts; 100 is unchanged.

    ``seg_cons`` = 2 * sum of matched IoU / (n+m), symmetric, in [0,100]; ``seg_recall`` = the same sum / n;
    ``seg_cov`` = the mean of both ways of segmentation covering (Arbelaez et al. 2011): how well each mask is covered
    by the best of the other side, by area. With no masks on both sides there is nothing to say but ``seg_empty``.
    """
    n, m = len(original), len(customised)
    if n == m == 0:
        return {"seg_empty": 1.0}
    iou = mask_iou(original, customised)
    matched = float(iou[match(iou)].sum())
    covering = (_covering(original, iou) + _covering(customised, iou.T)) / 2
    row = {"seg_cons": 200 * matched / (n + m), "seg_cov": 100 * covering, "seg_empty": 0.0,
           "seg_masks_original": float(n), "seg_masks_customised": float(m)}
    return row | ({"seg_recall": 100 * matched / n} if n else {})


def _covering(masks: Tensor, iou: Tensor) -> float:
    """Mean over masks (n,H,W), by area, of the largest IoU in each row of (n,m); 0 where either side has none."""
    if not iou.numel():
        return 0.0
    areas = _areas(masks)
    return float((areas * iou.amax(1)).sum() / areas.sum())


def match(iou: Tensor) -> tuple[Tensor, Tensor]:
    """The one-to-one pairs of an (n,m) table with the largest sum: min(n,m) row numbers, and their columns."""
    rows, columns = linear_sum_assignment(iou.numpy(), maximize=True)
    return torch.from_numpy(rows), torch.from_numpy(columns)


def mask_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each of (n,H,W) with each of (m,H,W) bool: (n,m) float64, exact; 0 of two empty."""
    both = torch.cat([a, b]).flatten(1)
    change = (both[:, 1:] ^ both[:, :-1]).any(0).nonzero().flatten() + 1
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), change])  # in between no mask changes: one weighted pixel
    weights = starts.diff(append=torch.tensor([both.shape[1]])).double()  # (s,)
    a, b = both[:, starts].double().split([len(a), len(b)])  # (n,s), (m,s)
    common = (a * weights) @ b.T
    either = (a @ weights)[:, None] + b @ weights - common
    return common / either.clamp(min=1)


def _areas(masks: Tensor) -> Tensor:
    """Pixels of each of (n,H,W) bool: (n,) float64."""
    return masks.flatten(1).sum(1, dtype=torch.int32).double()  # summing into 64 bits is ten times slower


def run_lengths(masks: Tensor) -> Encoding:
    """(n,H,W) bool -> how many pixels, row by row, are outside, inside, outside, ... each mask: int32 on the CPU.

    ``counts`` (k,) of all masks, each beginning with a run outside (of length 0 where the first pixel is inside);
    ``starts`` (n+1,) where each mask's counts begin and end; ``size`` (2,) is H, W.
    """
    flat = masks.flatten(1)
    change = torch.cat([flat[:, :1], flat[:, 1:] ^ flat[:, :-1]], 1)  # what comes before the first pixel is outside
    begins = torch.arange(len(masks) + 1, device=masks.device) * flat.shape[1]
    edges = torch.cat([begins, change.flatten().nonzero().flatten()]).sort().values
    runs = change.sum(1, dtype=torch.int32).cpu() + 1
    starts = torch.cat([torch.zeros(1, dtype=torch.int32), runs.cumsum(0, dtype=torch.int32)])
    return {"counts": edges.diff().int().cpu(), "starts": starts, "size": torch.tensor(masks.shape[1:]).int()}


def from_run_lengths(encoding: Encoding) -> Tensor:
    """The masks (n,H,W) bool of ``run_lengths``."""
    counts, starts = encoding["counts"].numpy(), encoding["starts"].numpy()
    first = np.repeat(starts[:-1], np.diff(starts))  # of the mask of each run
    inside = (np.arange(len(counts)) - first) % 2 == 1
    flat = torch.from_numpy(np.repeat(inside, counts))  # torch's own would hold 8 bytes a pixel
    return flat.view(len(starts) - 1, *encoding["size"].tolist())
