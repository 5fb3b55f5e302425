"""Rounds of the suite and a package on copies of the same files, held to the same numbers and timed in turn."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Generic, TypeVar

import torch
from machine.memory import peak

from metering.contests import Contest
from metering.packages import Numbers
from metering.portraits import FIRST, SECOND, Portraits
from spf.evaluation.encoding import Pair
from spf.evaluation.measuring import Measured, measure
from spf.evaluation.store import Store

Result = TypeVar("Result")


@dataclass(frozen=True)
class Run(Generic[Result]):
    """What a call gave, and what it took; ``gib`` of memory where it was watched, else 0."""

    result: Result
    seconds: float
    gib: float = 0.0


@dataclass(frozen=True)
class Lap:
    """One round of one metric."""

    suite: Run[Measured]
    second: Run[Measured]  # of another method with the same originals
    package: Run[Numbers] | None


@dataclass
class Found:
    """All rounds of one metric."""

    network: str
    by: str
    pairs: int
    laps: list[Lap] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The suite's, median of rounds."""
        return median(lap.suite.seconds for lap in self.laps)

    @property
    def package_seconds(self) -> float | None:
        """The package's, or None where there is none."""
        return median(lap.package.seconds for lap in self.laps) if self.by and self.laps[0].package else None


@dataclass(frozen=True)
class Round:
    """Files that no process has seen before, one copy for each of those who measure; and an empty store."""

    suite: Sequence[Pair]
    package: Sequence[Pair]
    second: Sequence[Pair]
    store: Store
    suite_first: bool

    @classmethod
    def begin(cls, portraits: Portraits, place: Path, turn: int) -> "Round":
        """In the empty folder ``place``; sides take turns to go first."""
        some = (portraits.fresh(method, place / name) for method, name in (
            (FIRST, "suite"), (FIRST, "package"), (SECOND, "second")))
        return cls(*some, Store(place / "store"), suite_first=turn % 2 == 1)


def lap(contest: Contest, files: Round, watch: bool = False) -> Lap:
    """One metric's part of a round. Raises AssertionError where both sides find different numbers.

    The second method's metric finds the originals' encodings in the store that the first has filled.
    """
    def suite(pairs: Sequence[Pair]) -> Run[Measured]:
        metric = contest.metric()
        return run(lambda: measure(metric, pairs, files.store), watch)

    def package() -> Run[Numbers] | None:
        return run(lambda: contest.package(files.package), watch) if contest.package else None

    if files.suite_first:
        first, theirs = suite(files.suite), package()
    else:
        theirs, first = package(), suite(files.suite)
    second = suite(files.second)
    assert not first.result.failures | second.result.failures, first.result.failures | second.result.failures
    if theirs:
        agree(first.result, theirs.result, files.suite, contest.tolerance)
    return Lap(first, second, theirs)


def run(call: Callable[[], Result], watch: bool) -> Run[Result]:
    """Seconds, and the peak of memory where ``watch``."""
    since = time.perf_counter()
    result, gib = peak(call) if watch else (call(), 0.0)
    return Run(result, time.perf_counter() - since, gib)


def agree(ours: Measured, theirs: Numbers, pairs: Sequence[Pair], tolerance: float) -> None:
    """Raises AssertionError that names the number where the suite and a package differ."""
    for key, numbers in theirs.items():
        found = [ours.whole[key]] if key in ours.whole else [ours.rows[pair.id][key] for pair in pairs]
        torch.testing.assert_close(torch.tensor(found), torch.tensor(numbers, dtype=torch.float64), rtol=tolerance,
                                   atol=tolerance, check_dtype=False, msg=lambda text, key=key: f"{key}: {text}")


def race(contests: Mapping[str, Contest], portraits: Portraits, rounds: int, watch: bool = False) -> dict[str, Found]:
    """Every round takes all metrics in turn."""
    found = {name: Found(one.network, one.by, len(portraits.prompts)) for name, one in contests.items()}
    for turn in range(rounds):
        with TemporaryDirectory() as place:
            files = Round.begin(portraits, Path(place), turn)
            for name, contest in contests.items():
                found[name].laps.append(lap(contest, files, watch))
    return found


def over_packages(found: Sequence[Found]) -> float:
    """Seconds of the suite over the packages one after another, of metrics with one; the median of rounds."""
    both = [one.laps for one in found if one.package_seconds]
    return median(sum(lap.suite.seconds for lap in laps) / sum(lap.package.seconds for lap in laps if lap.package)
                  for laps in zip(*both, strict=True))


def second_speedup(found: Sequence[Found]) -> float:
    """Seconds of all metrics for a first method over those for a second with the same originals; median of rounds."""
    return median(sum(lap.suite.seconds for lap in laps) / sum(lap.second.seconds for lap in laps)
                  for laps in zip(*(one.laps for one in found), strict=True))


def images_per_second(found: Sequence[Found]) -> float:
    """Of the whole suite: an image has gone through all of these metrics."""
    return 1 / sum(one.seconds / (2 * one.pairs) for one in found)
