"""Tiny random networks of MPS and ImageReward, built as the published ones are, and a rater that is no network."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BlipTextConfig, BlipVisionConfig, CLIPConfig

from spf.evaluation.blip import IMAGE_REWARD, RewardNetwork, bert_tokenizer
from spf.evaluation.mps_network import MPS, MpsNetwork

_SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY_MPS = replace(
    MPS, cross={"heads": 2, "head_width": 8, "layers": 4},
    config=CLIPConfig(projection_dim=32, text_config={**_SIZES, "hidden_act": "gelu", "projection_dim": 32},
                      vision_config={**_SIZES, "hidden_act": "gelu", "image_size": 28, "patch_size": 14}))
TINY_REWARD = replace(
    IMAGE_REWARD, vocabulary=replace(IMAGE_REWARD.vocabulary, sha256=""),
    vision=BlipVisionConfig(**_SIZES, hidden_act="gelu", image_size=32, patch_size=16, layer_norm_eps=1e-6),
    text=BlipTextConfig(**_SIZES | {"hidden_size": 16}, hidden_act="gelu", vocab_size=40, encoder_hidden_size=32,
                        max_position_embeddings=48, layer_norm_eps=1e-12, is_decoder=True))

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "woman", "man", "with", "hat", "glass", "##es", ",", "red")


def write_vocabulary(folder: Path) -> Path:
    """A small vocab.txt as BERT's is written."""
    file = folder / "vocab.txt"
    file.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return file


def tiny_mps(seed: int = 0) -> MpsNetwork:
    """Random in every weight."""
    return _random(MpsNetwork(TINY_MPS.config, **TINY_MPS.cross), seed)


def tiny_reward(folder: Path, seed: int = 0) -> RewardNetwork:
    """Random in every weight; its vocabulary is written to ``folder``."""
    return _random(RewardNetwork(TINY_REWARD.vision, TINY_REWARD.text, bert_tokenizer(write_vocabulary(folder))), seed)


def _random(network: nn.Module, seed: int) -> nn.Module:
    draw = torch.Generator().manual_seed(seed)
    for weight in network.eval().requires_grad_(False).parameters():
        spread = min(0.2, weight.shape[-1] ** -0.5) if weight.ndim else 0.2  # what goes in does not grow on its way
        weight.add_(spread * torch.randn(weight.shape, generator=draw))
    return network


class Brightness:
    """Rates by brightness; texts of more than ten letters are too long for it."""

    def __call__(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """And remembers the texts."""
        self.texts = list(texts)
        return images.float().mean((1, 2, 3))

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Of each text, whether it is too long."""
        return [len(text) > 10 for text in texts]

    def describe(self) -> dict[str, Any]:
        """Its name."""
        return {"network": "brightness"}
