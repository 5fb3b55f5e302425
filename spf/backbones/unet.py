"""Stable Diffusion 1.5: a UNet with cross-attention to CLIP's token features.

Paper: Sec. 4.1 (base model), Eq. 2 (E), Eq. 3 (Q of the image, K of the text). Layers and grids are read from the UNet
itself, so any UNet2DConditionModel with CLIP text features fits, the miniature's included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from spf.backbones.base import Backbone
from spf.backbones.capture import Projection, Projections, split_heads
from spf.backbones.clip_bpe import clip_tokenizer
from spf.backbones.loading import converting, fill, load_weights
from spf.backbones.original_names import text_state, unet_state, vae_state
from spf.backbones.process import Diffusion
from spf.notation import Conditions
from spf.text import Prompt, tokenize

SD15_CONFIG = Path(str(files("spf") / "backbones" / "sd15"))
"""The configuration of Stable Diffusion 1.5, for checkpoints that are a single file."""

FORWARD_ORDER = ("down_blocks", "mid_block", "up_blocks")


class UNetBackbone(Backbone):
    """epsilon_theta (or v_theta) is a UNet2DConditionModel; E is the last hidden state of CLIP's text tower."""

    pipeline = "StableDiffusionPipeline"
    denoiser_folder = "unet"
    text_side = ("to_k", "to_v")
    unused_parts = {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        scheduler: Any,
    ) -> None:
        encoders, tokenizers = {"text_encoder": text_encoder}, {"tokenizer": tokenizer}
        super().__init__(unet, vae, encoders, tokenizers, scheduler, Diffusion(scheduler.config))

    @classmethod
    def from_folder(cls, folder: Path, random_denoiser: bool = False) -> UNetBackbone:
        """From a diffusers folder; ``random_denoiser`` reads only the UNet's config (weights from torch's seed)."""
        denoiser = random_unet if random_denoiser else partial(load_weights, UNet2DConditionModel)
        solver = diffusers.DDIMScheduler.load_config(folder / "scheduler", local_files_only=True)["_class_name"]
        return cls(
            unet=denoiser(folder / "unet"),
            vae=load_weights(AutoencoderKL, folder / "vae"),
            text_encoder=load_weights(CLIPTextModel, folder / "text_encoder"),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            scheduler=getattr(diffusers, solver).from_pretrained(folder / "scheduler", local_files_only=True),
        )

    @classmethod
    def from_original(cls, weights: Mapping[str, Tensor], file: Path, config: Path = SD15_CONFIG) -> UNetBackbone:
        """From the weights of an original SD 1.5 checkpoint: UNet, VAE and text tower in one file, no network.

        Raises ValueError when the file lacks a weight of ``config``.
        """
        unet, vae = random_unet(config / "unet"), AutoencoderKL.from_config(AutoencoderKL.load_config(config / "vae"))
        text_encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(config / "text_encoder"))
        with converting(file):
            unet_weights = convert_ldm_unet_checkpoint(weights, unet.config)
            vae_weights = convert_ldm_vae_checkpoint(weights, vae.config)
            text_weights = convert_ldm_clip_checkpoint(weights)
        return cls(
            unet=fill(unet, unet_weights, file),
            vae=fill(vae, vae_weights, file),
            text_encoder=fill(text_encoder, {k.removeprefix("text_model."): v for k, v in text_weights.items()}, file),
            tokenizer=clip_tokenizer(),
            scheduler=PNDMScheduler.from_pretrained(config / "scheduler", local_files_only=True),
        )

    @torch.no_grad()
    def read(self, texts: Sequence[Prompt]) -> Conditions:
        encoder = self.encoders["text_encoder"]
        tokens = tokenize(texts, self.tokenizers["tokenizer"], encoder.config.max_position_embeddings)
        # ---- Eq. 2: E = tau_text(y); CLIP is causal, so E_base is the same in both paths ----
        sequence = encoder(tokens.ids.to(encoder.device)).last_hidden_state  # (B,T,E)
        rows = (tokens.base_tokens, tokens.target_tokens, tokens.phrase_weights)
        return Conditions(sequence, None, *rows)

    def forward_denoiser(self, x_t: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        sequence = conditions.sequence.to(x_t.dtype)
        # a parallel adapter reads the target's tokens, under diffusers' own name for it; other layers ignore them
        masks = {"ip_adapter_masks": conditions.target_tokens}
        return self.denoiser(x_t, t, sequence, cross_attention_kwargs=masks, return_dict=False)[0]

    def projections(self) -> Projections:
        layers = {name: module for name, module in self.denoiser.named_modules() if name.endswith(".attn2")}
        in_order = sorted(layers, key=lambda name: FORWARD_ORDER.index(name.split(".")[0]))
        return {name: _fields(name, layers[name]) for name in in_order}

    def attention_parameters(self) -> list[str]:
        return [name for name, _ in self.denoiser.named_parameters() if ".attn2." in name]

    def blocks(self) -> list[nn.Module]:
        return [*self.denoiser.down_blocks, self.denoiser.mid_block, *self.denoiser.up_blocks]

    def original_state(self) -> dict[str, Tensor]:
        """UNet, VAE and text tower, in the names of SD 1.5."""
        return unet_state(self.denoiser) | vae_state(self.vae) | text_state(self.encoders["text_encoder"])


def random_unet(folder: Path) -> UNet2DConditionModel:
    """A UNet of that folder's configuration with weights drawn from torch's global seed."""
    return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder, local_files_only=True))


def _fields(layer: str, attention: nn.Module) -> dict[str, Projection]:
    split = partial(split_heads, heads=attention.heads)
    image, text = Projection(f"{layer}.to_q", split), Projection(f"{layer}.to_k", split)
    return {"text": text, "key": image, "value": image, "query": image, "context_key": text}
