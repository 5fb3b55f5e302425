"""Random weights in the layout of Stability's own SD 3.5 file: of sizes alone, no model or converter is asked."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.backbones.original_layout import vae_key, vae_value
from tests.sd35 import TRANSFORMER

DENOISER, VAE = "model.diffusion_model.", "first_stage_model."


def layer(name: str, outputs: int, *inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, *inputs), f"{name}.bias": (outputs,)}


def attention(name: str, width: int, head: int, projected: bool = True) -> dict[str, tuple[int, ...]]:
    norms = {f"{name}.ln_q.weight": (head,), f"{name}.ln_k.weight": (head,)}
    return layer(f"{name}.qkv", 3 * width, width) | norms | (layer(f"{name}.proj", width, width) if projected else {})


def mlp(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return layer(f"{name}.fc1", 4 * width, width) | layer(f"{name}.fc2", width, 4 * width)


def block(name: str, width: int, head: int, dual: bool, last: bool) -> dict[str, tuple[int, ...]]:
    """Shift, scale and gate of attention and MLP, three more of the second attention; of the last text two in all."""
    image, text = f"{name}.x_block", f"{name}.context_block"
    shapes = attention(f"{image}.attn", width, head) | mlp(f"{image}.mlp", width)
    shapes |= layer(f"{image}.adaLN_modulation.1", (9 if dual else 6) * width, width)
    shapes |= attention(f"{image}.attn2", width, head) if dual else {}
    shapes |= attention(f"{text}.attn", width, head, projected=not last)
    shapes |= layer(f"{text}.adaLN_modulation.1", (2 if last else 6) * width, width)
    return shapes | ({} if last else mlp(f"{text}.mlp", width))


def transformer_shapes() -> dict[str, tuple[int, ...]]:
    """Of tests.sd35.TRANSFORMER."""
    size, patch, channels = TRANSFORMER["pos_embed_max_size"], TRANSFORMER["patch_size"], TRANSFORMER["in_channels"]
    head, depth = TRANSFORMER["attention_head_dim"], TRANSFORMER["num_layers"]
    width = head * TRANSFORMER["num_attention_heads"]
    shapes = {"pos_embed": (1, size * size, width)} | layer("x_embedder.proj", width, channels, patch, patch)
    shapes |= layer("t_embedder.mlp.0", width, 256) | layer("t_embedder.mlp.2", width, width)
    shapes |= layer("y_embedder.mlp.0", width, TRANSFORMER["pooled_projection_dim"])
    shapes |= layer("y_embedder.mlp.2", width, width)
    shapes |= layer("context_embedder", width, TRANSFORMER["joint_attention_dim"])
    for number in range(depth):
        dual, last = number in TRANSFORMER["dual_attention_layers"], number == depth - 1
        shapes |= block(f"joint_blocks.{number}", width, head, dual, last)
    shapes |= layer("final_layer.adaLN_modulation.1", 2 * width, width)
    return shapes | layer("final_layer.linear", patch * patch * channels, width)


def original_weights(folder: Path) -> dict[str, Tensor]:
    """A transformer drawn from a seed of its own, and the VAE of a diffusers folder, also redrawn."""
    vae = load_file(folder / "vae/diffusion_pytorch_model.safetensors")
    shapes = {f"{DENOISER}{name}": shape for name, shape in transformer_shapes().items()}
    shapes |= {f"{VAE}{vae_key(name)}": vae_value(name, weight).shape for name, weight in vae.items()}
    generator = torch.Generator().manual_seed(5)
    return {name: torch.randn(shape, generator=generator) / 8 for name, shape in shapes.items()}


def lay_out(folder: Path, to: Path) -> Path:
    """The file that holds them, in a copy of a diffusers folder that has no such weights itself."""
    shutil.copytree(folder, to)
    for part in ("transformer", "vae"):
        (to / part / "diffusion_pytorch_model.safetensors").unlink()
    save_file(original_weights(folder), to / "original.safetensors")
    return to / "original.safetensors"
