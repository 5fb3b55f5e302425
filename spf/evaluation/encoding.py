"""From pairs of files to their encodings by a metric: read, batched by size, checked, kept."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spf.evaluation.images import Picture, PictureError, look_at, read_picture
from spf.evaluation.metric import Encoding, Metric
from spf.evaluation.store import Store, content_key
from spf.text import Prompt

READERS = 8  # pictures that are decoded at a time


@dataclass(frozen=True)
class Pair:
    """An original, what became of it, and what was asked for."""

    id: str
    original: Path
    customised: Path
    prompt: Prompt


Numbered = tuple[int, Pair]  # its place among all pairs


@dataclass(frozen=True)
class Encoder:
    """From the pairs of a chunk to their encodings."""

    metric: Metric
    store: Store

    def encode(self, chunk: Sequence[Numbered],
               failures: dict[str, str]) -> tuple[list[Numbered], list[Encoding], list[Encoding]]:
        """The pairs that can be scored, and the encodings of both sides; the others go to ``failures``.

        The originals are encoded whatever became of them, so that one method's gaps cost no other what is kept.
        """
        prompts = [pair.prompt for _, pair in chunk]
        originals, others = [_look(pair.original) for _, pair in chunk], [_look(pair.customised) for _, pair in chunk]
        others = [self._other_size(*both) or both[1] for both in zip(originals, others, strict=True)]
        if self.metric.of == "pair":
            alone: list[Encoding | str] = [one if isinstance(one, str) else {} for one in originals]
            sides = alone, self._side(others, prompts, originals)
        else:
            sides = self._side(originals, prompts), self._side(others, prompts)
        problems = [next((one for one in both if isinstance(one, str)), "") for both in zip(*sides, strict=True)]
        failures |= {pair.id: problem for (_, pair), problem in zip(chunk, problems, strict=True) if problem}
        good = [row for row, problem in enumerate(problems) if not problem]
        return [chunk[row] for row in good], *([side[row] for row in good] for side in sides)

    @cached_property
    def _about(self) -> dict[str, Any]:
        return self.metric.describe()  # asked once: it looks versions up

    def _other_size(self, original: Picture | str, customised: Picture | str) -> str:
        """What is wrong with the two together, or ""."""
        if isinstance(original, str) or isinstance(customised, str) or not self.metric.same_size:
            return ""
        sizes = [" x ".join(map(str, look.size)) for look in (original, customised)]
        return "" if sizes[0] == sizes[1] else (
            f"{customised.path} has {sizes[1]} pixels and its original {sizes[0]}; what compares places needs one "
            "size: bring both to it")

    def _side(self, looks: Sequence[Picture | str], prompts: Sequence[Prompt],
              partners: Sequence[Picture | str] | None = None) -> list[Encoding | str]:
        """The encoding of each picture, beside its partner where the metric is of pairs; a text where there is none."""
        beside = partners or looks
        found: list[Encoding | str] = [next((one for one in both if isinstance(one, str)), "")
                                       for both in zip(looks, beside, strict=True)]
        good = [row for row, problem in enumerate(found) if not problem]
        made = self._kept([looks[row] for row in good], [prompts[row] for row in good],
                          [beside[row] for row in good] if partners else None)
        for row, encoding in zip(good, made, strict=True):
            found[row] = encoding
        return found

    def _kept(self, pictures: Sequence[Picture], prompts: Sequence[Prompt],
              originals: Sequence[Picture] | None) -> list[Encoding | str]:
        """The encoding of each picture, kept or made; a text that says why there is none."""
        contents = [[picture.sha256 for picture in pictures], [other.sha256 for other in originals or ()],
                    [prompt.full_text for prompt in prompts if self.metric.of == "image and text"]]
        key = content_key(self._about, contents)
        kept = self.store.get(key, len(pictures))
        if kept is not None:
            return list(kept)
        made = self._made(pictures, prompts, originals)
        if not any(isinstance(one, str) for one in made):
            self.store.put(key, made)
        return made

    def _made(self, pictures: Sequence[Picture], prompts: Sequence[Prompt],
              originals: Sequence[Picture] | None) -> list[Encoding | str]:
        with ThreadPoolExecutor(READERS) as pool:
            images, others = (list(pool.map(_pixels, some)) for some in (pictures, originals or pictures[:0]))
        made: list[Encoding | str] = [next((one for one in both if isinstance(one, str)), "")
                                      for both in zip(images, others or images, strict=True)]
        shapes = {row: image.shape for row, image in enumerate(images) if not made[row]}
        for shape in dict.fromkeys(shapes.values()):  # a batch has one size
            rows = [row for row in shapes if shapes[row] == shape]
            encodings = self._encoded([images[row] for row in rows], [prompts[row] for row in rows],
                                      [others[row] for row in rows] if others else None)
            for row, encoding in zip(rows, encodings, strict=True):
                made[row] = f"{pictures[row].path}: {encoding}" if isinstance(encoding, str) else encoding
        return made

    def _encoded(self, images: list[Tensor], prompts: list[Prompt],
                 others: list[Tensor] | None) -> list[Encoding | str]:
        """Of one batch; where the network fails, of each image by itself, so that it fails for the culprit alone."""
        name = type(self.metric).__name__
        try:
            made = self.metric.encode(torch.stack(images), prompts, torch.stack(others) if others else None)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if len(images) == 1:
                return [f"{name} failed: {' '.join(str(error).split())}"]
            return [self._encoded(images[row:row + 1], prompts[row:row + 1], others[row:row + 1] if others else None)[0]
                    for row in range(len(images))]
        return [encoding if _is_finite(encoding) else
                f"{name} gave a number that is not finite; look at the picture, or leave this metric out"
                for encoding in made]


def _look(path: Path) -> Picture | str:
    try:
        return look_at(path)
    except PictureError as error:
        return str(error)


def _pixels(picture: Picture) -> Tensor | str:
    try:
        return read_picture(picture.path)
    except PictureError as error:
        return str(error)


def _is_finite(encoding: Encoding) -> bool:
    return all(bool(part.isfinite().all()) for part in encoding.values() if part.is_floating_point())
