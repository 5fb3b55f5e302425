"""Committed results with the rows beside them, folder by folder; what cannot be read is a fault, and no end."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spf.files import read_json, read_lines
from spf.report.results import STEP_TIME, Result, read_result

REMEDY = "commit it with its rows as `spf test` wrote both, or measure it again (`make eval`)"


@dataclass(frozen=True)
class Committed:
    """One result."""

    result: Result
    summary: dict[str, dict[str, Any]]  # as the file has it, with what ``Result`` leaves out
    rows: list[dict[str, Any]]  # a pair each

    def mean(self, key: str) -> float | None:
        """Of a column; None where it was not measured."""
        return self.result.summary[key].mean if key in self.result.summary else None

    def by_sample(self, key: str) -> dict[str, float]:
        """A column's number of each pair that has one."""
        return {row["sample"]: row[key] for row in self.rows if key in row}


Rows = Mapping[str, Committed]
"""The rows of one folder by their ids."""


@dataclass(frozen=True)
class Archive:
    """All results of a base, by folder and id: seed 0 in BASE, further seeds in BASE-seedN, grids in BASE-grids."""

    base: str
    folders: dict[str, dict[str, Committed]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)  # a line a file that cannot be read

    @classmethod
    def read(cls, results: Path, base: str) -> "Archive":
        """Every folder of ``results`` whose name begins with that of the base."""
        archive = cls(base)
        for folder in sorted(place for place in results.glob(f"{base}*") if place.is_dir()):
            archive.folders[folder.name] = dict(archive._readable(folder))
        return archive

    def _readable(self, folder: Path) -> Iterator[tuple[str, Committed]]:
        for file in sorted(folder.glob("*.json")):
            if file.name == STEP_TIME:
                continue
            try:
                yield file.stem, read_committed(file)
            except ValueError as error:
                self.faults.append(str(error))

    @property
    def own(self) -> Rows:
        """The rows of the tables, seed 0."""
        return self.folders.get(self.base, {})

    @property
    def grids(self) -> Rows:
        """The cells of all grids."""
        return self.folders.get(f"{self.base}-grids", {})

    @property
    def seeds(self) -> dict[int, Rows]:
        """By seed."""
        start = f"{self.base}-seed"
        further = {int(name.removeprefix(start)): rows for name, rows in self.folders.items() if name.startswith(start)}
        return dict(sorted(({0: self.own} | further).items()))


def read_committed(file: Path) -> Committed:
    """A result and ``NAME.rows.jsonl`` beside it. Raises ValueError, naming the file and the remedy."""
    result, beside = read_result(file), file.with_suffix(".rows.jsonl")
    if result.id != file.stem:
        raise ValueError(f"{file} holds the row of id {result.id!r}: {REMEDY}")
    if not beside.is_file():
        raise ValueError(f"{beside} is absent, so that nothing proves {file.name}: {REMEDY}")
    rows = read_lines(beside)
    if not all(isinstance(row, dict) and "sample" in row for row in rows):
        raise ValueError(f"{beside} has a line that is no row of a pair: {REMEDY}")
    return Committed(result, read_json(file)["summary"], rows)
