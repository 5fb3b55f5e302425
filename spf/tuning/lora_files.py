"""A LoRA as files: in diffusers' layout, and in that of kohya's scripts, which Automatic1111 and ComfyUI read too."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import diffusers
import torch
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE
from safetensors.torch import save_file
from torch import Tensor

from spf.backbones import Backbone
from spf.files import unused, whole
from spf.notation import LowRank


def save_diffusers(low_rank: LowRank, backbone: Backbone, folder: Path, dtype: torch.dtype) -> None:
    """Write ``pytorch_lora_weights.safetensors`` into ``folder``, which ``pipeline.load_lora_weights(folder)`` reads.

    Its metadata says alpha and ranks, without which a loader would take alpha for the rank.

    Raises FileExistsError when it is there.
    """
    ranks, usual = _ranks(low_rank)
    config = {"r": usual, "lora_alpha": low_rank.alpha, "target_modules": sorted(ranks),
              "rank_pattern": {layer: rank for layer, rank in ranks.items() if rank != usual}}
    part, pipeline = backbone.denoiser_folder, getattr(diffusers, backbone.pipeline)
    with whole(unused(folder / LORA_WEIGHT_NAME_SAFE)) as partial:
        pipeline.save_lora_weights(folder, weight_name=partial.name, **{
            f"{part}_lora_layers": _matrices(low_rank, "{}.lora.{}.weight", dtype),
            f"{part}_lora_adapter_metadata": config})


def save_kohya(low_rank: LowRank, backbone: Backbone, file: Path, dtype: torch.dtype) -> None:
    """Write one .safetensors with lora_down, lora_up and alpha of each layer, and the metadata of kohya's scripts.

    All layers have one alpha, whatever their ranks: of several diffusers, which reads this layout too, takes one.

    Raises ValueError for another type of file or of denoiser, FileExistsError when the file is there.
    """
    if file.suffix != ".safetensors":
        raise ValueError(f"kohya's layout is a single file: give one that ends with .safetensors, not {file}")
    if backbone.denoiser_folder != "unet":
        raise ValueError(f"kohya's layout is for Stable Diffusion 1.5, and this is a {backbone.pipeline}")
    ranks, usual = _ranks(low_rank)
    flat = LowRank({f"lora_unet_{layer.replace('.', '_')}": pair for layer, pair in low_rank.layers.items()},
                   low_rank.alpha)
    alphas = {f"{layer}.alpha": torch.tensor(float(low_rank.alpha)) for layer in flat.layers}
    about = {"ss_network_module": "networks.lora", "ss_base_model_version": "sd_v1", "format": "pt",
             "ss_network_dim": str(usual) if set(ranks.values()) == {usual} else "Dynamic",
             "ss_network_alpha": str(float(low_rank.alpha))}
    with whole(unused(file)) as partial:
        save_file(_matrices(flat, "{}.lora_{}.weight", dtype) | alphas, partial, metadata=about)


LAYOUTS: Mapping[str, Callable[[LowRank, Backbone, Path, torch.dtype], None]] = {
    "lora": save_diffusers, "kohya": save_kohya}
"""By the name that ``spf export --to`` gives."""


def _matrices(low_rank: LowRank, key: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Down and up of each layer, named by ``key``."""
    return {key.format(layer, side): matrix.to(dtype).contiguous()
            for layer, pair in low_rank.layers.items() for side, matrix in zip(("down", "up"), pair, strict=True)}


def _ranks(low_rank: LowRank) -> tuple[dict[str, int], int]:
    """By layer, and the most frequent one."""
    ranks = {layer: len(down) for layer, (down, _) in low_rank.layers.items()}
    return ranks, Counter(ranks.values()).most_common(1)[0][0]
