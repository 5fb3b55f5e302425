"""The shipped judge, on portraits it has never seen."""

from dataclasses import replace

import pytest
import torch

from spf.backbones import BASES
from spf.miniature.painter import paint, paint_with_parts, response_region
from spf.miniature.people import IDENTITY, NUISANCE, TARGETS, draw_people
from spf.miniature.reader import BOUNDS, Reader, factor_errors, moments, repaint_residual


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader.load(BASES["miniature"])


def test_it_reads_the_person_back(reader: Reader) -> None:
    people = draw_people(56, 4242, (None, *TARGETS), held_out=True)
    read = reader.read(paint(people)).people()
    assert sum(a.target == b.target for a, b in zip(read, people, strict=True)) > 50
    errors = factor_errors(people, read)
    assert {name for name in errors if name in BOUNDS} == {*IDENTITY, *NUISANCE["home"]}
    assert sum(float(errors[name].mean()) for name in BOUNDS) / len(BOUNDS) < 0.1
    assert float(errors["background_colour"].mean()) < 0.15


def test_a_repainted_portrait_is_near_and_a_blurred_one_is_further(reader: Reader) -> None:
    image = paint(draw_people(12, 7, held_out=True))
    noisy = (image + 0.15 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    near, far = (repaint_residual(some, reader.read(some).people()) for some in (image, noisy))
    assert near.shape == (12,) and near.mean() < 0.03 and (far > near).all()


def test_it_gives_the_true_region_of_an_image_alone(reader: Reader) -> None:
    people = draw_people(10, 11, ("hat", "scarf", "bear", "mohawk", "beard"), held_out=True)
    truth, found = response_region(people), response_region(reader.read(paint(people)).people())
    overlap = torch.minimum(truth, found).sum((1, 2)) / torch.maximum(truth, found).sum((1, 2))
    assert overlap.mean() > 0.7


def test_identity_is_the_same_in_another_studio(reader: Reader) -> None:
    people = draw_people(24, 21, held_out=True)
    others = draw_people(24, 22, ("scarf",), "away", held_out=True)
    again = [replace(other, identity=person.identity) for person, other in zip(people, others, strict=True)]
    a, b = (reader.read(paint(some)).identity for some in (people, again))
    cosines = a @ b.T
    assert cosines.diagonal().mean() > 0.8 > 0.3 > (cosines.sum() - cosines.trace()) / (24 * 23)
    assert torch.allclose(a.norm(dim=1), torch.ones(24))


def test_it_segments(reader: Reader) -> None:
    image, parts = paint_with_parts(draw_people(8, 31, held_out=True))
    truth = torch.stack(list(parts.values()), 1).argmax(1)
    assert float((reader.read(image).parts.argmax(1) == truth).float().mean()) > 0.95


def test_moments_are_mass_centre_and_spread() -> None:
    parts = torch.zeros(1, 2, 101, 101)
    parts[0, 0, 40:61, 60:81] = 1  # a square of 21 pixels, its middle at x = 0.4, y = 0
    parts[0, 1, 50, :] = 1  # a line
    found = moments(parts).view(2, 6)
    side = 21 * 0.02
    assert torch.allclose(found[0, :3], torch.tensor([21**2 / 101**2, 0.4, 0.0]), atol=2e-3)
    assert torch.allclose(found[0, 3:], torch.tensor([side**2 / 12, side**2 / 12, 0.0]), atol=1e-3)
    assert found[1, 3] > 0.3 and abs(found[1, 4]) < 1e-4


def test_other_sizes_are_read_too(reader: Reader) -> None:
    people = draw_people(4, 41, ("bear",), held_out=True)
    read = reader.read(paint(people, 256)).people()
    assert [person.target for person in read] == ["bear"] * 4


def test_nothing_differs_from_itself() -> None:
    people = draw_people(3, 0)
    assert all(float(error.sum()) == 0 for error in factor_errors(people, people).values())
    other = [replace(person, nuisance={**person.nuisance, "tilt": person.nuisance["tilt"] + 0.2}) for person in people]
    errors = factor_errors(people, other)
    assert torch.allclose(errors.pop("tilt"), torch.tensor(0.2 / 0.40)) and sum(map(torch.sum, errors.values())) == 0
