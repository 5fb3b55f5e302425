"""CLIP-I and CLIP-T (paper, Table 1): how near portraits are to their originals and to their texts, in CLIP's space."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from spf.evaluation.metric import Encoding, Metric
from spf.evaluation.open_clips import VIT_B_32, VIT_L_14, PublishedClip
from spf.notation import Column
from spf.text import Prompt

BATCH = 8  # texts that are embedded at a time


class Towers(Protocol):
    """Images and texts as unit vectors of one space; ``OpenClip`` is one."""

    def image(self, images: Tensor) -> Tensor:
        """(B,3,H,W) uint8 on the CPU -> unit vectors (B,E)."""

    def text(self, texts: Sequence[str]) -> Tensor:
        """B texts -> unit vectors (B,E)."""

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Of each text, whether its end is not read."""

    def describe(self) -> dict[str, Any]:
        """What decides the vectors, for JSON."""


class Read(NamedTuple):
    """A text, as the towers read it."""

    vector: Tensor  # (E,) of unit length, on the CPU
    truncated: bool


class Texts:
    """Reads texts, each of them once."""

    def __init__(self, towers: Towers) -> None:
        self.towers = towers
        self._read: dict[str, Read] = {}

    def read(self, texts: Iterable[str]) -> Mapping[str, Read]:
        """By text, all that was ever asked for; ``texts`` are among them."""
        new = [text for text in dict.fromkeys(texts) if text not in self._read]
        for start in range(0, len(new), BATCH):
            some = new[start:start + BATCH]
            # a full batch always: the last bits depend on how many are read at once, and so on what was read before
            vectors = self.towers.text(some + some[:1] * (BATCH - len(some))).cpu()
            self._read |= zip(some, map(Read, vectors, self.towers.truncated(some)), strict=True)
        return self._read


class Cosines(Metric):
    """A metric of cosines in one CLIP's space. An image's encoding is its vector: {"vector": (E,)}."""

    clip: ClassVar[PublishedClip]

    def __init__(self, towers: Towers) -> None:
        self.towers, self.texts = towers, Texts(towers)

    @classmethod
    def published(cls, folder: Path, device: torch.device) -> "Cosines":
        """With the published weights. Raises WeightsAbsent, or ValueError for a file that is not what it should be."""
        return cls(cls.clip.load(folder, device))

    def encode(self, images: Tensor, prompts: Sequence[Prompt], originals: Tensor | None) -> list[Encoding]:
        """B vectors, whatever the prompts."""
        return [{"vector": vector} for vector in self.towers.image(images).cpu()]

    def score(self, originals: Sequence[Encoding], customised: Sequence[Encoding],
              prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Raw cosines in [-1,1], neither clamped nor times 100."""
        read = self.texts.read(text for prompt in prompts for text in (*self.asked(prompt), prompt.base_text))
        return [self.row(original["vector"], custom["vector"], prompt, read)
                for original, custom, prompt in zip(originals, customised, prompts, strict=True)]

    @abstractmethod
    def asked(self, prompt: Prompt) -> Sequence[str]:
        """The texts that the portrait is held against, beside the base text."""

    @abstractmethod
    def row(self, original: Tensor, customised: Tensor, prompt: Prompt, read: Mapping[str, Read]) -> dict[str, float]:
        """The numbers of one pair of vectors (E,); ``read`` holds the prompt's texts."""

    def describe(self) -> dict[str, Any]:
        """The towers'."""
        return self.towers.describe()


class ClipScore(Cosines):
    """CLIP-I, the cosine of original and customised; CLIP-T, that of the customised and the target text alone.

    Alone, for it is what was asked for beyond the original: the paper's 0.12 to 0.17 of rows that keep the original
    and ignore the target fit no text that also describes the original. Beside them:

        clip_t_original     the original's CLIP-T; clip_t_gain is what the customised has more
        clip_t_full         the customised's cosine with the full text, [base, target]
        clip_t_drift        the customised's cosine with the base text, less the original's (PureCC's, arXiv 2603.07561)
        caption_truncated   1.0 where the end of either text was cut, else 0.0

    Without a target text a row has nothing of CLIP-T but the drift.
    """

    columns = (Column("clip_i", "CLIP-I", "Preservation", True), Column("clip_t", "CLIP-T", "Responsiveness", True),
               Column("clip_t_gain", "CLIP-T gain", "More", True, 3),
               Column("clip_t_full", "CLIP-T (full text)", "More", True),
               Column("clip_t_drift", "CLIP-T drift (base text)", "More", True, 3))
    clip = VIT_L_14
    suffix: ClassVar[str] = ""  # of every key

    def asked(self, prompt: Prompt) -> Sequence[str]:
        """The target text, and the full text."""
        return prompt.target_text, prompt.full_text

    def row(self, original: Tensor, customised: Tensor, prompt: Prompt, read: Mapping[str, Read]) -> dict[str, float]:
        """CLIP-I, CLIP-T and what stands beside them."""
        base, target = read[prompt.base_text], read[prompt.target_text]
        row = {"clip_i": cosine(original, customised),
               "clip_t_drift": cosine(customised, base.vector) - cosine(original, base.vector),
               "clip_t_full": cosine(customised, read[prompt.full_text].vector),
               "caption_truncated": float(base.truncated or target.truncated)}
        if prompt.target_text:
            row["clip_t"], row["clip_t_original"] = cosine(customised, target.vector), cosine(original, target.vector)
            row["clip_t_gain"] = row["clip_t"] - row["clip_t_original"]
        return {key + self.suffix: value for key, value in row.items()}


class ClipScoreB32(ClipScore):
    """The same by ViT-B/32, since the paper does not say which CLIP it used."""

    columns = tuple(replace(column, key=f"{column.key}_b32", label=f"{column.label}, ViT-B/32", group="More")
                    for column in ClipScore.columns)
    clip = VIT_B_32
    suffix = "_b32"


def cosine(a: Tensor, b: Tensor) -> float:
    """Of unit vectors (E,), in float64."""
    return float(a.double() @ b.double())
