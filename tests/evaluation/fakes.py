"""Metrics without networks, pictures to measure, and one small test set."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spf.backbones import load_backbone
from spf.customised import PREFIX
from spf.evaluation.encoding import Pair
from spf.evaluation.metric import Encoding, Metric
from spf.evaluation.summed import SummedMetric
from spf.evaluation.triples import triples
from spf.notation import Column
from spf.text import Prompt


class Counted(SummedMetric):
    """How many pairs it was given, and the sum of what they hold."""

    whole_of = "mean"

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("seen", dtype=torch.int64)
        self.add_sum("total")

    def update(self, index: Tensor, originals: Tensor, customised: Tensor) -> None:
        """Take n pairs."""
        assert len(index) == len(originals) == len(customised)
        self.seen += len(index)
        self.total += originals.double().sum() + customised.double().sum()

    def compute(self) -> Tensor:
        """The mean of all."""
        return self.total / (2 * self.seen)


class Brightness(Metric):
    """The difference of the mean values of two images, of whatever size; it remembers the batches it has seen."""

    columns = (Column("brighter", "Brighter", "More", True), Column("brightness", "Brightness", "More", True))

    def __init__(self) -> None:
        self.batches: list[tuple[float, ...]] = []

    @property
    def encoded(self) -> int:
        """Images."""
        return sum(map(len, self.batches))

    def encode(self, images: Tensor, prompts: Sequence[Prompt], originals: Tensor | None) -> list[Encoding]:
        """{"mean": ()}."""
        assert images.dtype == torch.uint8 and images.shape[1] == 3 and originals is None
        assert not torch.is_autocast_enabled("cpu") and not torch.is_grad_enabled()
        means = images.float().mean((1, 2, 3))
        self.batches.append(tuple(means.tolist()))
        return [{"mean": mean.clone()} for mean in means]

    def score(self, originals: Sequence[Encoding], customised: Sequence[Encoding],
              prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Of each pair."""
        return [{"brighter": float(after["mean"] - before["mean"])}
                for before, after in zip(originals, customised, strict=True)]

    def whole(self, count: int) -> dict[str, SummedMetric]:
        """The mean of all."""
        return {"brightness": Counted()}

    def describe(self) -> dict[str, Any]:
        """Its kind."""
        return {"network": type(self).__name__}


class Blind(Brightness):
    """Its network gives no number for black."""

    def encode(self, images: Tensor, prompts: Sequence[Prompt], originals: Tensor | None) -> list[Encoding]:
        """Not a number where the mean is 0."""
        return [{"mean": one["mean"].where(one["mean"] > 0, torch.nan)}
                for one in super().encode(images, prompts, originals)]


class Apart(Metric):
    """The mean distance of both images of a pair, place by place."""

    columns = (Column("apart", "Apart", "More", False),)
    of = "pair"
    same_size = True

    def encode(self, images: Tensor, prompts: Sequence[Prompt], originals: Tensor | None) -> list[Encoding]:
        """{"apart": ()}."""
        assert originals is not None and originals.shape == images.shape
        return [{"apart": one} for one in (images.float() - originals.float()).abs().mean((1, 2, 3))]

    def score(self, originals: Sequence[Encoding], customised: Sequence[Encoding],
              prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Of each pair."""
        assert not any(originals)
        return [{"apart": float(one["apart"])} for one in customised]

    def describe(self) -> dict[str, Any]:
        """Its kind."""
        return {"network": "apart"}


class Worded(Brightness):
    """The same of the image and the length of what was asked for."""

    of = "image and text"

    def encode(self, images: Tensor, prompts: Sequence[Prompt], originals: Tensor | None) -> list[Encoding]:
        """{"mean": ()}."""
        return [{"mean": one["mean"] + len(prompt.full_text)}
                for one, prompt in zip(super().encode(images, prompts, originals), prompts, strict=True)]


def noise_file(path: Path, seed: int, size: tuple[int, int] = (8, 8)) -> Path:
    """A picture of noise, (height, width), in the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(1, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def noise_pairs(folder: Path, count: int) -> list[Pair]:
    """Pairs of noise, no two pictures alike."""
    return [Pair(f"{i:03d}", noise_file(folder / "originals" / f"{i:03d}.png", i),
                 noise_file(folder / "customised" / f"{i:03d}.png", 1000 + i), Prompt("a woman", "a hat" * (i % 3)))
            for i in range(count)]


def six_triples(base: Path) -> Path:
    """A test set of six, in three chunks of two. To be copied, not changed."""
    return some_triples(base, 6, 2)


@cache
def some_triples(base: Path, count: int, chunk: int) -> Path:
    """A test set by the tiny model, beside its folder; made once."""
    return triples(str(base), count, base.parent / f"{count}_triples", steps=2, chunk=chunk, devices=1)


def learnt(base: Path, file: Path, seed: int = 0) -> Path:
    """A training checkpoint of the tiny model whose every weight has moved a little."""
    backbone, draw = load_backbone(base), torch.Generator().manual_seed(seed)
    weights = {PREFIX + name: value + 0.02 * torch.randn(value.shape, generator=draw)
               for name, value in backbone.denoiser.state_dict().items()}
    torch.save({"state_dict": weights, "hyper_parameters": {"base": str(base)}, "global_step": 3,
                "PortraitData": {"samples_seen": 48}}, file)
    return file
