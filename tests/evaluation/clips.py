"""A tiny random CLIP of open_clip, and the same network as transformers has it."""

from typing import Any

import open_clip
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

SIZE = 28  # pixels a side
TINY: dict[str, Any] = {
    "embed_dim": 16, "quick_gelu": True,
    "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 64, "head_width": 32, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}}

RENAMED = {
    "visual.transformer.resblocks": "vision_model.encoder.layers",
    "transformer.resblocks": "text_model.encoder.layers",
    ".ln_1.": ".layer_norm1.", ".ln_2.": ".layer_norm2.", ".attn.": ".self_attn.", ".c_fc.": ".fc1.",
    ".c_proj.": ".fc2.", "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm", "ln_final": "text_model.final_layer_norm",
    "visual.class_": "vision_model.embeddings.class_", "visual.conv1": "vision_model.embeddings.patch_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding": "text_model.embeddings.token_embedding"}


def tiny_network(seed: int = 0) -> open_clip.CLIP:
    """Random in every weight, biases too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = open_clip.CLIP(**TINY).eval().requires_grad_(False)
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return network


def twin(network: open_clip.CLIP) -> CLIPModel:
    """The tiny network in transformers."""
    vision, text = TINY["vision_cfg"], TINY["text_cfg"]
    shape = {"projection_dim": TINY["embed_dim"], "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        projection_dim=TINY["embed_dim"],
        text_config={**shape, "hidden_size": text["width"], "intermediate_size": 4 * text["width"]},
        vision_config={**shape, "hidden_size": vision["width"], "intermediate_size": 4 * vision["width"],
                       "image_size": SIZE, "patch_size": vision["patch_size"]})
    model = CLIPModel(config).eval().requires_grad_(False)
    model.load_state_dict(dict(row for key, value in network.state_dict().items() for row in _renamed(key, value)))
    return model


def _renamed(key: str, value: Tensor) -> list[tuple[str, Tensor]]:
    if key in ("text_projection", "visual.proj"):
        return [({"visual.proj": "visual_projection"}.get(key, key) + ".weight", value.T)]
    for old, new in RENAMED.items():
        key = key.replace(old, new)
    if "in_proj_" in key:
        return [(key.replace("in_proj_", f"{name}_proj."), part)
                for name, part in zip("qkv", value.chunk(3), strict=True)]
    return [(key, value)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """uint8 images of noise."""
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
