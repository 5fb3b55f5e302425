"""A model in the names of the original single-file checkpoints, as ComfyUI and Automatic1111 read it.

These tables write such a file; diffusers' own converters (diffusers.loaders.single_file_utils), whose inverse they are,
read it. Each function gives {original name: weight}, and raises ValueError for a layer that has no name there.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

DENOISER, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
"""What the names of each part begin with."""

BLOCK = re.compile(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?(\w+)\.(\d+)\.(.+)")
"""Side, level, kind, index and inner layer, of a UNet and of both halves of a VAE."""

UNET_ENDS = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
             "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
UNET_RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
               "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}

VAE_INNER = {"conv_shortcut": "nin_shortcut", "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v",
             "to_out.0": "proj_out"}

MMDIT_ENDS = {
    "x_embedder.proj": ["pos_embed.proj"], "context_embedder": ["context_embedder"],
    "t_embedder.mlp.0": ["time_text_embed.timestep_embedder.linear_1"],
    "t_embedder.mlp.2": ["time_text_embed.timestep_embedder.linear_2"],
    "y_embedder.mlp.0": ["time_text_embed.text_embedder.linear_1"],
    "y_embedder.mlp.2": ["time_text_embed.text_embedder.linear_2"],
    "final_layer.linear": ["proj_out"], "final_layer.adaLN_modulation.1": ["norm_out.linear"],
}  # fmt: skip
MMDIT_BLOCK = {
    "x_block.attn.qkv": ["attn.to_q", "attn.to_k", "attn.to_v"], "x_block.attn.proj": ["attn.to_out.0"],
    "x_block.attn.ln_q": ["attn.norm_q"], "x_block.attn.ln_k": ["attn.norm_k"],
    "x_block.attn2.qkv": ["attn2.to_q", "attn2.to_k", "attn2.to_v"], "x_block.attn2.proj": ["attn2.to_out.0"],
    "x_block.attn2.ln_q": ["attn2.norm_q"], "x_block.attn2.ln_k": ["attn2.norm_k"],
    "x_block.mlp.fc1": ["ff.net.0.proj"], "x_block.mlp.fc2": ["ff.net.2"],
    "x_block.adaLN_modulation.1": ["norm1.linear"],
    "context_block.attn.qkv": ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
    "context_block.attn.proj": ["attn.to_add_out"],
    "context_block.attn.ln_q": ["attn.norm_added_q"], "context_block.attn.ln_k": ["attn.norm_added_k"],
    "context_block.mlp.fc1": ["ff_context.net.0.proj"], "context_block.mlp.fc2": ["ff_context.net.2"],
    "context_block.adaLN_modulation.1": ["norm1_context.linear"],
}  # fmt: skip
"""Original layer -> the layers of ours that it stacks; what a block does not have is passed over."""


def unet_state(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """Of Stable Diffusion 1.5: all levels of a side are one row of blocks, each a resnet and what follows it."""
    state, per_level = unet.state_dict(), unet.config.layers_per_block + 1
    attended = {name.split(".")[1] for name in state if name.startswith("up_blocks.") and ".attentions." in name}

    def original(layer: str) -> str:
        block = BLOCK.fullmatch(layer)
        if not block:
            return UNET_ENDS[layer]
        side, level, kind, index, inner = block.groups()
        row = int(level or 0) * per_level + int(index)
        match side, kind:
            case "down", "downsamplers":
                return f"input_blocks.{row + per_level}.0.op"
            case "up", "upsamplers":
                return f"output_blocks.{row + per_level - 1}.{2 if level in attended else 1}.conv"
            case _, "resnets":
                column, inner = 0, UNET_RESNET[inner]
            case _, "attentions":
                column = 1
        place = {"down": f"input_blocks.{row + 1}.{column}", "mid": f"middle_block.{2 * row + column}",
                 "up": f"output_blocks.{row}.{column}"}
        return f"{place[side]}.{inner}"

    return _renamed(state, DENOISER, original)


def vae_state(vae: AutoencoderKL) -> dict[str, Tensor]:
    """Of both models: its decoder's levels count from the image, and its attention is 1x1 convolutions."""
    last = len(vae.config.up_block_types) - 1

    def original(layer: str) -> str:
        half, _, rest = layer.partition(".")
        block = BLOCK.fullmatch(rest)
        if not block:
            return layer.replace("conv_norm_out", "norm_out")
        side, level, kind, index, inner = block.groups()
        side_level = {"down": f"down.{level}", "mid": "mid", "up": f"up.{last - int(level or 0)}"}[side]
        place = {"downsamplers": "downsample", "upsamplers": "upsample", "attentions": "attn_1",
                 "resnets": f"block_{int(index) + 1}" if side == "mid" else f"block.{index}"}[kind]
        return f"{half}.{side_level}.{place}.{VAE_INNER.get(inner, inner)}"

    state = {name: weight[:, :, None, None] if ".attentions." in name and weight.ndim == 2 else weight
             for name, weight in vae.state_dict().items()}
    return _renamed(state, VAE, original)


def text_state(encoder: CLIPTextModel) -> dict[str, Tensor]:
    """Of Stable Diffusion 1.5: CLIP's text tower, as transformers had it when the original was made."""
    return {f"{TEXT}text_model.{name}": weight for name, weight in encoder.state_dict().items()}


def transformer_state(transformer: SD3Transformer2DModel) -> dict[str, Tensor]:
    """Of Stable Diffusion 3.5: q, k and v are one layer; two modulations have shift and scale in the other order."""
    state, blocks = transformer.state_dict(), range(len(transformer.transformer_blocks))
    named = {f"{DENOISER}pos_embed": state.pop("pos_embed.pos_embed")}
    layers = MMDIT_ENDS | {f"joint_blocks.{block}.{original}": [f"transformer_blocks.{block}.{one}" for one in ours]
                           for block in blocks for original, ours in MMDIT_BLOCK.items()}
    # diffusers has scale first where a norm is AdaLayerNormContinuous: at the end, of the image and of the text
    swapped = {"final_layer.adaLN_modulation.1", f"joint_blocks.{blocks[-1]}.context_block.adaLN_modulation.1"}
    for original, ours in layers.items():
        for kind in ("weight", "bias"):
            if parts := [state.pop(f"{one}.{kind}") for one in ours if f"{one}.{kind}" in state]:
                stacked = torch.cat(parts[0].chunk(2)[::-1] if original in swapped else parts)
                named[f"{DENOISER}{original}.{kind}"] = stacked
    if state:
        raise _without_a_name(min(state))
    return named


def _renamed(state: dict[str, Tensor], prefix: str, original: Callable[[str], str]) -> dict[str, Tensor]:
    named = {}
    for name, weight in state.items():
        layer, _, kind = name.rpartition(".")
        try:
            named[f"{prefix}{original(layer)}.{kind}"] = weight
        except KeyError as error:
            raise _without_a_name(name) from error
    return named


def _without_a_name(weight: str) -> ValueError:
    return ValueError(f"{weight} has no name in an original checkpoint: export the model by --to diffusers")
