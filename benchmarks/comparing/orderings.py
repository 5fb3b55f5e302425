"""What came of the paper's orderings: held where the measured means differ the same way, certain by bootstrap."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from comparing.reading import Committed, Rows
from comparing.signs import Sign, signs

SEED, RESAMPLES, EDGES = 0, 1000, (0.025, 0.975)


@dataclass(frozen=True)
class Ordering:
    """A sign beside the measured means of both rows."""

    sign: Sign
    row: float
    other: float
    interval: tuple[float, float] | None  # of row - other, 95 %; None for a number of all pairs together

    @property
    def difference(self) -> float:
        """Row - other."""
        return self.row - self.other

    @property
    def held(self) -> bool:
        """Whether the row is better where the paper's is, worse where it is worse; the same is neither."""
        gain = self.difference if self.sign.column.higher_is_better else -self.difference
        return gain > 0 if self.sign.better else gain < 0

    @property
    def certain(self) -> bool:
        """Whether other pairs of the same kind would have ordered the rows the same way."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def orderings(rows: Rows) -> list[Ordering]:
    """Of every sign whose rows and column were both measured."""
    there = [sign for sign in signs() if {sign.row, sign.other} <= rows.keys()]
    return list(filter(None, (_ordering(sign, rows[sign.row], rows[sign.other]) for sign in there)))


def _ordering(sign: Sign, row: Committed, other: Committed) -> Ordering | None:
    key = sign.column.key
    one, two = row.mean(key), other.mean(key)
    if one is None or two is None:
        return None
    return Ordering(sign, one, two, interval(row.by_sample(key), other.by_sample(key)))


def interval(row: Mapping[str, float], other: Mapping[str, float]) -> tuple[float, float] | None:
    """95 % of the mean difference over resampled pairs that both rows have, by id; None where they have none."""
    apart = np.array([value - other[sample] for sample, value in row.items() if sample in other])  # (N,)
    if not len(apart):
        return None
    drawn = np.random.default_rng(SEED).integers(len(apart), size=(RESAMPLES, len(apart)))
    low, high = np.quantile(apart[drawn].mean(1), EDGES)
    return float(low), float(high)
