"""What the paper lets expect: which of two rows is better in a column, from its own numbers (Tables 1, 5 and 6)."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from spf.notation import Column
from spf.report.paper import EIGHT, TABLE_1, TABLE_5, TABLE_6

STANDARD, OURS = "standard_fine_tuning", "ours"
BASELINES = ("lora", "adalora", "tokencompose", "magnet", "storm")
UNMEASURED = {"hpsv2_1", "mps"}  # the miniature has no networks for them
FIRST, WIDTH = "# Signs:    ", 120


@dataclass(frozen=True)
class Sign:
    """In ``column``, ``row`` is better, or worse, than ``other``."""

    row: str
    other: str
    column: Column
    better: bool


def printed() -> dict[str, dict[str, Decimal]]:
    """The paper's numbers by id and column, of the rows on its UNet."""
    return {row.id: dict(zip([column.key for column in table.columns], row.numbers, strict=True))
            for table in (TABLE_1, TABLE_5, TABLE_6) for row in table.rows if row.role == "own"}


def others(row: str) -> tuple[str, ...]:
    """Against which rows one is held: all against ours, a baseline against standard fine-tuning before."""
    return () if row == OURS else (STANDARD, OURS) if row in BASELINES else (OURS,)


def signs() -> list[Sign]:
    """Every one, once; where the paper prints the same number twice there is none."""
    numbers = printed()
    return [Sign(row, other, column, (numbers[row][column.key] > numbers[other][column.key]) == column.higher_is_better)
            for row in numbers for other in others(row) for column in EIGHT
            if numbers[row][column.key] != numbers[other][column.key]]


def expected(row: str) -> str:
    """A line for the head of a row's YAML; "" for a row of which the paper says nothing."""
    return "; ".join(filter(None, (_against(row, other) for other in others(row))))


def _against(row: str, other: str) -> str:
    """Such as "better than ours in FID and LPIPS, worse in CLIP-T"."""
    said = [sign for sign in signs() if (sign.row, sign.other) == (row, other) and sign.column.key not in UNMEASURED]
    parts = [(word, [sign.column.label for sign in said if sign.better == better])
             for word, better in (("better", True), ("worse", False))]
    words = [f"{word} in {_listed(labels)}" for word, labels in parts if labels]
    return ", ".join(words).replace(" in ", f" than {other} in ", 1)


def _listed(labels: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(labels[:-1]), labels[-1]]))


def header(row: str) -> str:
    """The same as comment lines; "" likewise."""
    following = "#".ljust(len(FIRST))
    return "\n".join(textwrap.wrap(expected(row), WIDTH, initial_indent=FIRST, subsequent_indent=following,
                                   break_on_hyphens=False, break_long_words=False))
