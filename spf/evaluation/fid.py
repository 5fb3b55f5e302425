"""FID: the Frechet distance of two Gaussians, fitted to the features of originals and customised (Heusel et al. 2017).

Of pairs from shared seeds it has less sampling bias than of independent sets; it is compared at equal N only.
"""

import torch
from torch import Tensor

from spf.evaluation.summed import SummedMetric

HELD = 512
"""Rows that wait for one product: x x^T of 16 rows at a time spends its time on moving the d x d sum through memory."""
ROUNDING = 1e-3
"""How far below 0 a distance may fall by rounding alone."""


class FrechetDistance(SummedMetric):
    """Frechet distance from n, sum x and sum x x^T of both sides, in float64, however many ranks have seen them."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.add_sum("count", dtype=torch.int64)
        for side in ("originals", "customised"):
            self.add_sum(f"{side}_sum", num_features)
            self.add_sum(f"{side}_products", num_features, num_features)
            self.add_state(f"{side}_held", [])

    def update(self, index: Tensor, originals: Tensor, customised: Tensor) -> None:
        """Take the features of n pairs, (n,d) each; ``index`` (n,) is for others, a distribution has no order."""
        self.originals_held.append(originals)
        self.customised_held.append(customised)
        if sum(map(len, self.originals_held)) >= HELD:
            self.settle()

    def settle(self) -> None:
        """Add the rows that wait."""
        if not self.originals_held:
            return
        self.count += sum(map(len, self.originals_held))
        for side in ("originals", "customised"):
            rows = torch.cat(getattr(self, f"{side}_held")).double()  # (n,d)
            getattr(self, f"{side}_sum").add_(rows.sum(0))
            getattr(self, f"{side}_products").addmm_(rows.T, rows)
            setattr(self, f"{side}_held", [])

    def compute(self) -> Tensor:
        """The FID of all pairs, float64 scalar; not a number for fewer than two, which have no covariance."""
        self.settle()
        if self.count < 2:
            return torch.tensor(torch.nan, dtype=torch.float64)
        return frechet_distance(*self._gaussian("originals"), *self._gaussian("customised"))

    def _gaussian(self, side: str) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d,d) with N - 1."""
        total, products = getattr(self, f"{side}_sum"), getattr(self, f"{side}_products")
        mean = total / self.count
        return mean, (products - torch.outer(total, mean)) / (self.count - 1)


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> Tensor:
    """|m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2) of means (d,) and covariances (d,d): a scalar, 0 for equal ones.

    With C1 = R R^T, C1 C2 has the eigenvalues of R^T C2 R, which is symmetric: real roots, in a tenth of the time.
    What rounding leaves below 0 is 0; anything lower is no rounding and is returned as it is.
    """
    values, vectors = torch.linalg.eigh(cov1)
    root = vectors * _roots(values)  # R (d,d)
    shared = _roots(torch.linalg.eigvalsh(root.T @ cov2 @ root)).sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * shared
    return distance.clamp(min=0) if distance > -ROUNDING else distance


def _roots(values: Tensor) -> Tensor:
    """Square roots of ascending eigenvalues (d,), 0 for those that are rounding: fewer pairs than features leave many,
    and the root of 1e-16 is 1e-8."""
    smallest = values[-1] * len(values) * torch.finfo(values.dtype).eps
    return values.where(values > smallest, 0).sqrt()
