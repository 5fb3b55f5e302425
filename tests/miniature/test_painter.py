from dataclasses import replace

import pytest
import torch

from spf.miniature.painter import GARMENT, HAIR, paint, paint_with_parts, response_region
from spf.miniature.people import IDENTITY, NUISANCE, TARGETS, Person, draw_people


@pytest.fixture(scope="module")
def people() -> list[Person]:
    return draw_people(24, 0)


def test_images_are_images(people: list[Person]) -> None:
    image = paint(people)
    assert image.shape == (24, 3, 128, 128) and image.dtype == torch.float32
    assert 0 <= image.min() and image.max() <= 1 and image.std((1, 2, 3)).min() > 0.05


def test_the_same_person_is_the_same_picture_in_any_company(people: list[Person]) -> None:
    assert torch.equal(paint(people)[5:6], paint(people[5:6]))


def test_parts_sum_to_one_and_show_the_named_colours(people: list[Person]) -> None:
    image, parts = paint_with_parts(people)
    assert torch.equal(image, paint(people))
    assert torch.allclose(sum(parts.values()), torch.ones(24, 128, 128), atol=1e-5)
    for name, attribute, palette in (("hair", "hair_colour", HAIR), ("clothes", "garment_colour", GARMENT)):
        solid = parts[name] > 0.99
        for i, person in enumerate(people):
            hue = image[i].permute(1, 2, 0)[solid[i]].median(0).values
            distances = {value: float((hue - torch.tensor(rgb)).abs().sum()) for value, rgb in palette.items()}
            named = distances[person.attributes[attribute]]
            assert named <= min(distances.values()) + 0.25, (name, person.attributes[attribute], distances)


def test_any_resolution_shows_the_same_portrait(people: list[Person]) -> None:
    small, large = paint(people, 64), paint(people, 256)
    shrunk = torch.nn.functional.interpolate(large, size=64, mode="area")
    assert (small - shrunk).abs().mean() < 0.02


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "pencil"])
def test_a_target_acts_in_its_region_and_nowhere_else(target: str, people: list[Person]) -> None:
    worn = [replace(person, target=target) for person in people]
    region = response_region(worn)
    changed = (paint(worn) != paint(people)).any(1)
    assert torch.equal(region > 0, changed)
    assert 0.002 < region.mean((1, 2)).median() < 0.35


def test_a_pencil_drawing_is_gray_and_changes_the_whole_picture(people: list[Person]) -> None:
    drawn = paint([replace(person, target="pencil") for person in people])
    assert (drawn.amax(1) - drawn.amin(1)).max() < 1e-6
    assert response_region([replace(p, target="pencil") for p in people]).mean() > 0.7


def test_nothing_to_be_judged_is_thinner_than_three_pixels(people: list[Person]) -> None:
    """An opening by 3 px removes nothing but corners from glasses, freckles and wrinkles."""
    for target in ("glasses", "freckles", "old"):
        _, parts = paint_with_parts([replace(person, target=target) for person in people[:6]], 256)
        solid = (parts["target"] > 0.5).float()[:, None]
        eroded = -torch.nn.functional.max_pool2d(-solid, 5, 1, 2)
        opened = torch.nn.functional.max_pool2d(eroded, 5, 1, 2)
        assert opened.sum() / solid.sum() > 0.75, target


def test_identity_and_nuisance_are_visible(people: list[Person]) -> None:
    for group, bounds in (("identity", IDENTITY), ("nuisance", NUISANCE["home"])):
        for name, ends in bounds.items():
            low, high = (paint([replace(p, **{group: {**getattr(p, group), name: end}}) for p in people[:8]])
                         for end in ends)
            assert (low - high).abs().amax((1, 2, 3)).median() > 0.1, name
