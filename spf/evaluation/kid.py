"""KID: how far originals and customised differ in the moments of their features (Binkowski et al., ICLR 2018).

Unlike FID it is unbiased, so it may be slightly below 0. Kernel, subsets and draws are torch-fidelity's.
"""

import numpy as np
import torch
from torch import Tensor

from spf.evaluation.summed import SummedMetric

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020
"""torch-fidelity's, whose draws these are: its numbers can be compared digit by digit."""


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
        draws = np.random.RandomState(SEED)
        distances = []
        for _ in range(self.subsets):
            one, other = (torch.from_numpy(draws.choice(count, self.subset_size, replace=False)).to(originals.device)
                          for _ in range(2))
            distances.append(kernel_distance(originals[one], customised[other]))
        return torch.stack(distances).mean()


def kernel_distance(one: Tensor, other: Tensor) -> Tensor:
    """The unbiased squared MMD of features (m,d) and (m,d) under k(x,y) = (x.y / d + 1)^3: a scalar."""
    count = len(one)
    within = sum(kernel.sum() - kernel.trace() for kernel in (_kernel(one, one), _kernel(other, other)))
    return within / (count * (count - 1)) - 2 * _kernel(one, other).mean()


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    return (one @ other.T / one.shape[1] + 1) ** 3
