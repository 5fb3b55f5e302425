import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchmetrics.multimodal import CLIPScore

from spf.evaluation.clip_score import ClipScore, ClipScoreB32, Texts
from spf.evaluation.metric import Encoding
from spf.evaluation.open_clips import OpenClip, PublishedClip, crop
from spf.text import Prompt
from tests.evaluation.clips import SIZE, TINY, noise, tiny_network, twin

ANGLES = {"a woman": 0.0, "a hat": 60.0, "a man": 90.0, "": 200.0}  # degrees on the unit circle


class Circle:
    """Towers whose vectors lie on a circle: an image at its first pixel, a text where ANGLES says, others at 0."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def image(self, images: Tensor) -> Tensor:
        return self._at(images[:, 0, 0, 0].tolist())

    def text(self, texts: Sequence[str]) -> Tensor:
        self.calls.append(list(texts))
        return self._at([ANGLES.get(text, 0.0) for text in texts])

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        return [len(text) > 20 for text in texts]

    def describe(self) -> dict[str, Any]:
        return {"network": "circle"}

    @staticmethod
    def _at(degrees: Sequence[float]) -> Tensor:
        return torch.tensor([[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in degrees])


def encoded(metric: ClipScore, *pixels: int) -> list[Encoding]:
    images = torch.tensor(pixels, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
    return metric.encode(images, [Prompt("a woman")] * len(pixels), None)


def test_every_number_of_a_pair() -> None:
    metric = ClipScore(Circle())
    originals, customised = encoded(metric, 0, 30), encoded(metric, 30, 90)
    rows = metric.score(originals, customised, [Prompt("a woman", "a hat"), Prompt("a man")])
    third = math.sqrt(3) / 2
    assert rows[0] == pytest.approx({"clip_i": third, "clip_t": third, "clip_t_original": 0.5, "clip_t_gain":
                                     third - 0.5, "clip_t_full": third, "clip_t_drift": third - 1,
                                     "caption_truncated": 0.0}, abs=1e-6)
    assert rows[1] == pytest.approx({"clip_i": 0.5, "clip_t_full": rows[1]["clip_t_full"], "clip_t_drift": 0.5,
                                     "caption_truncated": 0.0}, abs=1e-6)
    assert metric.score([], [], []) == []


def test_truncation_of_either_text_is_told() -> None:
    metric = ClipScore(Circle())
    prompts = [Prompt("a woman", "a hat"), Prompt("a woman" * 9, "a hat"), Prompt("a woman", "a hat" * 9)]
    rows = metric.score(encoded(metric, 0, 0, 0), encoded(metric, 9, 9, 9), prompts)
    assert [row["caption_truncated"] for row in rows] == [0, 1, 1]


def test_each_text_is_read_once_and_many_at_a_time() -> None:
    metric = ClipScore(towers := Circle())
    prompts = [Prompt(f"a man {number % 40}", "a hat") for number in range(80)]
    for _ in range(2):
        metric.score(encoded(metric, *[0] * 80), encoded(metric, *[9] * 80), prompts)
    assert [len(call) for call in towers.calls] == [8] * 11
    assert len(set(towers.calls[0])) == 8 and not set(towers.calls[0]) & set(towers.calls[1])


def test_the_smaller_clip_says_the_same_under_its_own_keys() -> None:
    (row,), (small,) = ([metric.score(encoded(metric, 0), encoded(metric, 30), [Prompt("a woman", "a hat")])
                         for metric in (ClipScore(Circle()), ClipScoreB32(Circle()))])
    assert small == {f"{key}_b32": value for key, value in row.items()}
    assert {column.key for column in ClipScore.columns} <= row.keys()
    assert {column.key for column in ClipScoreB32.columns} <= small.keys()
    assert [column.group for column in ClipScore.columns] == ["Preservation", "Responsiveness", *["More"] * 3]
    assert {column.group for column in ClipScoreB32.columns} == {"More"}


def test_a_text_is_the_same_to_the_bit_whatever_was_read_before() -> None:
    clip = OpenClip(tiny_network(), "tiny", "random")
    before, after = Texts(clip), Texts(clip)
    after.read([f"a man of {age} years" for age in range(45)])
    assert torch.equal(before.read(["a hat"])["a hat"].vector, after.read(["a woman", "a hat"])["a hat"].vector)


class Plain(nn.Module):
    """A CLIP of transformers as torchmetrics knows it: its features are tensors, as they were before transformers 5."""

    def __init__(self, clip: OpenClip) -> None:
        super().__init__()
        self.inner, self.clip = twin(clip.network), clip
        self.config = self.inner.config

    def get_image_features(self, pixels: Tensor) -> Tensor:
        return self.inner.get_image_features(pixels).pooler_output

    def get_text_features(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.inner.get_text_features(ids, mask).pooler_output

    def process(self, text: list[str] | None = None, images: list[Tensor] | None = None,
                **_: Any) -> dict[str, Tensor]:
        if images is not None:
            return {"pixel_values": crop(torch.stack(images), SIZE)}
        ids = self.clip.tokens(text)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_torchmetrics_gives_a_hundred_times_as_much() -> None:
    clip = OpenClip(tiny_network(seed=5), "tiny", "random")
    metric, plain = ClipScore(clip), Plain(clip)
    originals, customised = noise(4, 3, 40, 30), noise(4, 3, 40, 30, seed=1) // 2
    prompts = [Prompt("a woman", "a hat"), Prompt("a man", "red hair"), Prompt("a girl", "smiling"),
               Prompt("a boy", " ".join(["in a suit, by night,"] * 30))]
    rows = metric.score(*(metric.encode(images, prompts, None) for images in (originals, customised)), prompts)
    for key, others in {"clip_i": originals, "clip_t": [prompt.target_text for prompt in prompts]}.items():
        theirs = CLIPScore(model_name_or_path=lambda: (plain, plain.process))
        theirs.update(customised, others)
        ours = 100 * sum(row[key] for row in rows) / len(rows)
        assert ours > 1 and float(theirs.compute()) == pytest.approx(ours, abs=1e-4)  # theirs is never negative


def test_a_published_file_gives_finite_scores(tmp_path: Path) -> None:
    for published in (ClipScore, ClipScoreB32):
        class Tiny(published):
            clip = PublishedClip(published.clip.weights, TINY)

        file = tmp_path / Tiny.clip.weights.file
        file.parent.mkdir()
        save_file(tiny_network().state_dict(), file)
        metric = Tiny.published(tmp_path, torch.device("cpu"))
        sides = [metric.encode(noise(2, 3, 64, 48, seed=seed), [Prompt("a")] * 2, None) for seed in (0, 1)]
        for row in metric.score(*sides, [Prompt("a woman", "a hat"), Prompt("a man", "a beard")]):
            assert all(math.isfinite(value) and abs(value) <= 2 for value in row.values()) and len(row) == 7
        assert len(metric.describe()["weights"]) == 64
