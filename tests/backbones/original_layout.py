"""SD 1.5 weights in the key layout of the original single-file checkpoints, from a diffusers folder."""

import re
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

RESNET = [("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("norm2", "out_layers.0"), ("conv2", "out_layers.3"),
          ("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection")]  # fmt: skip
UNET_ENDS = [("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
             ("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2")]  # fmt: skip
VAE_NAMES = [("mid_block.attentions.0", "mid.attn_1"), ("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"),
             ("to_v", "v"), ("to_out.0", "proj_out"), ("conv_shortcut", "nin_shortcut"), ("conv_norm_out", "norm_out"),
             ("downsamplers.0", "downsample"), ("upsamplers.0", "upsample")]  # fmt: skip


def write_single_file(folder: Path, file: Path) -> None:
    """The UNet, VAE and text tower of a diffusers folder as one original-layout .safetensors file."""
    unet = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae/diffusion_pytorch_model.safetensors")
    text = load_file(folder / "text_encoder/model.safetensors")
    weights = {f"model.diffusion_model.{unet_key(key)}": value for key, value in unet.items()}
    weights |= {f"first_stage_model.{vae_key(key)}": vae_value(key, value) for key, value in vae.items()}
    weights |= {f"cond_stage_model.transformer.text_model.{key}": value for key, value in text.items()}
    save_file({key: value.contiguous() for key, value in weights.items()}, file)


def unet_key(key: str) -> str:
    for ours, original in UNET_ENDS:
        key = re.sub(rf"^{re.escape(ours)}\b", original, key)
    if ".resnets." in key:
        for ours, original in RESNET:
            key = key.replace(f".{ours}.", f".{original}.")
    block = re.match(r"(down|up|mid)_blocks?\.?(\d)?\.(\w+)\.(\d)(?:\.conv)?(?=\.)", key)
    if block is None:
        return key
    side, level, part, index = block[1], int(block[2] or 0), block[3], int(block[4])
    rest = key[block.end() :] if part.endswith("samplers") else key[block.end(4) :]
    if side == "mid":
        return f"middle_block.{1 if part == 'attentions' else 2 * index}{rest}"
    if part == "downsamplers":
        return f"input_blocks.{3 * level + 3}.0.op{rest}"
    if part == "upsamplers":  # the lowest level has no attention before it
        return f"output_blocks.{3 * level + 2}.{min(2, 1 + level)}.conv{rest}"
    place = f"input_blocks.{3 * level + index + 1}" if side == "down" else f"output_blocks.{3 * level + index}"
    return f"{place}.{int(part == 'attentions')}{rest}"


def vae_key(key: str) -> str:
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    key = re.sub(r"encoder\.down_blocks\.(\d)", r"encoder.down.\1", key)
    key = re.sub(r"decoder\.up_blocks\.(\d)", lambda m: f"decoder.up.{3 - int(m[1])}", key)
    for ours, original in VAE_NAMES:
        key = key.replace(ours, original)
    return key.replace(".resnets.", ".block.")


def vae_value(key: str, value: Tensor) -> Tensor:
    """The original writes the linear layers of attention as 1x1 convolutions."""
    return value[:, :, None, None] if ".attentions." in key and value.ndim == 2 else value
