"""From pairs of files to their encodings by a metric: read, batched by size, checked, kept."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

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
        """The pairs that can be scored, and the encodings of both sides; the others go to ``failures``."""
        seen = {pair.id: self._look(pair, failures) for _, pair in chunk}
        chunk = [(place, pair) for place, pair in chunk if seen[pair.id]]
        originals, customised = ([seen[pair.id][side] for _, pair in chunk] for side in (0, 1))
        prompts = [pair.prompt for _, pair in chunk]
        alone = self.metric.of != "pair"
        sides = (self._side(originals, prompts, None) if alone else [{} for _ in chunk],
                 self._side(customised, prompts, None if alone else originals))
        problems = [next((one for one in both if isinstance(one, str)), "") for both in zip(*sides, strict=True)]
        failures |= {pair.id: problem for (_, pair), problem in zip(chunk, problems, strict=True) if problem}
        good = [row for row, problem in enumerate(problems) if not problem]
        return [chunk[row] for row in good], *([side[row] for row in good] for side in sides)

    @cached_property
    def _about(self) -> dict[str, Any]:
        return self.metric.describe()  # asked once: it looks versions up

    def _look(self, pair: Pair, failures: dict[str, str]) -> tuple[Picture, ...]:
        """Both files, or () and a failure."""
        try:
            looks = look_at(pair.original), look_at(pair.customised)
        except PictureError as error:
            failures[pair.id] = str(error)
            return ()
        sizes = [" x ".join(map(str, look.size)) for look in looks]
        if self.metric.same_size and sizes[0] != sizes[1]:
            failures[pair.id] = (f"{pair.customised} has {sizes[1]} pixels and its original {sizes[0]}; what compares "
                                 "places needs one size: bring both to it")
            return ()
        return looks

    def _side(self, pictures: Sequence[Picture], prompts: Sequence[Prompt],
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
            encodings = self.metric.encode(torch.stack([images[row] for row in rows]), [prompts[row] for row in rows],
                                           torch.stack([others[row] for row in rows]) if others else None)
            for row, encoding in zip(rows, encodings, strict=True):
                made[row] = encoding if _is_finite(encoding) else (
                    f"{pictures[row].path}: {type(self.metric).__name__} gave a number that is not finite; look at the "
                    "picture, or leave this metric out")
        return made


def _pixels(picture: Picture) -> torch.Tensor | str:
    try:
        return read_picture(picture.path)
    except PictureError as error:
        return str(error)


def _is_finite(encoding: Encoding) -> bool:
    return all(bool(part.isfinite().all()) for part in encoding.values() if part.is_floating_point())
