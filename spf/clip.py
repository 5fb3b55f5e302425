"""The frozen CLIP in which losses and metrics live: tau_v, tau_t and D_CLIP (paper, Eq. 5, 10, 11)."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

CLIPS = {"miniature": str(files("spf") / "miniature" / "weights" / "clip"),
         "vit-l-14": "openai/clip-vit-large-patch14"}
"""Short names: the miniature's, and the paper's."""

VIT_L_14 = {
    "projection_dim": 768,
    "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                      "num_attention_heads": 16, "patch_size": 14, "image_size": 224}}
"""The configuration of the paper's."""


class Clip(nn.Module):
    """tau_v and tau_t: images and texts as unit vectors of one space. Frozen; gradients flow to the images."""

    def __init__(self, model: CLIPModel, tokenizer: CLIPTokenizer | None, mean: Sequence[float],
                 std: Sequence[float]) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        size = model.config.vision_config.image_size
        self.prepare = v2.Compose([
            v2.Resize(size, v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(size),
            v2.Normalize(list(mean), list(std))])

    @classmethod
    def load(cls, source: str | Path) -> "Clip":
        """From a name in ``CLIPS``, a transformers folder or a hub id (the paper: openai/clip-vit-large-patch14).

        Raises FileNotFoundError, with what to fetch and where to put it, when it cannot be had.
        """
        source = CLIPS.get(str(source), source)
        try:
            model: Any = CLIPModel.from_pretrained(source)
            processor = CLIPImageProcessor.from_pretrained(source)
            tokenizer = CLIPTokenizer.from_pretrained(source)
        except OSError as error:
            raise FileNotFoundError(
                f"CLIP {source!r} is no folder here and cannot be fetched; where there is a network, run `hf download "
                "openai/clip-vit-large-patch14 --local-dir models/clip-vit-large-patch14` (MIT licence), then give "
                "that folder") from error
        return cls(model.float(), tokenizer, processor.image_mean, processor.image_std)

    @classmethod
    def weightless(cls, source: str | Path) -> "Clip":
        """Its shape on the meta device, of a folder's configuration, or of ViT-L/14; it reads no texts."""
        folder = Path(CLIPS.get(str(source), source))
        config = CLIPConfig.from_pretrained(folder) if folder.is_dir() else CLIPConfig(**VIT_L_14)
        with torch.device("meta"):
            return cls(CLIPModel(config).float(), None, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)

    def image(self, image: Tensor) -> Tensor:
        """tau_v: images (B,3,H,W) in [0,1], any size -> unit vectors (B,E)."""
        seen = self.model.get_image_features(self.prepare(image.float()))
        return F.normalize(seen.pooler_output, dim=-1)

    @torch.no_grad()
    def text(self, texts: Sequence[str]) -> Tensor:
        """tau_t: B texts -> unit vectors (B,E); what the text tower cannot read to its end is cut."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self.model.device)
        with torch.autocast(self.model.device.type, enabled=False):  # cosines of texts differ by little
            return F.normalize(self.model.get_text_features(**tokens).pooler_output, dim=-1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """D_CLIP: the cosine of vectors (...,E) and (...,E), in [-1,1]."""
    return F.cosine_similarity(a, b, dim=-1)
