"""Rows that were trained with several seeds: how far their numbers move, and whether their order stays."""

from collections import Counter
from collections.abc import Mapping
from statistics import mean, stdev

from comparing.reading import Rows

START, WHOLE, WITHOUT = "stage1", "ours", "without_sfcm"


def repeated(seeds: Mapping[int, Rows]) -> list[str]:
    """The ids that more than one seed has."""
    times = Counter(name for rows in seeds.values() for name in rows)
    return [name for name, many in times.items() if many > 1]


def pairs(seeds: Mapping[int, Rows]) -> list[tuple[str, str]]:
    """Which rows are held against which: each against the stage 1 of its seed, and ours without SFCM against ours."""
    names = repeated(seeds)
    start = [(name, START) for name in names if name != START and START in names]
    return start + [(WITHOUT, WHOLE)] * ({WITHOUT, WHOLE} <= {*names})


def over_seeds(seeds: Mapping[int, Rows], name: str, key: str) -> list[float]:
    """A column's mean for each seed that has it."""
    found = [rows[name].mean(key) for rows in seeds.values() if name in rows]
    return [value for value in found if value is not None]


def moved(values: list[float]) -> tuple[float, float] | None:
    """Mean and standard deviation (N - 1) over seeds; None for fewer than two."""
    return (mean(values), stdev(values)) if len(values) > 1 else None


def agreement(seeds: Mapping[int, Rows], name: str, other: str, key: str) -> tuple[str, int, int] | None:
    """The commonest sign (+, -, 0) of name - other, how many seeds have it, and of how many; None where none has."""
    both = [(rows[name].mean(key), rows[other].mean(key)) for rows in seeds.values() if {name, other} <= rows.keys()]
    found = Counter("+" if a > b else "-" if a < b else "0" for a, b in both if a is not None and b is not None)
    if not found:
        return None
    sign, times = found.most_common(1)[0]
    return sign, times, found.total()
