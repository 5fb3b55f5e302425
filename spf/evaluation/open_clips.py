"""CLIPs as open_clip builds them, with published weights: images and texts as unit vectors of one space.

open_clip's names are a trap: its plain ViT-L-14 and ViT-B-32 have GELU, and OpenAI's weights were trained with
QuickGELU, so these are built by the ``-quickgelu`` names. HPS's ViT-H-14 has GELU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import PIL
import torch
import torchvision
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor
from torchvision import transforms

from spf.evaluation.weights import Weights, file_hash, fill, read_weights

NORMALIZE = transforms.Normalize(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
"""[0,1] -> what every CLIP here was trained on."""


@dataclass(frozen=True)
class Preprocess:
    """How images become what the image tower sees."""

    name: str  # in results
    apply: Callable[[Tensor, int], Tensor]  # (B,3,H,W) uint8 on the CPU, pixels a side S -> (B,3,S,S) normalised


def crop(images: Tensor, size: int) -> Tensor:
    """CLIP's preprocessing: shorter side to ``size`` by PIL's bicubic, centre crop; bit-equal to open_clip's.

    By PIL, as CLIP was trained: the bicubic of tensors differs from it by up to a grey level.
    """
    prepare = transforms.Compose([
        transforms.ToPILImage(), transforms.Resize(size, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(size), transforms.ToTensor(), NORMALIZE])
    return torch.stack([prepare(image) for image in images])


CROPPED = Preprocess("PIL bicubic of the shorter side, centre crop", crop)


class OpenClip:
    """One frozen CLIP in float32. Its vectors have unit length: dot products are cosines."""

    def __init__(self, network: open_clip.CLIP, name: str, weights: str, preprocess: Preprocess = CROPPED) -> None:
        """``weights`` says which they are: the SHA-256 of their file, or a word such as "random"."""
        self.network = network.float().eval().requires_grad_(False)
        self.name, self.weights, self.preprocess = name, weights, preprocess

    @torch.no_grad()
    def image(self, images: Tensor) -> Tensor:
        """(B,3,H,W) uint8 on the CPU, any size -> unit vectors (B,E) on the network's device."""
        prepared = self.preprocess.apply(images, self.network.visual.image_size[0])
        return self.network.encode_image(prepared.to(self._device), normalize=True)

    @torch.no_grad()
    def text(self, texts: Sequence[str]) -> Tensor:
        """B texts -> unit vectors (B,E); of a text that is too long the end is cut, and the end token kept."""
        return self.network.encode_text(self.tokens(texts).to(self._device), normalize=True)

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """(B,77) ids: 49406, the text, 49407, then 0; a vector is read where 49407 stands."""
        return open_clip.tokenize(list(texts), self.network.context_length)

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Of each text, whether its end is cut."""
        return open_clip.tokenize(list(texts), self.network.context_length + 1)[:, -1].bool().tolist()

    def describe(self) -> dict[str, Any]:
        """Network, SHA-256, preprocessing and the versions of what resizes and tokenises."""
        versions = {"open_clip": open_clip.__version__, "torchvision": torchvision.__version__,
                    "pillow": PIL.__version__}
        return {"network": self.name, "weights": self.weights, "preprocess": self.preprocess.name,
                "versions": versions}

    @property
    def _device(self) -> torch.device:
        return self.network.logit_scale.device


@dataclass(frozen=True)
class PublishedClip:
    """A published file, and the network that it fills."""

    weights: Weights
    config: dict[str, Any]  # of the network, in open_clip's terms
    preprocess: Preprocess = CROPPED

    def load(self, folder: Path, device: torch.device) -> OpenClip:
        """The network with the weights from ``folder`` or the hub. Raises WeightsAbsent, or ValueError for a bad file.

        Tensors lie at the top of the file or, as open_clip's training saves them, under "state_dict".
        """
        path = self.weights.find(folder)
        tensors = read_weights(path)
        network = fill(self.network(), tensors.get("state_dict", tensors), path)
        return OpenClip(network.to(device), self.weights.name, file_hash(path), self.preprocess)

    def network(self) -> open_clip.CLIP:
        """The network on the meta device: a billion weights are not drawn, only to be overwritten."""
        with torch.device("meta"):
            network = open_clip.CLIP(**self.config)
        length = network.context_length
        network.attn_mask = torch.full((length, length), float("-inf")).triu(1)  # the one tensor that no file holds
        return network


VIT_L_14 = PublishedClip(
    Weights("CLIP ViT-L/14", "vit_large_patch14_clip_224.openai/open_clip_model.safetensors",
            "timm/vit_large_patch14_clip_224.openai", "MIT", 1711),
    open_clip.get_model_config("ViT-L-14-quickgelu"))
"""OpenAI's, and the size whose cosines fit the paper's CLIP-T best."""

VIT_B_32 = PublishedClip(
    Weights("CLIP ViT-B/32", "vit_base_patch32_clip_224.openai/open_clip_model.safetensors",
            "timm/vit_base_patch32_clip_224.openai", "MIT", 605),
    open_clip.get_model_config("ViT-B-32-quickgelu"))
"""OpenAI's smaller one: the paper does not say which size it used."""
