"""The best of a column."""

import pytest

from spf.notation import Column
from spf.report.cells import Cell, Row, Table, number, with_best

DOWN, UP = Column("fid", "FID", "Preservation", False), Column("id", "ID", "Preservation", True, decimals=3)


def best(column: Column, *values: float | None) -> list[bool]:
    rows = [Row(str(place), "", "", (Cell(value),)) for place, value in enumerate(values)]
    marked = with_best([column], rows)
    assert [row.label for row in marked] == [row.label for row in rows]
    return [row.cells[0].best for row in marked]


def test_the_arrow_says_what_is_best() -> None:
    assert best(DOWN, 3.0, None, 2.0, 4.0) == [False, False, True, False]
    assert best(UP, 3.0, None, 2.0, 4.0) == [False, False, False, True]


def test_what_is_printed_alike_is_equally_good() -> None:
    assert best(DOWN, 2.004, 2.0, 2.01) == [True, True, False]
    assert best(UP, 2.004, 2.0, 2.01) == [False, False, True]


def test_one_alone_is_not_best() -> None:
    assert best(DOWN, None, 2.0) == [False, False] and best(UP) == []


@pytest.mark.parametrize(("decimals", "text"), [(0, "1.23"), (2, "1.23"), (3, "1.235")])
def test_two_decimals_or_more(decimals: int, text: str) -> None:
    assert number(1.2347, Column("fid", "FID", "", False, decimals)) == text


def test_the_heading_numbers_what_the_paper_numbers() -> None:
    assert Table(6, "Stages", (), ()).heading == "Table 6: Stages" and Table(None, "Other", (), ()).heading == "Other"
