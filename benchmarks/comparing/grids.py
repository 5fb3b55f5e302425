"""Each baseline's grid of four settings on the validation triples: which was taken, and whether at the grid's edge."""

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comparing.reading import Committed, Rows

Setting = dict[str, float]
"""Options by the names that they have in a result's manifest."""


def _two_by_two(weight: str) -> list[Setting]:
    return [{weight: 1.0, "learning_rate": 2e-4}, {weight: 3.0, "learning_rate": 2e-4},
            {weight: 1.0, "learning_rate": 4e-4}, {weight: 3.0, "learning_rate": 4e-4}]


GRIDS: dict[str, list[Setting]] = {
    "lora": [{"learning_rate": 2e-3, "rank": 8}, {"learning_rate": 5e-3, "rank": 8},
             {"learning_rate": 2e-3, "rank": 32}, {"learning_rate": 5e-3, "rank": 32}],
    "tokencompose": [{"token": 1e-3, "pixel": 5e-5}, {"token": 1e-2, "pixel": 5e-4},
                     {"token": 1e-1, "pixel": 5e-3}, {"token": 1.0, "pixel": 5e-2}],
    "adalora": [{"learning_rate": 2e-3, "target_rank": 8}, {"learning_rate": 5e-3, "target_rank": 8},
                {"learning_rate": 1e-2, "target_rank": 8}, {"learning_rate": 5e-3, "target_rank": 16}],
    "prior_preservation": _two_by_two("prior_preservation"),
    "output_preservation": _two_by_two("output_preservation"),
    "magnet": [{"strength": 0.1}, {"strength": 0.25}, {"strength": 0.5}, {"strength": 1.0}],
    "storm": [{"strength": 0.5}, {"strength": 1.0}, {"strength": 2.0}, {"strength": 4.0}]}
"""By row; cell N, from 1, is ROW_N.json of BASE-grids."""
UNTRAINED = ("magnet", "storm")
"""What changes the generation alone: its cells are the row itself at another strength."""
READ = ("target_read", "id")
"""The columns whose product a cell is chosen by."""


@dataclass(frozen=True)
class Cell:
    """One setting and what came of it."""

    number: int
    setting: dict[str, Any]  # the grid's axes, and what else the manifests say to differ between the cells
    target_read: float
    identity: float

    @property
    def product(self) -> float:
        """What is to be large: the target is there, and so is the person."""
        return self.target_read * self.identity


def cells(row: str, found: Rows) -> list[Cell]:
    """Those of a row that were measured, in their order."""
    there = {number: one for number in range(1, 1 + len(GRIDS[row]))
             if (one := found.get(f"{row}_{number}")) and len(_read(one)) == len(READ)}
    changed = _changed([options(one) for one in there.values()])
    return [Cell(number, GRIDS[row][number - 1] | also, *_read(one))
            for (number, one), also in zip(there.items(), changed, strict=True)]


def _read(one: Committed) -> list[float]:
    return [value for key in READ if (value := one.mean(key)) is not None]


def chosen(tried: Sequence[Cell]) -> Cell:
    """The largest product of target read and ID; the first of equals."""
    return max(tried, key=lambda cell: cell.product)


def edges(row: str, number: int) -> dict[str, str]:
    """By axis on which cell ``number`` stands at the edge: whether it has the smallest or the largest value tried."""
    tried = {axis: [setting[axis] for setting in GRIDS[row]] for axis in GRIDS[row][0]}
    taken = GRIDS[row][number - 1]
    return {axis: "smallest" if taken[axis] == min(values) else "largest" for axis, values in tried.items()
            if taken[axis] in (min(values), max(values))}


def options(one: Committed) -> dict[str, Any]:
    """The learning rate, and all options of tuning, objective and guidance, as far as the manifest has them."""
    manifest = one.result.manifest
    if guided := manifest.get("guidance", "").partition(" ")[2]:
        return ast.literal_eval(guided)
    rate = {"learning_rate": manifest["learning_rate"]} if "learning_rate" in manifest else {}
    return rate | {**(manifest.get("tuning") or {}), **(manifest.get("objective") or {})}


def _changed(said: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each manifest's options those that all have, and that are not the same in all."""
    names = [name for name in (said[0] if said else ()) if all(name in one for one in said)]
    differ = [name for name in names if any(one[name] != said[0][name] for one in said)]
    return [{name: one[name] for name in differ} for one in said]


def contradictions(found: Rows) -> Iterator[str]:
    """A line for each cell that was trained with other options than its grid says."""
    for row, settings in GRIDS.items():
        for number, setting in enumerate(settings, 1):
            one = found.get(f"{row}_{number}")
            said = options(one) if one else {}
            for axis, value in setting.items():
                if axis in said and not math.isclose(said[axis], value):
                    yield (f"{one.result.file}: {axis}: the file says {said[axis]}, cell {number} of the grid is "
                           f"{value}; correct GRIDS in benchmarks/comparing/grids.py, or train the cell again")
