"""The network of MPS (Kwai-Kolors/MPS @be9027f): CLIP ViT-H/14, and a cross model that looks at an image by its text.

Of the text only those tokens are looked by which are near the condition, words that name what people judge. The
published code divides their nearness by the largest of the whole batch, so that a row's mates decide what is masked,
or leave it nothing at all; here it is the row's own largest, as in the published evaluation, one image at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
import torchvision
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from spf.evaluation.mps_cross import CrossModel
from spf.evaluation.open_clips import CROPPED
from spf.evaluation.weights import Weights, file_hash, fill, read_weights

CONDITION = ("light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, "
             "instance, texture, quantity, attributes, position, number, location, word, things.")
"""The official one of "overall", the only preference whose weights are public; it ends with a period."""

THRESHOLD = 0.3
"""tau: as in the published evaluation scripts (the module's own forward has 0.01)."""


def near(words: Tensor, condition: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Which tokens (B,T,E) of each text are looked by, given the condition's (K,E): (B,T) bool, at least one a row.

    A token's nearness is its largest dot product with the condition's, as a share of its row's largest nearness.
    """
    nearness = (words @ condition.T).amax(-1)  # (B,T)
    return nearness / nearness.amax(-1, keepdim=True) > threshold


class MpsNetwork(nn.Module):
    """Rates images by texts: exp(logit scale) * cosine of the text and of what the cross model saw; about 8 to 10.5."""

    def __init__(self, config: CLIPConfig, heads: int = 16, head_width: int = 64, layers: int = 4,
                 weights: str = "random") -> None:
        """``weights`` says which they are: the SHA-256 of their file, or a word such as "random"."""
        super().__init__()
        self.model = CLIPModel(config)
        self.cross_model = CrossModel(config.projection_dim, layers, heads, head_width)
        self.weights = weights

    @torch.no_grad()
    def forward(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B,3,H,W) uint8 on the CPU, any size, and B texts -> (B,) raw ratings."""
        words, sentences = self._read([*texts, CONDITION])
        mask = near(words[:-1], words[-1])
        pixels = CROPPED.apply(images, self.model.config.vision_config.image_size).to(words.device)
        seen = self.model.visual_projection(self.model.vision_model(pixels).last_hidden_state)  # (B,N+1,E)
        looked = self.cross_model(seen, words[:-1], mask)[:, 0]  # (B,E), where the class token stands
        return self.model.logit_scale.exp() * F.cosine_similarity(sentences[:-1], looked, dim=-1)

    def _read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """B texts -> all their tokens (B,T,E), padding too, and their sentences (B,E)."""
        read = self.model.text_model(self.tokens(texts).to(self.model.logit_scale.device))
        return self.model.text_projection(read.last_hidden_state), self.model.text_projection(read.pooler_output)

    @property
    def _length(self) -> int:
        return self.model.config.text_config.max_position_embeddings

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """(B,77) ids: 49406, the text, cut where it is too long, then 49407 to the end."""
        return clip_tokenizer()(list(texts), padding="max_length", truncation=True, max_length=self._length,
                                return_tensors="pt").input_ids

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Of each text, whether its end is cut."""
        return [len(ids) > self._length for ids in clip_tokenizer()(list(texts), verbose=False).input_ids]

    def describe(self) -> dict[str, Any]:
        """Network, SHA-256, preprocessing, condition, threshold and versions."""
        versions = {"transformers": transformers.__version__, "torchvision": torchvision.__version__}
        return {"network": "MPS overall (CLIP ViT-H/14)", "weights": self.weights, "preprocess": CROPPED.name,
                "condition": CONDITION, "threshold": THRESHOLD, "versions": versions}


@cache
def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer as transformers has it, which pads with the end token, from the vocabulary open_clip brings."""
    known = open_clip.SimpleTokenizer()
    renamed = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    return CLIPTokenizer({renamed.get(token, token): number for token, number in known.encoder.items()},
                         list(known.bpe_ranks))


@dataclass(frozen=True)
class PublishedMps:
    """A published file, and the network that it fills."""

    weights: Weights
    config: CLIPConfig
    cross: dict[str, int] = field(default_factory=dict)  # heads, head_width, layers; default: as published

    def load(self, folder: Path, device: torch.device) -> MpsNetwork:
        """The network with the weights from ``folder``, in float32. Raises WeightsAbsent, or ValueError for a bad file.

        ``position_ids``, which older versions of transformers saved, count 0, 1, 2, ... and are not needed.
        """
        path = self.weights.find(folder)
        tensors = {key: value for key, value in read_weights(path).items() if not key.endswith(".position_ids")}
        network = self.network()
        fill(network, tensors, path)
        network.weights = file_hash(path)
        return network.to(device)

    def network(self) -> MpsNetwork:
        """The network on the meta device: a billion weights are not drawn, only to be overwritten."""
        with torch.device("meta"):
            network = MpsNetwork(self.config, **self.cross)
        for tower in (network.model.text_model, network.model.vision_model):
            places = tower.embeddings.position_ids.shape[-1]
            tower.embeddings.position_ids = torch.arange(places)[None]  # the only ones that no file needs to hold
        return network


MPS = PublishedMps(
    Weights("MPS overall", "MPS_overall_checkpoint_diffsynth.safetensors",
            "https://modelscope.cn/models/DiffSynth-Studio/QualityMetric_reward_pretrained/resolve/master/"
            "MPS_overall_checkpoint/MPS_overall_checkpoint_diffsynth.safetensors", "MIT", 2209,
            also=("MPS_overall_checkpoint.safetensors",)),  # what ``convert_mps`` makes of the authors' own file
    CLIPConfig(
        projection_dim=1024,
        text_config={"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
                     "num_hidden_layers": 24, "hidden_act": "gelu", "projection_dim": 1024},
        vision_config={"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 16,
                       "num_hidden_layers": 32, "patch_size": 14, "image_size": 224, "hidden_act": "gelu",
                       "projection_dim": 1024}))
