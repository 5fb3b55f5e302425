"""Fig. 4: why alignment needs the SFCM: without it the target fades with the pollution."""

from pathlib import Path

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor

from spf.backbones import Backbone
from spf.clip import Clip
from spf.customised import load_lineage, weights_hash
from spf.figures.asked import Asked, device, set_page
from spf.figures.heat import overlaid
from spf.sampling import CHUNK
from spf.stages.similarity import mean_sfcm


def motivation(base_text: str, target: str, checkpoint: str, vanilla: str, base: str | None = None,
               start: str | None = None, clip: str | None = None, seed: int = 7, count: PositiveInt = 4,
               steps: PositiveInt = 20, guidance_scale: float = 7.5,
               out: Path = Path("runs/figures/motivation.png")) -> Path:
    """Original, vanilla alignment, ours, and the SFCM on ours, from the same seeds: Fig. 4.

    Args:
        base_text: what the original model is asked for, or a .txt file with one such text per line.
        target: the taught attribute.
        checkpoint: a .ckpt of stage 2.
        vanilla: a .ckpt of stage 2 that was trained without the SFCM, from the same original.
        base: the original model; default: the one the checkpoints were trained from.
        start: where the stage 1 lies that both started from; default: where it lay then.
        clip: which CLIP makes the SFCM; default: the one of the training.
        seed: of the first portrait; the others count up from it.
        count: portraits per base text.
        steps: solver steps.
        guidance_scale: of classifier-free guidance.
        out: file of the page; a folder beside it holds the single images.

    Raises ValueError where the two are of different originals, or ``checkpoint`` is not of stage 2.
    """
    ours, other = load_lineage(checkpoint, base, start=start), load_lineage(vanilla, base, start=start)
    original, *_, aligned = ours.models.values()
    original_of_vanilla, *_, over_aligned = other.models.values()
    if weights_hash(original.denoiser) != weights_hash(original_of_vanilla.denoiser):
        raise ValueError(f"{checkpoint} and {vanilla} are customised from different originals: nothing compares them")
    if not (clip or ours.clip):
        raise ValueError(f"{checkpoint} is not of stage 2, so no CLIP made its SFCM: say with --clip which shall")
    read = Clip.load(clip or ours.clip).to(device())
    asked = Asked.of(base_text, target, seed, count, steps, guidance_scale)
    columns = {"original": asked.base.by(original), "vanilla alignment": asked.by(over_aligned),
               "ours": asked.by(aligned)}
    columns["SFCM"] = overlaid(columns["ours"], control_maps(original, aligned, columns["ours"], asked, read))
    return set_page(columns, asked, out, f"right of the original: + {target}. SFCM: from 0 (dark) to 1 (bright)")


def control_maps(original: Backbone, customised: Backbone, portraits: Tensor, asked: Asked, clip: Clip) -> Tensor:
    """The SFCM on the customised model's portraits (B,3,H,W), a few at a time: (B,H,W) in [0,1]."""
    models = original.to(device()), customised.to(device())
    maps = [mean_sfcm(*models, some.to(device()), asked.prompts[start:start + CHUNK], clip.text).cpu()
            for start, some in zip(range(0, len(portraits), CHUNK), portraits.split(CHUNK), strict=True)]
    return torch.cat(maps)
