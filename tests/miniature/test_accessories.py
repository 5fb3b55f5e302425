from dataclasses import replace

import pytest
import torch

from spf.miniature.painter import paint_with_parts, response_region
from spf.miniature.people import draw_people

# where a target belongs: (top, bottom) of the picture's height that holds its centre of mass
PLACES = {"hat": (0.0, 0.40), "mohawk": (0.0, 0.45), "glasses": (0.30, 0.60), "beard": (0.45, 0.75),
          "earrings": (0.40, 0.75), "scarf": (0.65, 1.0), "armour": (0.70, 1.0), "bear": (0.70, 1.0),
          "laughing": (0.45, 0.75)}


@pytest.mark.parametrize("target", PLACES)
def test_targets_sit_where_they_belong(target: str) -> None:
    worn = draw_people(16, 3, (target,))
    _, parts = paint_with_parts(worn)
    rows = parts["target"].sum(2)  # (B,R)
    centre = (rows * torch.linspace(0, 1, 128)).sum(1) / rows.sum(1)
    top, bottom = PLACES[target]
    assert ((centre > top) & (centre < bottom)).all(), centre


def test_a_mohawk_replaces_the_hair() -> None:
    worn = draw_people(16, 3, ("mohawk",))
    _, with_mohawk = paint_with_parts(worn)
    _, without = paint_with_parts([person.without_target() for person in worn])
    assert (with_mohawk["hair"].sum((1, 2)) < 0.5 * without["hair"].sum((1, 2))).all()


def test_the_true_region_covers_what_the_target_uncovers() -> None:
    """A mohawk shows the scalp where hair was: the region is larger than the mohawk itself."""
    worn = [replace(person, target="mohawk") for person in draw_people(16, 3)]
    _, parts = paint_with_parts(worn)
    assert (response_region(worn).sum((1, 2)) > 1.5 * parts["target"].sum((1, 2))).all()
