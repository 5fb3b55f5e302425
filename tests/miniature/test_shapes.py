import math

import pytest
import torch

from spf.miniature.shapes import arc, box, ellipse, ring, stroke, union


def at(x: float, y: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([[[x]]]), torch.tensor([[[y]]])


@pytest.mark.parametrize(("point", "distance"), [((0.5, 0.0), 0.0), ((0.7, 0.0), 0.2), ((0.0, -0.1), -0.4)])
def test_a_circle_is_an_ellipse_with_the_true_distance(point: tuple[float, float], distance: float) -> None:
    assert ellipse(*at(*point), 0.0, 0.0, 0.5, 0.5).item() == pytest.approx(distance, abs=1e-4)


def test_box_distances_by_hand() -> None:
    assert box(*at(0.5, 0.0), 0.0, 0.0, 0.3, 0.2, 0.0).item() == pytest.approx(0.2, abs=1e-4)
    assert box(*at(0.0, 0.0), 0.0, 0.0, 0.3, 0.2, 0.0).item() == pytest.approx(-0.2, abs=1e-4)
    assert box(*at(0.6, 0.6), 0.0, 0.0, 0.3, 0.2, 0.0).item() == pytest.approx(math.hypot(0.3, 0.4), abs=1e-4)


def test_a_stroke_ends_round() -> None:
    for x, distance in ((0.5, -0.1), (1.2, 0.1)):
        assert stroke(*at(x, 0.0), 0.0, 0.0, 1.0, 0.0, 0.1).item() == pytest.approx(distance, abs=1e-4)


def test_an_arc_passes_through_its_lowest_point_and_its_ends() -> None:
    for point in ((0.0, 0.3), (-0.2, 0.2), (0.2, 0.2)):
        assert arc(*at(*point), 0.0, 0.2, 0.2, 0.1, 0.03).item() == pytest.approx(-0.03, abs=1e-4)


def test_ring_and_union() -> None:
    inside = torch.tensor([[[-0.3, 0.0, 0.3]]])
    assert torch.allclose(ring(inside, 0.1), torch.tensor([[[0.2, -0.1, 0.2]]]))
    assert torch.equal(union(inside, -inside), -inside.abs())
