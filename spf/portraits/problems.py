"""Bad portraits: each is told once, and too many are an error."""

from datasets import Dataset

from spf.portraits.formats import PortraitError

LINES = 10  # of a report; the others are counted


class Problems:
    """What is wrong with which portrait of a table: noted when it was read, or met when an image was decoded.

    Args:
        table: of `read_portraits`.
        source: where it comes from, for the report.
        max_bad_fraction: share of bad portraits beyond which `PortraitError` is raised, here or by `add`.
    """

    def __init__(self, table: Dataset, source: str, max_bad_fraction: float) -> None:
        self.source, self.total, self.max_bad_fraction = source, len(table), max_bad_fraction
        # rounded: 0.07 of 100 is a little more than 7 to a computer; and without one good portrait there is no training
        self.allowed = min(int(max_bad_fraction * self.total + 1e-9), self.total - 1)
        self.found: dict[int, str] = {}
        self.add({row: text for row, text in enumerate(table["problem"][:]) if text})

    def add(self, found: dict[int, str]) -> list[str]:
        """Notes problems by row, and returns those that are new."""
        new = {row: text for row, text in found.items() if row not in self.found}
        self.found |= new
        if len(self.found) > max(self.allowed, 0):
            allowed = f"max_bad_fraction {self.max_bad_fraction} allows {self.allowed}"
            raise PortraitError(f"{self.report()}\n{allowed}: mend them, or raise it (without them it is a new run).")
        return list(new.values())

    def report(self) -> str:
        """All problems in few lines, "" if there are none."""
        if not self.found:
            return ""
        texts, more = list(self.found.values())[:LINES], len(self.found) - LINES
        head = f"{self.source}: {len(self.found)} of {self.total} portraits are bad."
        return "\n".join([head, *texts, *[f"... and {more} more"] * (more > 0)])
