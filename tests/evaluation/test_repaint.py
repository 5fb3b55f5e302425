"""The repaint residual by the shipped reader, on portraits that it has never seen."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spf.evaluation.repaint import NAMED, RepaintResidual
from spf.miniature.painter import paint
from spf.miniature.people import TARGETS, Person, draw_people, target_index
from spf.text import Prompt

GLASSES = Prompt("a woman", " with round glasses ")


@pytest.fixture(scope="module")
def metric() -> RepaintResidual:
    return RepaintResidual.shipped()


def painted(people: list[Person], resolution: int = 128) -> Tensor:
    return (paint(people, resolution) * 255).round().to(torch.uint8)


def test_the_paintable_is_near_and_noise_is_far(metric: RepaintResidual) -> None:
    people = draw_people(6, 7, (None, "bear", "old"), held_out=True)
    noise = torch.randint(0, 256, (2, 3, 96, 160), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen = [metric.encode(images, [GLASSES] * len(images), None) for images in (painted(people), noise)]
    near, far = (torch.stack([one["residual"] for one in some]) for some in seen)
    assert near.mean() < 0.03 and near.max() < 0.1 < 0.15 < far.min() and far.max() <= 1
    assert [int(one["target"]) for one in seen[0]] == [target_index(person.target) for person in people]


def test_size_hardly_matters_and_neighbours_not_at_all(metric: RepaintResidual) -> None:
    people = draw_people(4, 8, ("scarf",), held_out=True)
    small, large = (metric.encode(painted(people, side), [GLASSES] * 4, None) for side in (128, 256))
    for one, other in zip(small, large, strict=True):
        assert float(one["residual"]) == pytest.approx(float(other["residual"]), abs=0.02)
        assert int(one["target"]) == int(other["target"]) == target_index("scarf")
    alone, = metric.encode(painted(people)[2:3], [GLASSES], None)
    assert float(alone["residual"]) == pytest.approx(float(small[2]["residual"]), abs=1e-5)


def test_a_glasses_wearer_is_read_as_such(metric: RepaintResidual) -> None:
    before = draw_people(4, 9, held_out=True)
    original, customised = (metric.encode(painted(people), [GLASSES] * 4, None)
                            for people in (before, [replace(person, target="glasses") for person in before]))
    asked = [GLASSES, GLASSES, Prompt("a woman", "wearing a brown hat"), Prompt("a woman", "an owl")]
    rows = metric.score(original, customised, asked)
    assert [row.get("target_read") for row in rows] == [1.0, 1.0, 0.0, None]
    assert all(row["repaint"] == float(one["residual"]) for row, one in zip(rows, customised, strict=True))
    assert all(row["repaint_original"] == float(one["residual"]) for row, one in zip(rows, original, strict=True))
    assert metric.score(customised, original, asked)[0]["target_read"] == 0.0


def test_every_wording_names_its_target(metric: RepaintResidual) -> None:
    assert len(NAMED) == sum(map(len, TARGETS.values())) and NAMED["with bold makeup on the face"] == 8
    assert [column.key for column in metric.columns] == ["repaint", "target_read"]
    assert len(metric.describe()["weights"]) == 64
