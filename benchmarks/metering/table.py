"""The findings in words: a row a metric, the whole, FID at scale, and the bars."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from metering.racing import Found, images_per_second, over_packages, second_speedup
from metering.scale import COUNT, WIDTH, Exchange


@dataclass(frozen=True)
class Bar:
    """What a figure should be at most, or at least."""

    name: str
    value: float
    wanted: float
    at_most: bool = True

    def __str__(self) -> str:
        met = self.value <= self.wanted if self.at_most else self.value >= self.wanted
        return (f"| {self.name} | {self.value:.3f} | at {'most' if self.at_most else 'least'} {self.wanted:g} "
                f"| {'met' if met else '**missed**'} |")


def bars(found: Sequence[Found], fid_seconds: float) -> list[Bar]:
    """The suite's."""
    return [Bar("suite over the packages one after another", over_packages(found), 1.0),
            Bar("a second method on the same originals, times faster", second_speedup(found), 1.8, at_most=False),
            Bar(f"FID of {COUNT} pairs in {WIDTH} features, seconds", fid_seconds, 10.0)]


HEAD = ("| metric | network | pairs | images/s | package | its images/s | suite over package | second method faster "
        "| GiB | package's GiB |\n|---|---|---|---|---|---|---|---|---|---|")


def row(name: str, one: Found, libraries: float = 0.0) -> str:
    """One metric; ``libraries`` are GiB that were there before it."""
    images, theirs = 2 * one.pairs, one.package_seconds
    cells = [name, one.network, str(one.pairs), f"{images / one.seconds:.3g}", one.by]
    cells += [f"{images / theirs:.3g}", f"{over_packages([one]):.2f}"] if theirs else ["", ""]
    cells += [f"{second_speedup([one]):.2f}"]
    peaks = [max(lap.suite.gib for lap in one.laps), max(lap.package.gib if lap.package else 0 for lap in one.laps)]
    return "| " + " | ".join(cells + [f"{gib - libraries:.2f}" if gib else "" for gib in peaks]) + " |"


def whole(found: Mapping[str, Found]) -> Iterator[str]:
    """All metrics together."""
    yield (f"All of them: {images_per_second([*found.values()]):.3g} images/s. Of those with a package the suite takes "
           f"{over_packages([*found.values()]):.2f} of the packages' time"
           + (f", {over_packages([one for name, one in found.items() if name != 'seg_cons']):.2f} without Seg-Cons"
              if len(found) > 1 and "seg_cons" in found else "") + ".")


def scale(seconds: Mapping[str, Sequence[float]],
          exchanges: Mapping[str, Sequence[Exchange]]) -> Iterator[str]:
    """FID and KID at scale, seconds by metric of the suite and both packages, and the exchange of ranks."""
    yield f"| {COUNT} pairs, {WIDTH} features | seconds | torch-fidelity's | torchmetrics' |\n|---|---|---|---|"
    for name, sides in seconds.items():
        yield f"| {name} | " + " | ".join(f"{side:.2f}" for side in sides) + " |"
    yield ("\n| | ranks | MiB of state | MiB to all_reduce | peak GiB | MiB, if it were gathered | value |\n"
           "|---|---|---|---|---|---|---|")
    for name, some in exchanges.items():
        for one in some:
            mib = one.state / 2**20
            yield (f"| {name} | {one.world} | {mib:.1f} | {one.reduced / 2**20:.1f} | {one.gib:.2f} "
                   f"| {mib * one.world:.0f} | {one.value:.10g} |")
