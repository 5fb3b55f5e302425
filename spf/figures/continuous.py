"""Figures 7a and 17: targets one after the other, each in place of the last or beside it."""

from itertools import accumulate
from pathlib import Path

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor
from torch.nn import functional

from spf.customised import load_customised
from spf.figures.asked import Asked
from spf.pictures import labelled_grid, save_png


def continuous(base_text: str, targets: list[str], checkpoint: str, base: str | None = None, seed: int = 7,
               count: PositiveInt = 1, steps: PositiveInt = 20, guidance_scale: float = 7.5,
               out: Path = Path("runs/figures/continuous.png")) -> Path:
    """Continuous replacement and addition of targets by one customised model: Figures 7a and 17.

    A portrait has two rows: base + target i alone, and base + target 1 + ... + target i, both from the original's seed.

    Args:
        base_text: what the original model is asked for, or a .txt file with one such text per line.
        targets: taught attributes, in their order.
        checkpoint: a .ckpt of `spf fit`, or a diffusers folder.
        base: the original model; default: the one the checkpoint was trained from.
        seed: of the first portrait; the others count up from it.
        count: portraits per base text.
        steps: solver steps.
        guidance_scale: of classifier-free guidance.
        out: file of the page.

    Raises ValueError without targets.
    """
    if not targets:
        raise ValueError("continuous customisation needs at least one target")
    original, customised = load_customised(checkpoint, base)
    asked = Asked.of(base_text, "", seed, count, steps, guidance_scale)
    added = list(accumulate(targets, "{}, {}".format))
    made = {target: asked.with_target(target).by(customised) for target in dict.fromkeys([*targets, *added])}
    first, bands = asked.by(original), []
    for number, caption in enumerate(asked.captions):
        for kind, asked_for in (("replacement", targets), ("addition", added)):
            cells = [captioned(first[number], "original"),
                     *(captioned(made[target][number], f"+ {target}") for target in asked_for)]
            bands.append(labelled_grid(level(cells)[None], title=f"{kind}: {caption}"))
    print(save_png(torch.cat(bands, 1), out))
    return out


def captioned(image: Tensor, text: str) -> Tensor:
    """An image (3,H,W) with its text beneath, wrapped to its width: (3,H',W')."""
    return labelled_grid(image[None, None], (), (text,))


def level(images: list[Tensor]) -> Tensor:
    """Images (3,*,W), each made as high as the highest by white beneath: (K,3,H,W)."""
    high = max(image.shape[1] for image in images)
    return torch.stack([functional.pad(image, (0, 0, 0, high - image.shape[1]), value=1) for image in images])
