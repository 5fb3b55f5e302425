"""KID: how far originals and customised differ in the moments of their features (Binkowski et al., ICLR 2018).

Unlike FID it is unbiased, so it may be slightly below 0. Kernel, subsets and draws are torch-fidelity's.
"""

import numpy as np
import torch
from torch import Tensor

from spf.evaluation.summed import SummedMetric

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020
"""torch-fidelity's, whose draws these are: its numbers can be compared digit by digit."""
BLOCK = 512  # rows of kernels that are held at a time


class KernelDistance(SummedMetric):
    """KID of ``count`` pairs: the mean ``kernel_distance`` of random subsets, or of all pairs where they are but few.

    Every rank has room for all features, 2 x count x d float32 (82 MB for 5000 pairs in 2048), and fills its own rows;
    their sum over ranks is the whole. A pair that was never updated, since it could not be encoded, is left out.
    """

    def __init__(self, count: int, num_features: int, subsets: int = SUBSETS,
                 subset_size: int = SUBSET_SIZE) -> None:
        super().__init__()
        self.subsets, self.subset_size = subsets, subset_size
        self.add_sum("seen", count, dtype=torch.int64)
        for side in ("originals", "customised"):
            self.add_sum(side, count, num_features, dtype=torch.float32)

    def update(self, index: Tensor, originals: Tensor, customised: Tensor) -> None:
        """Take the features of n pairs, (n,d) each; ``index`` (n,) int64 in [0, count) is which of all they are."""
        self.seen += index.bincount(minlength=len(self.seen))
        self.originals[index] = originals.float()
        self.customised[index] = customised.float()

    def compute(self) -> Tensor:
        """The KID, float64 scalar; not a number for fewer than two pairs. Raises ValueError where a pair came twice."""
        if (self.seen > 1).any():
            raise ValueError(f"pair {int(self.seen.argmax())} was given more than once: each belongs to one rank")
        taken = self.seen > 0
        originals, customised = self.originals[taken].double(), self.customised[taken].double()  # (n,d)
        count = len(originals)
        if count < 2:
            return torch.tensor(torch.nan, dtype=torch.float64)
        if count <= self.subset_size:
            return kernel_distance(originals, customised)
        drawn = self._draw(count).to(originals)
        return kernel_distances(originals, customised, *drawn).mean()

    def _draw(self, count: int) -> Tensor:
        """Which of ``count`` pairs are in each subset, of the originals and of the customised: (2,count,S) 0 or 1."""
        draws, drawn = np.random.RandomState(SEED), torch.zeros(2, count, self.subsets)
        for subset in range(self.subsets):
            for side in drawn:
                side[draws.choice(count, self.subset_size, replace=False), subset] = 1
        return drawn


def kernel_distance(one: Tensor, other: Tensor) -> Tensor:
    """The unbiased squared MMD of features (m,d) and (m,d) under k(x,y) = (x.y / d + 1)^3: a scalar."""
    everything = one.new_ones(len(one), 1)
    return kernel_distances(one, other, everything, everything)[0]


def kernel_distances(one: Tensor, other: Tensor, chosen: Tensor, others: Tensor) -> Tensor:
    """The ``kernel_distance`` of S subsets of features (m,d) and (m,d): (S,).

    ``chosen`` and ``others`` (m,S) are 1 for what is in a subset, equally many of each, else 0. Subsets overlap, so
    each kernel of two images is computed once for all: of 100 subsets of 1000 in 5000, that is a quarter of the work.
    """
    count = chosen.sum(0)
    within = _sums(one, one, chosen, chosen, diagonal=False) + _sums(other, other, others, others, diagonal=False)
    return within / (count * (count - 1)) - 2 * _sums(one, other, chosen, others) / count**2


def _sums(one: Tensor, other: Tensor, chosen: Tensor, others: Tensor, diagonal: bool = True) -> Tensor:
    """Kernels of each chosen row of (m,d) with each chosen row of (n,d), added up: (S,); in blocks, for memory."""
    total = chosen.new_zeros(chosen.shape[1])
    for start in range(0, len(one), BLOCK):
        kernel = (one[start:start + BLOCK] @ other.T / one.shape[1] + 1) ** 3
        if not diagonal:
            kernel.diagonal(start).zero_()
        total += (chosen[start:start + BLOCK] * (kernel @ others)).sum(0)
    return total
