"""A table as it is printed in any format: cells, rows, captions and footnotes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from spf.notation import Column


@dataclass(frozen=True)
class Cell:
    """One number: what was measured, and beside it what is to be shown with it; None is not shown."""

    value: float | None = None
    ci95: tuple[float, float] | None = None
    paper: Decimal | None = None  # as the paper prints it
    note: int | None = None  # which footnote, from 1
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One method; ``result`` and ``base`` say which file its numbers are from."""

    label: str
    result: str
    base: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Rows under columns; ``facts`` are the caption's, ``notes`` the footnotes, ``absent`` what was not measured."""

    number: int | None
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """Number and title."""
        return self.title if self.number is None else f"Table {self.number}: {self.title}"


def with_best(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[Row, ...]:
    """The same rows, the best of each column marked; equal as printed is equally good, and one alone is not best."""
    marks = [_best(column, [row.cells[place] for row in rows]) for place, column in enumerate(columns)]
    return tuple(
        replace(row, cells=tuple(replace(cell, best=mark[number]) for cell, mark in zip(row.cells, marks, strict=True)))
        for number, row in enumerate(rows))


def _best(column: Column, cells: Sequence[Cell]) -> list[bool]:
    printed = [None if cell.value is None else float(number(cell.value, column)) for cell in cells]
    measured = [value for value in printed if value is not None]
    if len(measured) < 2:
        return [False] * len(cells)
    best = max(measured) if column.higher_is_better else min(measured)
    return [value == best for value in printed]


def number(value: float, column: Column) -> str:
    """As printed: two decimals, or more where the column has more."""
    return f"{value:.{max(2, column.decimals)}f}"
