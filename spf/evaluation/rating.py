"""Ratings: one number for an image and its text, by a network that reads both together and has a scale of its own."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from spf.evaluation.metric import Encoding, Metric
from spf.text import Prompt


class Rater(Protocol):
    """Rates images by texts; ``MpsNetwork`` and ``RewardNetwork`` do."""

    def __call__(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B,3,H,W) uint8 on the CPU, any size, and B texts -> (B,) raw ratings; a row depends on no other."""

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Of each text, whether its end is not read."""

    def describe(self) -> dict[str, Any]:
        """What decides the ratings, for JSON."""


class PublishedRater(Protocol):
    """A published file, and the network that it fills."""

    def load(self, folder: Path, device: torch.device) -> Rater:
        """With the weights from ``folder``. Raises WeightsAbsent, or ValueError for a bad file."""


class Rating(Metric):
    """A metric of ratings by the full text: it is what the model was asked for. Encoding: {"score": () float32}."""

    of, by_full_text = "image and text", True
    rater: ClassVar[PublishedRater]

    def __init__(self, network: Rater) -> None:
        self.network = network

    @classmethod
    def published(cls, folder: Path, device: torch.device) -> "Rating":
        """With the published weights. Raises WeightsAbsent, or ValueError for a file that is not what it should be."""
        return cls(cls.rater.load(folder, device))

    def encode(self, images: Tensor, prompts: Sequence[Prompt], originals: Tensor | None) -> list[Encoding]:
        """The rating of each image by its prompt's full text, which an original is rated by too."""
        return [{"score": score} for score in self.network(images, [prompt.full_text for prompt in prompts]).cpu()]

    def score(self, originals: Sequence[Encoding], customised: Sequence[Encoding],
              prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """What ``row`` says of each pair."""
        truncated = self.network.truncated([prompt.full_text for prompt in prompts])
        return [self.row(float(original["score"]), float(custom["score"]), cut)
                for original, custom, cut in zip(originals, customised, truncated, strict=True)]

    @abstractmethod
    def row(self, original: float, customised: float, truncated: bool) -> dict[str, float]:
        """The numbers of one pair; ``truncated``: the end of its full text was not read."""

    def describe(self) -> dict[str, Any]:
        """The network's."""
        return self.network.describe()
