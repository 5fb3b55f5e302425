"""Markdown of the report's numbers: tables, means, and which columns there are to show."""

from collections.abc import Iterable, Sequence

from comparing.reading import Rows
from spf.notation import Column
from spf.report.cells import number
from spf.report.paper import EIGHT

BESIDE = ("target_read", "repaint")  # which the paper does not have: whether the target is there, and what else changed


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines, a blank one first and last; the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["", *("| " + " | ".join(cells) + " |" for cells in lines), ""]


def columns(rows: Rows) -> list[Column]:
    """What was measured of the paper's eight, and what stands beside them."""
    carried = {key: column for one in rows.values() for key, column in one.result.columns.items()}
    wanted = [*EIGHT, *(carried[key] for key in BESIDE if key in carried)]
    return [column for column in wanted if any(one.mean(column.key) is not None for one in rows.values())]


def titled(some: Iterable[Column]) -> list[str]:
    """With their arrows."""
    return [f"{column.label} ({'↑' if column.higher_is_better else '↓'})" for column in some]


def means(rows: Rows, name: str, some: Iterable[Column]) -> list[str]:
    """A row's cells; "-" for what was not measured."""
    return [shown(rows[name].mean(column.key) if name in rows else None, column) for column in some]


def shown(value: float | None, column: Column) -> str:
    """One digit more than in the paper's tables, in which neighbours could look the same."""
    return "-" if value is None else number(value, Column(**{**vars(column), "decimals": max(3, column.decimals)}))
