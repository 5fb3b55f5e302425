"""What is measured: painted portraits as PNG files, their originals and what two methods made of them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from spf.evaluation.encoding import Pair
from spf.miniature.painter import paint
from spf.miniature.people import base_text, draw_people, target_text
from spf.pictures import save_png
from spf.text import Prompt

SEED = 51_000
FIRST, SECOND = "glasses", "hat"
"""What two methods paint; both were asked for the first."""
GRAIN = 0.02  # of photographs: a flat picture is compressed to nothing, and read in no time


@dataclass(frozen=True)
class Portraits:
    """``count`` square portraits in three subfolders of ``folder``: originals, and both methods'."""

    folder: Path
    prompts: Sequence[str]  # the base text of each

    @classmethod
    def painted(cls, folder: Path, count: int, size: int) -> "Portraits":
        """``size`` pixels a side, each with a red square where the detector of ``metering.faces`` sees a face."""
        people = draw_people(count, SEED, (FIRST,), "away")
        for kind, target in (("originals", None), (FIRST, FIRST), (SECOND, SECOND)):
            images = paint([replace(person, target=target) for person in people], size)
            draw = torch.Generator().manual_seed(SEED)
            for index, image in enumerate(images + GRAIN * torch.randn(images.shape, generator=draw)):
                save_png(_marked(image), folder / kind / f"{index:03d}.png")
        return cls(folder, [base_text(person) for person in people])

    def fresh(self, method: str, place: Path) -> list[Pair]:
        """The originals and one method's portraits, copied to ``place``: of new files no process remembers a hash."""
        for kind in ("originals", method):
            shutil.copytree(self.folder / kind, place / kind)
        return [Pair(f"{index:03d}", place / "originals" / f"{index:03d}.png", place / method / f"{index:03d}.png",
                     Prompt(text, target_text(FIRST))) for index, text in enumerate(self.prompts)]


def _marked(image: Tensor) -> Tensor:
    side = image.shape[-1]
    middle = slice(side * 7 // 16, side * 9 // 16)
    image = image.clone()
    image[:, middle, middle] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    return image
