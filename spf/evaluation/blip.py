"""The network of ImageReward (THUDM/ImageReward @c1392c6): BLIP with ViT-L/16, and a head that makes one number.

BLIP as transformers has it, under the names of which the published keys are translated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
import transformers
from torch import Tensor, nn
from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from spf.evaluation.open_clips import CROPPED
from spf.evaluation.weights import Weights, file_hash, fill, read_weights

MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072
"""Of the head's numbers in the published training; a reward is standardised by them."""

LENGTH = 35
"""Tokens that are read of a text."""

RENAMED = {
    "blip.": "",
    "visual_encoder.cls_token": "visual_encoder.embeddings.class_embedding",
    "visual_encoder.pos_embed": "visual_encoder.embeddings.position_embedding",
    "visual_encoder.patch_embed.proj.": "visual_encoder.embeddings.patch_embedding.",
    "visual_encoder.blocks.": "visual_encoder.encoder.layers.",
    "visual_encoder.norm.": "visual_encoder.post_layernorm.",
    ".norm1.": ".layer_norm1.",
    ".norm2.": ".layer_norm2.",
    ".attn.qkv.": ".self_attn.qkv.",
    ".attn.proj.": ".self_attn.projection.",
    "mlp.layers.": "mlp.",
}
"""Parts of the published keys, in the order of replacement, and what ``RewardNetwork`` calls them."""

UNUSED = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")
"""What the published file also holds: BLIP's contrastive heads, and 0, 1, 2, ..."""


def translated(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published tensors by the names of ``RewardNetwork``, without what it has no use for."""
    return {_renamed(key): value for key, value in published.items() if not key.startswith(UNUSED)}


def _renamed(key: str) -> str:
    for old, new in RENAMED.items():
        key = key.replace(old, new)
    return key


class RewardNetwork(nn.Module):
    """Rates images by texts: the text is read with an eye on the image, and its [CLS] becomes one number."""

    def __init__(self, vision: BlipVisionConfig, text: BlipTextConfig, tokenizer: BertTokenizer | None = None,
                 weights: str = "random") -> None:
        """``text`` is a decoder's, for only that has cross-attention. ``weights``: SHA-256, or a word like "random"."""
        super().__init__()
        self.visual_encoder = BlipVisionModel(vision)
        self.text_encoder = BlipTextModel(text, add_pooling_layer=False)
        self.mlp = head(text.hidden_size)
        self.tokenizer, self.weights = tokenizer, weights

    @torch.no_grad()
    def forward(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B,3,H,W) uint8 on the CPU, any size, and B texts -> (B,) rewards."""
        device = self.mlp[0].weight.device
        pixels = CROPPED.apply(images, self.visual_encoder.config.image_size).to(device)
        ids, mask = (part.to(device) for part in self.tokens(texts))
        seen = self.visual_encoder(pixels).last_hidden_state  # (B,N+1,E)
        read = self.text_encoder(ids, attention_mask=mask, encoder_hidden_states=seen, is_decoder=False)
        return (self.mlp(read.last_hidden_state[:, 0])[:, 0] - MEAN) / DEVIATION

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(B,35) ids, cut or padded, and (B,35) which of them are no padding."""
        tokens = self.tokenizer(list(texts), padding="max_length", truncation=True, max_length=LENGTH,
                                return_tensors="pt")
        return tokens.input_ids, tokens.attention_mask

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Of each text, whether its end is cut."""
        return [len(ids) > LENGTH for ids in self.tokenizer(list(texts), verbose=False).input_ids]

    def describe(self) -> dict[str, Any]:
        """Network, SHA-256, preprocessing, length and versions."""
        versions = {"transformers": transformers.__version__, "torchvision": torchvision.__version__}
        return {"network": "ImageReward v1.0 (BLIP ViT-L/16)", "weights": self.weights, "preprocess": CROPPED.name,
                "tokens": LENGTH, "versions": versions}


def head(width: int) -> nn.Sequential:
    """(B,``width``) -> (B,1): five layers with nothing between them but dropout, as published; so it is one affine map.
    """
    return nn.Sequential(nn.Linear(width, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2),
                         nn.Linear(128, 64), nn.Dropout(0.1), nn.Linear(64, 16), nn.Linear(16, 1))


def bert_tokenizer(vocabulary: Path) -> BertTokenizer:
    """bert-base-uncased's: of its vocab.txt, a token a line; the line's number is the id."""
    tokens = vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return BertTokenizer({token: number for number, token in enumerate(tokens)})


@dataclass(frozen=True)
class PublishedReward:
    """The published files, and the network that they fill."""

    weights: Weights
    vocabulary: Weights
    vision: BlipVisionConfig
    text: BlipTextConfig

    def load(self, folder: Path, device: torch.device) -> RewardNetwork:
        """The network with the weights from ``folder`` or the hub. Raises WeightsAbsent, or ValueError for a bad file.
        """
        path = self.weights.find(folder)
        tokenizer = bert_tokenizer(self.vocabulary.find(folder))
        network = self.network()
        fill(network, translated(read_weights(path)), path)
        network.tokenizer, network.weights = tokenizer, file_hash(path)
        return network.to(device)

    def network(self) -> RewardNetwork:
        """The network on the meta device: weights are not drawn, only to be overwritten."""
        with torch.device("meta"):
            network = RewardNetwork(self.vision, self.text)
        places = torch.arange(self.text.max_position_embeddings)[None]  # the one tensor that no file needs to hold
        network.text_encoder.embeddings.position_ids = places
        return network


IMAGE_REWARD = PublishedReward(
    Weights("ImageReward v1.0", "ImageReward.pt", "zai-org/ImageReward", "Apache-2.0", 1790),
    Weights("bert-base-uncased's vocabulary", "vocab.txt", "google-bert/bert-base-uncased", "Apache-2.0", 1,
            "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
    BlipVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
                     image_size=224, patch_size=16, hidden_act="gelu", layer_norm_eps=1e-6),
    BlipTextConfig(vocab_size=30524, hidden_size=768, encoder_hidden_size=1024, intermediate_size=3072,
                   num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=512, hidden_act="gelu",
                   layer_norm_eps=1e-12, is_decoder=True))
