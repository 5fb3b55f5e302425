"""Where the phrases of a portrait are: the seam that gives TokenCompose its masks.

From PNGs in a folder, ``<id of the portrait>/<phrase>.png`` or ``<number of the phrase, from 0>.png``, and
``target.png`` for its target text. White is the phrase's. In the name a phrase stands in small letters, all but letters
and digits as "_" ("a_brown_jacket.png"). ``spf portraits masks`` makes such a folder from boxes, by SAM.

Or from the painter, on painted portraits.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from spf.miniature.painter import changed, paint, paint_with_parts
from spf.miniature.shards import Order
from spf.miniature.truth import REGIONS, phrase_regions
from spf.text import Prompt, phrases

PAINTED, TARGET = "painted", "target"
MOST = 256  # portraits that are looked at to say which share has masks
SIDE = 64  # cells along a mask: those of the finest layer that SD1.5 has


class PhraseMasks(ABC):
    """Seam: the masks of a portrait's phrases."""

    @abstractmethod
    def of(self, name: str, prompt: Prompt) -> Tensor:
        """(P+1,64,64) in [0,1]: the P phrases of the prompt, then its target text; empty where there is no mask."""

    def batch(self, names: Sequence[str], prompts: Sequence[Prompt], count: int) -> Tensor:
        """(B,count+1,64,64), the target text last; ``count`` is the number of phrases that the batch is padded to."""
        found = [self.of(name, prompt) for name, prompt in zip(names, prompts, strict=True)]
        padded = [functional.pad(masks[:-1], (0, 0, 0, 0, 0, count + 1 - len(masks))) for masks in found]
        return torch.stack([torch.cat([some, masks[-1:]]) for some, masks in zip(padded, found, strict=True)])


class FolderMasks(PhraseMasks):
    """PNGs beside the portraits, of the portraits' own shape; the centre is cut out as it is of these.

    Raises FileNotFoundError where there is no such folder, ValueError, naming it, for a file that is no picture.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder of masks {folder}: `spf portraits masks` makes one by SAM, "
                                    f"from boxes; painted portraits need none (model.masks: {PAINTED})")
        self.folder = folder

    def of(self, name: str, prompt: Prompt) -> Tensor:
        of_phrases = [self._first(name, phrase, str(number)) for number, phrase in enumerate(phrases(prompt))]
        return torch.stack([*of_phrases, self._first(name, TARGET)])

    def _first(self, name: str, *called: str) -> Tensor:
        files = [mask_file(self.folder, name, one) for one in called]
        return next((read_mask(file) for file in files if file.is_file()), torch.zeros(SIDE, SIDE))


class PaintedMasks(PhraseMasks):
    """The painter's own parts, and for the target text where the portrait changes without the target.

    Args:
        source: folder of `spf portraits paint`.

    Raises FileNotFoundError where it is none.
    """

    def __init__(self, source: Path) -> None:
        self.order = Order.of(source)
        self._kept: dict[str, dict[str, Tensor]] = {}

    def of(self, name: str, prompt: Prompt) -> Tensor:
        if name not in self._kept:
            self._kept[name] = self._painted(int(name))
        known, nowhere = self._kept[name], torch.zeros(SIDE, SIDE, dtype=torch.bool)
        return torch.stack([known.get(phrase, nowhere) for phrase in (*phrases(prompt), TARGET)]).float()

    def _painted(self, index: int) -> dict[str, Tensor]:
        person = self.order.people(index)[0]
        image, parts = paint_with_parts([person])
        target = changed(image, paint([person.without_target()]))
        seen = torch.cat([phrase_regions(parts)[0], target]) >= 0.5  # (6,R,R)
        regions = dict(zip(REGIONS, _at_side(seen.float()).bool(), strict=True))
        said = self.order.caption(person, index)
        return {TARGET: regions[TARGET]} | {phrase: regions[part] for phrase, part in
                                            zip(said.phrases, said.names, strict=True)}


def phrase_masks(masks: str, source: str) -> PhraseMasks:
    """``painted`` for portraits that `spf portraits paint` made in ``source``, or a folder of PNGs."""
    return PaintedMasks(Path(source)) if masks == PAINTED else FolderMasks(Path(masks))


def mask_file(folder: Path, name: str, phrase: str) -> Path:
    """Where the mask of a phrase (or of its number, or of "target") of the portrait ``name`` lies."""
    return folder / name / (re.sub(r"\W+", "_", phrase.lower()).strip("_") + ".png")


def read_mask(file: Path) -> Tensor:
    """(64,64) in [0,1], over its brightest, from the square in the middle; a cell is as white as its whitest place."""
    try:
        with Image.open(file) as picture:
            grey = torch.from_numpy(np.array(picture.convert("L"), np.float32))
    except Exception as error:  # by format and fault Pillow raises many kinds
        raise ValueError(f"{file} cannot be read as a mask ({error}): make it again, or remove it") from error
    side = min(grey.shape)
    top, left = ((length - side) // 2 for length in grey.shape)
    square = grey[top:top + side, left:left + side]
    return _at_side(square[None] / square.max().clamp(min=1))[0]


@dataclass(frozen=True)
class Shares:
    """What there are masks for, of some portraits: shares from 0 to 1."""

    samples: float  # with a mask for one phrase or more: only they are supervised
    phrases: float  # of all phrases and target texts
    portraits: int  # that were looked at

    def __str__(self) -> str:
        return (f"{self.samples:.0%} of samples are supervised, {self.phrases:.0%} of phrases and targets have a mask "
                f"({self.portraits:,} portraits looked at)")


def shares_supervised(masks: PhraseMasks, table: datasets.Dataset, most: int = MOST) -> Shares:
    """Of the first portraits of a table of ``read_portraits``, by their own texts.

    Raises ValueError where nothing has a mask: TokenCompose would be standard fine-tuning.
    """
    texts = table.select_columns(["id", "base_text", "target_text", "phrases"])
    found = []
    for row in texts.select(range(min(most, len(texts)))):
        prompt = Prompt(row["base_text"], row["target_text"], tuple(row["phrases"]))
        there = masks.of(row["id"], prompt).flatten(1).any(1)  # (P+1,)
        found.append(there if prompt.target_text else there[:-1])
    supervised, every = sum(bool(some.any()) for some in found), torch.cat(found)
    if not supervised:
        raise ValueError(f"none of the first {len(found)} portraits has a mask for any of its phrases: see that "
                         "model.masks is of these portraits (ids and phrases name the files)")
    return Shares(supervised / len(found), every.float().mean().item(), len(found))


def _at_side(masks: Tensor) -> Tensor:
    return functional.adaptive_max_pool2d(masks, SIDE)
