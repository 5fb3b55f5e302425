"""Where a row stands: recovered fractions, and its height over the curve of the free rivals, by paired bootstrap."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from plane.judge import Judgement

RESAMPLES = 2000


class Interval(NamedTuple):
    """A figure and the 95 % of it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def rounded(self) -> list[float]:
        """[value, low, high] to 4 decimals, for JSON."""
        return [round(number, 4) for number in self]


@dataclass(frozen=True)
class Sheet:
    """The weight of each of n triples in the sample (first row) and in each resample: (1 + S, n) float64.

    All figures of all rows come from one sheet: that is what pairs them.
    """

    weights: Tensor

    @classmethod
    def draw(cls, count: int, resamples: int = RESAMPLES, seed: int = 0) -> "Sheet":
        """Triples drawn with replacement."""
        drawn = torch.randint(count, (resamples, count), generator=torch.Generator().manual_seed(seed))
        times = torch.zeros(resamples, count).scatter_add_(1, drawn, torch.ones(resamples, count))
        return cls(torch.cat([torch.ones(1, count), times]).double() / count)

    def means(self, column: Tensor) -> Tensor:
        """(n,) -> (1 + S,): the mean over the triples, and over those of each resample."""
        return self.weights @ column.double()


def interval(figures: Tensor) -> Interval:
    """(1 + S,) -> the sample's own figure and the central 95 % of the resamples'."""
    low, high = torch.quantile(figures[1:], torch.tensor([0.025, 0.975], dtype=figures.dtype)).tolist()
    return Interval(float(figures[0]), low, high)


def recovered(row: Tensor, stage1: Tensor, painted: Tensor) -> Tensor:
    """Of the distance that stage 1 has put between itself and the painted counterfactual: 0 = stage 1, 1 = painted."""
    return (stage1 - row) / (stage1 - painted)


def curve(accuracy: Tensor, free: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """What the free rivals preserve at an accuracy (S,), given each one's (accuracy (S,), preservation (S,)).

    The best of those at least so accurate, linear between those that none beats in both; beyond the most accurate
    one it goes on level, which flatters the rivals.
    """
    across, up = (torch.stack(axis, -1) for axis in zip(*free, strict=True))  # (S,F)
    at = torch.minimum(accuracy, across.amax(-1))[:, None]
    never = -torch.inf
    right = up.where(across >= at, never).argmax(-1, keepdim=True)
    right_across, right_up = across.gather(-1, right), up.gather(-1, right)
    behind = (across < at) & (up > right_up)
    left = (across + 1e-6 * up).where(behind, never).argmax(-1, keepdim=True)  # of equals in accuracy the better one
    left_across, left_up = across.gather(-1, left), up.gather(-1, left)
    share = ((at - left_across) / (right_across - left_across)).where(behind.any(-1, keepdim=True), 1.0)
    return torch.lerp(left_up.where(share < 1, right_up), right_up, share)[:, 0]


@dataclass(frozen=True)
class Standing:
    """One row of the table; what is compared with stage 1 is 0 for stage 1 itself."""

    accuracy: Interval
    accuracy_gain: Interval  # over stage 1
    preservation: Interval  # recovered
    identity: Interval  # recovered
    height: Interval  # of the preservation over the curve at the row's accuracy; its value is the resamples' mean


def standings(judged: dict[str, Judgement], free: Sequence[str], stage1: str, painted: str,
              sheet: Sheet) -> dict[str, Standing]:
    """Every row's standing; the curve is that of ``free`` and of stage 1."""
    means = {name: {kind: sheet.means(getattr(j, kind)) for kind in ("accuracy", "preservation", "identity")}
             for name, j in judged.items()}
    first, last = means[stage1], means[painted]

    def share(name: str, kind: str) -> Tensor:
        return recovered(means[name][kind], first[kind], last[kind])

    rivals = [(means[name]["accuracy"], share(name, "preservation")) for name in (*free, stage1)]
    found = {}
    for name, row in means.items():
        up = share(name, "preservation")
        height = up - curve(row["accuracy"], rivals)
        found[name] = Standing(
            interval(row["accuracy"]), interval(row["accuracy"] - first["accuracy"]), interval(up),
            interval(share(name, "identity")), interval(height)._replace(value=float(height[1:].mean())))
    return found
