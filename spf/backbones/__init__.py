"""Text-to-image models behind one small interface: Stable Diffusion 1.5 and its kin, and 3.5."""

from __future__ import annotations

import json
from pathlib import Path

from spf.backbones.base import Backbone
from spf.backbones.loading import BASES, base_folder, read_single_file
from spf.backbones.mmdit import MMDiTBackbone
from spf.backbones.unet import UNetBackbone

__all__ = ["BACKBONES", "BASES", "Backbone", "load_backbone"]

BACKBONES: dict[str, type[UNetBackbone] | type[MMDiTBackbone]] = {
    "StableDiffusionPipeline": UNetBackbone,
    "StableDiffusion3Pipeline": MMDiTBackbone,
}
"""Which backbone reads a diffusers folder, by ``_class_name`` in its model_index.json."""

ORIGINALS: dict[str, type[UNetBackbone] | type[MMDiTBackbone]] = {
    "model.diffusion_model.middle_block.": UNetBackbone,
    "model.diffusion_model.joint_blocks.": MMDiTBackbone,
}
"""Which backbone reads an original single-file checkpoint, by names that only its denoiser has."""


def load_backbone(base: str | Path, *, random_denoiser: bool = False) -> Backbone:
    """The base model theta_0, in float32 on the CPU, in eval.

    ``base`` is a name in ``BASES``, a diffusers folder, an id on the Hugging Face hub, or an original single-file
    checkpoint (.safetensors) of SD 1.5 or 3.5. ``random_denoiser`` draws the denoiser's weights from torch's seed, to
    pretrain one: its folder then needs only config.json.

    Raises FileNotFoundError when it cannot be had, ValueError when its weights do not fit; both say what to do.
    """
    location = BASES.get(str(base), str(base))
    file = Path(location).expanduser()
    if file.is_file():
        return _load_original(file)
    folder = base_folder(location)
    index = folder / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"{folder} is no diffusers folder: it has no model_index.json")
    kind = json.loads(index.read_text())["_class_name"]
    if kind not in BACKBONES:
        raise ValueError(f"{folder} holds a {kind}; backbones exist for {', '.join(BACKBONES)}")
    return BACKBONES[kind].from_folder(folder, random_denoiser=random_denoiser)


def _load_original(file: Path) -> Backbone:
    weights = read_single_file(file)
    for names, kind in ORIGINALS.items():
        if any(key.startswith(names) for key in weights):
            return kind.from_original(weights, file)
    raise ValueError(
        f"{file} is no original checkpoint of SD 1.5 or SD 3.5: no weight in it begins with {' or '.join(ORIGINALS)} "
        "(of a diffusers folder, give the folder)"
    )
