"""The miniature's networks behind the metrics: what they see of painted people, at any size."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from spf.evaluation import miniature
from spf.evaluation.metric import Metric
from spf.evaluation.miniature import ReaderDistance, ReaderFeatures, stages
from spf.miniature.painter import paint
from spf.miniature.people import base_text, draw_people, target_text
from spf.miniature.reader import Reader
from spf.text import Prompt

PEOPLE = draw_people(4, 30, held_out=True)
CHANGED = [replace(person, target="glasses") for person in PEOPLE]
PROMPTS = [Prompt(base_text(person), target_text("glasses")) for person in PEOPLE]
LOADERS = (miniature.lpips, miniature.identity, miniature.clip, miniature.segmentation)


@pytest.fixture(scope="module")
def reader() -> Reader:
    return miniature._reader(torch.device("cpu"))


def painted(people: list, resolution: int = 128) -> Tensor:
    return (paint(people, resolution) * 255).round().to(torch.uint8)


def means(metric: Metric, originals: Tensor, customised: Tensor) -> dict[str, float]:
    with torch.no_grad():
        if metric.of == "pair":
            rows = metric.score([{}] * 4, metric.encode(customised, PROMPTS, originals), PROMPTS)
        else:
            rows = metric.score(*(metric.encode(images, PROMPTS, None) for images in (originals, customised)), PROMPTS)
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)
def test_glasses_cost_less_than_another_person(load: object) -> None:
    metric = load(Path(), torch.device("cpu"))
    same, glasses, other = (means(metric, painted(PEOPLE), painted(people))
                            for people in (PEOPLE, CHANGED, PEOPLE[1:] + PEOPLE[:1]))
    key = metric.columns[0].key
    sign = 1 if metric.columns[0].higher_is_better else -1
    assert sign * same[key] > sign * glasses[key] > sign * other[key]
    if key == "clip_i":
        assert glasses["clip_t_gain"] > 0.1, "the target's text is nearer to who wears it"


def test_a_face_is_found_in_everything() -> None:
    metric = miniature.identity(Path(), torch.device("cpu"))
    found = means(metric, painted(PEOPLE), torch.zeros(4, 3, 40, 60, dtype=torch.uint8))
    assert found["face_found"] == 1 and -1 <= found["id"] < 0.9


def test_features_are_of_any_size_and_of_each_image_alone(reader: Reader) -> None:
    extractor, images = ReaderFeatures(reader), painted(PEOPLE)
    with torch.no_grad():
        features, alone = extractor(images), extractor(images[1:2])
        assert features.shape == (4, extractor.num_features) and torch.allclose(features[1:2], alone, atol=1e-5)
        large = extractor(painted(PEOPLE, 192))
        assert large.shape == features.shape and (large - features).norm() < 0.3 * features.norm()
        maps = stages(reader, images / 127.5 - 1)
    assert [(m.shape[1], m.shape[2]) for m in maps] == [(24, 64), (48, 32), (96, 16), (128, 8)]
    assert all(m.min() >= 0 for m in maps), "two unit vectors are two apart at most"


def test_distances_are_from_nothing_to_one(reader: Reader) -> None:
    distance, images = ReaderDistance(reader), paint(PEOPLE, 128) * 2 - 1
    with torch.no_grad():
        assert (distance(images, images) == 0).all()
        apart = distance(images, torch.randn_like(images).clamp(-1, 1))
    assert apart.shape == (4,) and apart.min() > 0.05 and apart.max() <= 1


def test_long_texts_are_said_to_be_cut() -> None:
    towers = miniature.clip(Path(), torch.device("cpu")).towers
    assert towers.truncated(["a woman", "a woman " * 200]) == [False, True]
