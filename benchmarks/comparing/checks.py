"""Whether every number of a summary follows from the rows beside it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from comparing.grids import contradictions
from comparing.reading import REMEDY, Archive, Committed
from spf.evaluation.results import summary
from spf.report.results import differences

TOLERANCE = 1e-9
ROUNDING = 1e-12  # absolute: a mean of numbers of both signs may be nearly nothing


@dataclass
class Checks:
    """What was found."""

    followed: int = 0  # columns whose numbers follow from the rows
    together: dict[str, int] = field(default_factory=dict)  # by key: numbers of all pairs together, which cannot follow
    faults: list[str] = field(default_factory=list)  # a line each: file, key, both values, remedy


def check(archive: Archive) -> Checks:
    """Everything that is committed of a base."""
    checks = Checks(faults=[*archive.faults, *contradictions(archive.grids)])
    for rows in archive.folders.values():
        keys = {key for one in rows.values() for key in one.summary}
        mixed = dict.fromkeys(differences([one.result for one in rows.values()], keys))
        checks.faults += [f"{line}: measure both again (`make eval`)" for line in mixed]
        for one in rows.values():
            _check(one, checks)
    return checks


def _check(one: Committed, checks: Checks) -> None:
    due = _due(one, checks)
    if due is None:
        return
    for key in dict.fromkeys([*one.summary, *due]):
        faults = list(_of_pairs(one, key, due[key]) if key in due else _of_all(one, key))
        checks.faults += faults
        if key not in due:
            checks.together[key] = checks.together.get(key, 0) + 1
        elif not faults:
            checks.followed += 1


def _due(one: Committed, checks: Checks) -> dict[str, dict[str, Any]] | None:
    """The summary that the rows make; None, and a fault, where they make none."""
    count = one.result.test_set["count"]
    if len(one.rows) != count:
        checks.faults.append(_line(one, "the number of rows", count, len(one.rows)))
    try:
        return summary(one.rows, whole={}, failures={})
    except (TypeError, ValueError) as error:
        checks.faults.append(f"the rows of {one.result.file} are damaged ({error}): {REMEDY}")
        return None


def _of_pairs(one: Committed, key: str, due: Mapping[str, Any]) -> Iterator[str]:
    """Of a column that stands in the rows."""
    if key not in one.summary:
        yield _line(one, f"{key}, mean", None, due["mean"])
        return
    for name, value in due.items():
        if not same(one.summary[key].get(name), value):
            yield _line(one, f"{key}, {name}", one.summary[key].get(name), value)


def _of_all(one: Committed, key: str) -> Iterator[str]:
    """Of a number of all pairs together: they are as many as there are, and no pair has a part in an interval."""
    said, count = one.summary[key], one.result.test_set["count"]
    if said["n"] + said.get("missing", 0) != count:
        yield _line(one, f"{key}, n and missing", said["n"] + said.get("missing", 0), count)
    for name in {"std", "ci95"} & said.keys():
        yield _line(one, f"{key}, {name}", said[name], None)


def same(said: Any, value: Any) -> bool:
    """Two numbers, or two intervals, within 1e-9 of each other's size."""
    if isinstance(value, list):
        return isinstance(said, list) and len(said) == len(value) and all(map(same, said, value))
    return isinstance(said, int | float) and math.isclose(said, value, rel_tol=TOLERANCE, abs_tol=ROUNDING)


def _line(one: Committed, what: str, said: Any, due: Any) -> str:
    shown = ["nothing" if value is None else value for value in (said, due)]
    return f"{one.result.file}: {what}: the file says {shown[0]}, its rows {shown[1]}; {REMEDY}"
