"""What a metric is: it encodes images one by one, scores pairs of encodings, and says by which network and how.

An encoding depends on its image's bytes alone (or also on the text, or on the original), so it is kept by content: the
originals are encoded once for all methods that are compared, and what was interrupted goes on where it stopped.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torchmetrics
from torch import Tensor

from spf.notation import Column
from spf.text import Prompt

Encoding = dict[str, Tensor]
"""What a metric keeps of one image: small tensors on the CPU."""


class Metric(ABC):
    """One way to compare customised portraits with their originals and texts. Networks are passed in, never fetched."""

    columns: ClassVar[tuple[Column, ...]]  # what it prints, in order
    of: ClassVar[Literal["image", "image and text", "pair"]] = "image"  # what an encoding depends on
    same_size: ClassVar[bool] = False  # whether a pair of unequal sizes cannot be scored
    by_full_text: ClassVar[bool] = False  # whether images are judged by the full text: unfair to base text alone

    @abstractmethod
    def encode(self, images: Tensor, prompts: Sequence[Prompt], originals: Tensor | None) -> list[Encoding]:
        """Encodings of B images, each independent of the others.

        ``images``: (B,3,H,W) uint8 RGB on the CPU, any size; ``prompts``: what each pair was asked for;
        ``originals``: (B,3,H,W) uint8 for a metric ``of`` pairs (whose images are then the customised), else None.
        """

    @abstractmethod
    def score(self, originals: Sequence[Encoding], customised: Sequence[Encoding],
              prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """A row of numbers for each of n pairs, by column key or the name of something extra to be averaged.

        What cannot be said of a pair is left out of its row. ``originals`` are empty for a metric ``of`` pairs.
        """

    def whole(self, count: int) -> dict[str, torchmetrics.Metric]:
        """By column key, what is computed of all ``count`` pairs together (FID): see ``spf.evaluation.summed``."""
        return {}

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What decides its numbers, for JSON: network, SHA-256 of its weights, preprocessing, thresholds, versions."""
