import pytest
import torch
from torch import Tensor

from spf.stages import remembered
from spf.stages.remembered import OncePerPortrait, OncePerText


def test_a_portrait_is_computed_once_and_always_in_its_whole_batch() -> None:
    calls: list[int] = []

    def compute(images: Tensor) -> Tensor:
        calls.append(len(images))
        return images * 2

    once, images = OncePerPortrait(compute), torch.arange(3.0)[:, None]
    assert torch.equal(once("abc", images), images * 2)
    assert torch.equal(once("ca", images[:2] + 9), torch.tensor([[4.0], [0.0]]))  # as first seen
    once("ad", images[:2])
    assert calls == [3, 2]


def test_a_text_is_computed_once_and_alone() -> None:
    asked: list[list[str]] = []

    def compute(texts: list[str]) -> Tensor:
        asked.append(texts)
        return torch.tensor([[float(len(text))] for text in texts])

    once = OncePerText(compute)
    assert once(["a", "bb", "a"]).tolist() == [[1], [2], [1]] and once(["bb"]).tolist() == [[2]]
    assert asked == [["a"], ["bb"]]


def test_the_memory_of_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_TEXTS", 2)
    once = OncePerText(lambda texts: torch.zeros(1, 1))
    for text in "abcdef":
        once([text])
    assert len(once.kept) <= 3
