"""Fig. 2a: where the image answers to the target text, by the original model, after stage 1 and after stage 2."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor

from spf.backbones import Backbone
from spf.customised import load_lineage
from spf.figures.asked import Asked, set_page
from spf.figures.heat import overlaid
from spf.method.response import phrase_attention
from spf.notation import AttentionRecord, Conditions, Denoise, Guidance

GRID = 16  # the side of the layers that are shown, where there are such: finer ones see texture, coarser ones little


class TargetWatch(Guidance):
    """Changes nothing: sees at every step how much of its attention each place gives the target's tokens."""

    def __init__(self) -> None:
        self._batches: list[list[Tensor]] = []

    def edit(self, texts: Sequence[Any], conditions: Conditions, backbone: Backbone) -> Conditions:
        """A new batch begins."""
        self._target_tokens = conditions.target_tokens
        self._batches.append([])
        return conditions

    def adjust(self, x_t: Tensor, t: Tensor, denoise: Denoise) -> Tensor:
        """Look, and let it be."""
        self._batches[-1].append(target_attention(denoise.attention(x_t, t), self._target_tokens).cpu())
        return denoise(x_t, t)

    def maps(self, count: int) -> Tensor:
        """The mean over all steps: (count,h,w) in [0,1]."""
        return torch.cat([torch.stack(steps).mean(0) for steps in self._batches])[:count]  # the last batch is padded


def target_attention(records: Sequence[AttentionRecord], tokens: Tensor) -> Tensor:
    """The share of its attention that each place gives ``tokens`` (B,T) bool: (B,h,w) in [0,1].

    The mean over the heads of all layers of one grid: that with a shorter side of 16, else the largest below.
    """
    grids = {record.grid for record in records}
    grid = max((grid for grid in grids if min(grid) <= GRID), key=math.prod, default=min(grids))
    weights = tokens.float()[..., None]  # (B,T,1): a sum over the tokens, so that all tokens together give 1
    shown = [phrase_attention(record, weights)[:, 0] for record in records if record.grid == grid]
    return torch.stack(shown).mean(0)


def attention(base_text: str, target: str, checkpoint: str, base: str | None = None, start: str | None = None,
              seed: int = 7, count: PositiveInt = 2, steps: PositiveInt = 20, guidance_scale: float = 7.5,
              out: Path = Path("runs/figures/attention.png")) -> Path:
    """The response of the image to the target text, by each model of a customisation on the full text: Fig. 2a.

    Heat is the share of its attention that a place gives the target's tokens: the mean over heads, layers of one grid
    and steps of sampling. All models of a row have one scale, from the row's least share to its greatest.

    Args:
        base_text: what the original model is asked for, or a .txt file with one such text per line.
        target: the taught attribute.
        checkpoint: a .ckpt of `spf fit`, of either stage, or a diffusers folder.
        base: the original model; default: the one the checkpoint was trained from.
        start: where the stage 1 lies that a stage 2 started from; default: where it lay then.
        seed: of the first portrait; the others count up from it.
        count: portraits per base text.
        steps: solver steps.
        guidance_scale: of classifier-free guidance.
        out: file of the page; a folder beside it holds the single images.
    """
    if not target.strip():
        raise ValueError("without a target text there is no response to it: give one")
    models = load_lineage(checkpoint, base, start=start).models
    asked = Asked.of(base_text, target, seed, count, steps, guidance_scale)
    portraits, maps = {}, {}
    for name, model in models.items():
        watch = TargetWatch()
        portraits[name], maps[name] = asked.by(model, watch), watch.maps(len(asked.prompts))
    low, high = torch.stack(list(maps.values())).aminmax(dim=0)  # over the models: (B,h,w)
    low, high = low.amin((1, 2), keepdim=True), high.amax((1, 2), keepdim=True)  # (B,1,1)
    columns = {"original": asked.base.by(models["original"])}
    for name, images in portraits.items():
        columns[f"{name} + target"] = images
        columns[f"attention, {name}"] = overlaid(images, (maps[name] - low) / (high - low))
    notes = [f"{start:.0%} (dark) to {end:.0%} (bright) of a place's attention is the target's"
             for start, end in zip(low.flatten().tolist(), high.flatten().tolist(), strict=True)]
    return set_page(columns, asked, out, f"target: {target}", notes)
