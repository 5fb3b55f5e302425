import pytest
import torch

from spf.report.figures_chart import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    LEGEND,
    LEVEL,
    RIGHT,
    TOP,
    WIDTH,
    Curve,
    Panel,
    drawn,
    limits,
    ticks,
)


def where(picture: torch.Tensor, colour: tuple[int, int, int]) -> torch.Tensor:
    """(rows, columns) of a colour, inside the plots."""
    plots = (picture * 255).round().byte()[:, TOP:HEIGHT - BOTTOM]
    return (plots == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(0).nonzero()


def test_a_curve_runs_from_its_least_to_its_greatest_place() -> None:
    picture = drawn([Panel("step", "score", [Curve("ours", [(0, 1.0), (10, 3.0)])])], ["ours"])
    assert picture.shape == (3, HEIGHT + LEGEND, WIDTH) and 0 <= picture.min() and picture.max() == 1
    spots = where(picture, COLOURS[0])
    left, right = spots[spots[:, 1].argmin()], spots[spots[:, 1].argmax()]
    assert left[0] > right[0]  # rises: a higher value is a lesser row
    room, plot = 0.06, WIDTH - LEFT - RIGHT
    assert abs(int(left[1]) - (LEFT + plot * room / (1 + 2 * room))) <= 6


def test_each_curve_has_the_colour_of_its_name_in_every_panel() -> None:
    curves = [Curve("a", [(0, 0.0), (1, 0.0)]), Curve("b", [(0, 1.0), (1, 1.0)])]
    picture = drawn([Panel("x", "y", curves), Panel("x", "y", curves[1:])], ["a", "b"])
    a, b = (where(picture, colour) for colour in COLOURS[:2])
    assert a[:, 1].max() < WIDTH < b[:, 1].max() and a[:, 0].min() > b[b[:, 1] < WIDTH, 0].max()


def test_panels_share_a_scale_only_where_asked_to() -> None:
    panels = [Panel("x", "y", [Curve("a", [(0, low), (1, low + 1)])]) for low in (0.0, 9.0)]
    heights = [[set(where(drawn(panels, ["a"], shared=shared)[:, :, half], COLOURS[0])[:, 0].tolist())
                for half in (slice(0, WIDTH), slice(WIDTH, 2 * WIDTH))] for shared in (False, True)]
    assert heights[0][0] == heights[0][1] and not heights[1][0] & heights[1][1]


def test_the_level_and_the_intervals_lie_inside_the_plot() -> None:
    picture = drawn([Panel("x", "y", [Curve("a", [(0, 1.0)], [(0.0, 2.0)])], level=-3)], ["a"])
    level, line = where(picture, LEVEL), where(picture, COLOURS[0])
    assert level[:, 0].min() > line[:, 0].max()
    assert line[:, 0].max() - line[:, 0].min() > 50  # the interval, not the dot alone


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.3, 12_345), (4.013, 4.503), (1e-4, 3e-4)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7 and low <= found[0] and found[-1] <= high
    assert all(len(f"{tick:.6g}") <= 8 for tick in found)


def test_one_value_alone_has_limits_around_it() -> None:
    assert limits([0.0]) == (-0.1, 0.1) and limits([5.0]) == (4.5, 5.5)
