"""The findings in words: Table 3 beside the paper's, the split of a step, the floor and the bars."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from timing.floor import Floor
from timing.rows import PLAIN, SHIPPED, STAGE1

PAPER = {
    STAGE1: {"16-mixed": "1.92 s (17 GB)", "32-true": "2.28 s (23 GB)", "bf16-mixed": "1.90 s (18 GB)"},
    SHIPPED: {"16-mixed": "2.10 s (21 GB)", "32-true": "3.26 s (28 GB)", "bf16-mixed": "2.15 s (18 GB)"}}
"""Table 3: seconds and memory of a step, by row and precision."""


@dataclass
class Measured:
    """One precision."""

    precision: str
    seconds: dict[str, list[float]] = field(default_factory=dict)  # by row, of every round
    floor: Floor = field(default_factory=Floor)
    memory: dict[str, float] = field(default_factory=dict)  # GiB by row
    split: dict[str, float] = field(default_factory=dict)  # seconds by part of a step of stage 2

    def over(self, row: str, other: str = STAGE1) -> float:
        """The median over rounds of a row's time over another's in the same round."""
        return median(a / b for a, b in zip(self.seconds[row], self.seconds[other], strict=True))

    @property
    def over_floor(self) -> float:
        """How much dearer stage 2 is than its arithmetic, each over stage 1's."""
        return self.over(SHIPPED) / self.floor.ratio


@dataclass(frozen=True)
class Bar:
    """What a figure may be at most."""

    name: str
    value: float
    most: float

    def __str__(self) -> str:
        verdict = "met" if self.value <= self.most else "**missed**"
        return f"| {self.name} | {self.value:.3f} | {self.most:g} | {verdict} |"


def bars(measured: Measured) -> list[Bar]:
    """Stage 2's, as shipped and without enhancement."""
    return [Bar("stage 2 without enhancement over stage 1", measured.over(PLAIN), 1.25),
            Bar("stage 2 over stage 1", measured.over(SHIPPED), 1.6),
            Bar("stage 2 over stage 1, measured over floor", measured.over_floor, 1.4)]


def section(measured: Measured) -> Iterator[str]:
    """Markdown of one precision."""
    yield from [f"## {measured.precision}", "", "| bar | measured | at most | |", "|---|---|---|---|"]
    yield from map(str, bars(measured))
    yield from ["", "| row | s/step | over stage 1 | peak GiB | the paper's Table 3 |", "|---|---|---|---|---|"]
    for row, seconds in measured.seconds.items():
        paper = PAPER.get(row, {}).get(measured.precision, "")
        memory = f"{measured.memory[row]:.2f}" if row in measured.memory else ""
        yield f"| {row} | {median(seconds):.3f} | {measured.over(row):.3f} | {memory} | {paper} |"
    yield from ["", *_parts("part of a step of stage 2", "seconds", {
        **measured.split, "together": sum(measured.split.values())})]
    yield from _parts("floor: part of stage 2", "FLOPs over stage 1's", {
        **{part: flops / measured.floor.stage1 for part, flops in measured.floor.parts.items()},
        "together, the floor": measured.floor.ratio, "executed": measured.floor.executed / measured.floor.stage1})


def by_row(found: Iterable[Measured]) -> dict[str, dict[str, dict[str, float]]]:
    """For JSON: by row and precision, the median seconds of a step and, where measured, the peak memory in GiB."""
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for measured in found:
        for row, seconds in measured.seconds.items():
            memory = {"gib": measured.memory[row]} if row in measured.memory else {}
            rows.setdefault(row, {})[measured.precision] = {"seconds": median(seconds), **memory}
    return rows


def _parts(title: str, unit: str, parts: Mapping[str, float]) -> Sequence[str]:
    return [f"| {title} | {unit} |", "|---|---|", *(f"| {part} | {value:.3f} |" for part, value in parts.items()), ""]
