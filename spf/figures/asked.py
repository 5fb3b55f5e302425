"""The same texts and seeds, asked of several models: what all figures of portraits share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from spf.backbones import Backbone
from spf.notation import Guidance
from spf.pictures import labelled_grid, save_png
from spf.sampling import generate
from spf.text import Prompt

NO_WORD = re.compile(r"\W+")


@dataclass(frozen=True)
class Asked:
    """Portraits to be made: a prompt and a seed each, and how they are sampled."""

    prompts: list[Prompt]
    seeds: list[int]
    steps: int
    guidance_scale: float

    @classmethod
    def of(cls, base_text: str, target: str, seed: int, count: int, steps: int, guidance_scale: float) -> Asked:
        """``count`` portraits of each base text (of a .txt file: one a line); seeds count up from ``seed``."""
        prompts = [Prompt(text, target) for text in base_texts(base_text) for _ in range(count)]
        return cls(prompts, [seed + number for number in range(len(prompts))], steps, guidance_scale)

    @property
    def base(self) -> Asked:
        """The same without the target: what the original model is asked for."""
        return replace(self, prompts=[prompt.base for prompt in self.prompts])

    def with_target(self, target: str) -> Asked:
        """The same with another target."""
        return replace(self, prompts=[Prompt(prompt.base_text, target) for prompt in self.prompts])

    @property
    def captions(self) -> list[str]:
        """What tells a portrait from the others."""
        return [f"{prompt.base_text} | seed {seed}" for prompt, seed in zip(self.prompts, self.seeds, strict=True)]

    def by(self, model: Backbone, guidance: Guidance | None = None) -> Tensor:
        """The portraits that ``model`` makes: (B,3,H,W) in [0,1] on the CPU."""
        return generate(model.to(device()), self.prompts, self.seeds, steps=self.steps,
                        guidance_scale=self.guidance_scale, guidance=guidance)


def device() -> torch.device:
    """Where figures are made."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def base_texts(base_text: str) -> list[str]:
    """The text itself, or the lines of a .txt file that are not empty or comments; ValueError where there are none."""
    if not base_text.endswith(".txt"):
        return [base_text]
    lines = [line.strip() for line in Path(base_text).read_text(encoding="utf-8").splitlines()]
    texts = [line for line in lines if line and not line.startswith("#")]
    if not texts:
        raise ValueError(f"{base_text} holds no base text")
    return texts


def set_page(columns: Mapping[str, Tensor], asked: Asked, file: Path, title: str = "",
             notes: Sequence[str] = ()) -> Path:
    """Write columns of images (B,3,H,W), a row a portrait: all as one page, and each beside it as a file of its own.

    ``notes`` end the captions of the rows, which say base text and seed.
    """
    for name, images in columns.items():
        for number, image in enumerate(images):
            single = f"{number:03d}_seed{asked.seeds[number]}_{NO_WORD.sub('_', name)}.png"
            save_png(image, file.parent / file.stem / single)
    rows = [" | ".join(parts) for parts in zip(asked.captions, *([notes] if notes else []), strict=True)]
    page = labelled_grid(torch.stack(list(columns.values()), 1), tuple(columns), rows, title)
    print(save_png(page, file))
    return file
