import datasets
import pytest

from spf.portraits.formats import PortraitError
from spf.portraits.problems import LINES, Problems


def table(count: int, bad: int = 0) -> datasets.Dataset:
    """The last `bad` of `count` rows have a problem."""
    return datasets.Dataset.from_dict({"problem": [""] * (count - bad) + [f"bad {row}" for row in range(bad)]})


def test_nothing_is_reported_of_good_portraits():
    assert Problems(table(5), "here", 0).report() == ""


def test_known_problems_are_reported():
    assert Problems(table(200, 2), "here", 0.01).report() == "here: 2 of 200 portraits are bad.\nbad 0\nbad 1"


def test_a_long_report_is_cut_and_counted():
    lines = Problems(table(100, LINES + 5), "here", 0.2).report().splitlines()
    assert len(lines) == LINES + 2 and lines[-1] == "... and 5 more"


@pytest.mark.parametrize(("count", "bad", "fraction"), [(5, 1, 0), (99, 1, 0.01), (200, 3, 0.01), (100, 8, 0.07)])
def test_too_many_are_an_error_that_lists_them(count: int, bad: int, fraction: float):
    with pytest.raises(PortraitError, match=f"{bad} of {count} portraits are bad.\nbad 0(.|\n)*or raise it"):
        Problems(table(count, bad), "here", fraction)
    assert len(Problems(table(count, bad - 1), "here", fraction).found) == bad - 1


def test_problems_met_later_are_told_once_and_counted():
    problems = Problems(table(300, 1), "here", 0.01)
    assert problems.add({299: "bad 0, worded otherwise", 7: "seven"}) == ["seven"]
    assert problems.add({7: "seven"}) == []
    assert problems.add({8: "eight"}) == ["eight"]
    with pytest.raises(PortraitError, match="4 of 300 portraits are bad"):
        problems.add({9: "nine"})


def test_one_must_be_good():
    with pytest.raises(PortraitError):
        Problems(table(3, 3), "here", 1.0)
