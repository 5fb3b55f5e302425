"""Stable Diffusion 3.5: a transformer in whose blocks image and text attend to both jointly (MM-DiT).

Paper: App. D, Eq. 14, 15 (Q of text and image, K and V of the image) and Eq. 17 (phrases in CLIP and T5); Eq. 16 and 18
are Eq. 5 and 7 of its velocities, and have no code of their own. Layers are read from the transformer itself, with dual
attention (3.5 Medium) or without; only the joint attention is captured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_vae_checkpoint,
    convert_sd3_transformer_checkpoint_to_diffusers,
)
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from spf.backbones.base import Backbone
from spf.backbones.capture import Projection, Projections, already_split, split_heads
from spf.backbones.flow import RectifiedFlow
from spf.backbones.loading import BASES, converting, fill, load_weights
from spf.backbones.original_names import DENOISER, VAE, transformer_state, vae_state
from spf.notation import Conditions
from spf.text import Prompt, Tokens, tokenize

T5_TOKENS = 256  # as many as the stock pipeline reads; fewer where T5's tokenizer knows no longer texts

ENCODERS = {
    "text_encoder": CLIPTextModelWithProjection,
    "text_encoder_2": CLIPTextModelWithProjection,
    "text_encoder_3": T5EncoderModel,
}
TOKENIZERS = {"tokenizer": CLIPTokenizer, "tokenizer_2": CLIPTokenizer, "tokenizer_3": T5TokenizerFast}
"""By folder name: of CLIP-L, CLIP-G and T5."""

ABSENT = [None, None]


class MMDiTBackbone(Backbone):
    """v_theta is an SD3Transformer2DModel; E are the tokens of CLIP-L and CLIP-G, side by side, and then those of T5.

    T5 may be absent: its tokens are then zeros, as the stock pipeline has them when it is given None in its place.
    """

    pipeline = "StableDiffusion3Pipeline"
    denoiser_folder = "transformer"
    text_side = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "norm_added_q", "norm_added_k")
    unused_parts = dict.fromkeys(("text_encoder_3", "tokenizer_3", "image_encoder", "feature_extractor"), ABSENT)

    def __init__(
        self,
        transformer: SD3Transformer2DModel,
        vae: AutoencoderKL,
        encoders: Mapping[str, nn.Module],
        tokenizers: Mapping[str, Any],
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        super().__init__(transformer, vae, encoders, tokenizers, scheduler, RectifiedFlow(scheduler.config))

    @classmethod
    def from_folder(cls, folder: Path, random_denoiser: bool = False) -> MMDiTBackbone:
        """From a diffusers folder, without T5 where its index names none; ``random_denoiser`` reads only a config."""
        denoiser = random_transformer if random_denoiser else partial(load_weights, SD3Transformer2DModel)
        return cls._around(denoiser(folder / "transformer"), load_weights(AutoencoderKL, folder / "vae"), folder)

    @classmethod
    def from_original(cls, weights: Mapping[str, Tensor], file: Path) -> MMDiTBackbone:
        """From the weights of an original SD 3.5 checkpoint: the transformer, and the VAE where it holds one.

        All else is read from the diffusers folder in which ``file`` lies, as Stability's own does on the hub; text
        encoders that ``file`` may hold are passed over.

        Raises FileNotFoundError for what is not in that folder, ValueError when ``file`` lacks a weight.
        """
        folder = file.parent
        _insist_on_surroundings(file)
        transformer, vae_weights = random_transformer(folder / "transformer"), _part(weights, VAE)
        with converting(file):
            fill(transformer, convert_sd3_transformer_checkpoint_to_diffusers(_part(weights, DENOISER)), file)
            if vae_weights:
                vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae", local_files_only=True))
                fill(vae, convert_ldm_vae_checkpoint(vae_weights, vae.config), file)
            else:
                vae = load_weights(AutoencoderKL, folder / "vae")
        return cls._around(transformer, vae, folder)

    @classmethod
    def _around(cls, transformer: SD3Transformer2DModel, vae: AutoencoderKL, folder: Path) -> MMDiTBackbone:
        """With the text encoders, the tokenizers and the scheduler of a diffusers folder."""
        present = _present(folder)
        return cls(
            transformer,
            vae,
            encoders={name: load_weights(kind, folder / name) for name, kind in ENCODERS.items() if name in present},
            tokenizers={
                name: kind.from_pretrained(folder / name, local_files_only=True)
                for name, kind in TOKENIZERS.items()
                if name in present
            },
            scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
        )

    @torch.no_grad()
    def read(self, texts: Sequence[Prompt]) -> Conditions:
        tokens, clip, pooled = self._read_by_clip(texts)
        t5_tokens, t5 = self._read_by_t5(texts)
        sequence = torch.cat([functional.pad(clip, (0, t5.shape[-1] - clip.shape[-1])), t5], 1)  # (B,T,E)
        return Conditions(sequence, pooled, *joined_rows([tokens, *t5_tokens], sequence.shape[1]))

    def _read_by_clip(self, texts: Sequence[Prompt]) -> tuple[Tokens, Tensor, Tensor]:
        """Tokens, which both CLIPs cut alike, their features side by side (B,77,E) and those of the text (B,F)."""
        seen = []
        for end in ("", "_2"):
            encoder = self.encoders[f"text_encoder{end}"]
            tokens = tokenize(texts, self.tokenizers[f"tokenizer{end}"], encoder.config.max_position_embeddings)
            seen.append(encoder(tokens.ids.to(encoder.device), output_hidden_states=True))
        features, pooled = [one.hidden_states[-2] for one in seen], [one.text_embeds for one in seen]
        return tokens, torch.cat(features, -1), torch.cat(pooled, -1)

    def _read_by_t5(self, texts: Sequence[Prompt]) -> tuple[list[Tokens], Tensor]:
        """Tokens, and their features (B,T,E), T <= 256; where there is no T5 no tokens, and zeros."""
        if "text_encoder_3" not in self.encoders:
            shape = (len(texts), T5_TOKENS, self.denoiser.config.joint_attention_dim)
            clip = self.encoders["text_encoder"]
            return [], torch.zeros(shape, dtype=clip.dtype, device=clip.device)
        tokenizer = self.tokenizers["tokenizer_3"]
        tokens = tokenize(texts, tokenizer, min(T5_TOKENS, tokenizer.model_max_length))
        encoder = self.encoders["text_encoder_3"]
        kind = encoder.device.type
        # what T5 computes is greater than float16 can say
        computes = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) != torch.float16
        with torch.autocast(kind, torch.bfloat16, enabled=computes):
            return [tokens], encoder(tokens.ids.to(encoder.device))[0]

    def forward_denoiser(self, x_t: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        sequence, pooled = conditions.sequence.to(x_t.dtype), conditions.pooled.to(x_t.dtype)
        return self.denoiser(x_t, sequence, pooled, t, return_dict=False)[0]

    def projections(self) -> Projections:
        layers = {name: module for name, module in self.denoiser.named_modules() if name.endswith(".attn")}
        return {name: _fields(name, module) for name, module in layers.items()}

    def attention_parameters(self) -> list[str]:
        return [name for name, _ in self.denoiser.named_parameters() if ".attn." in name]

    def blocks(self) -> list[nn.Module]:
        return list(self.denoiser.transformer_blocks)

    def original_state(self) -> dict[str, Tensor]:
        """Transformer and VAE, in the names of SD 3.5; its text encoders are files of their own there."""
        return transformer_state(self.denoiser) | vae_state(self.vae)


def _present(folder: Path) -> set[str]:
    """The parts that a diffusers folder's index names."""
    index = json.loads((folder / "model_index.json").read_text())
    return {name for name, part in index.items() if part != ABSENT}


def _insist_on_surroundings(file: Path) -> None:
    """Raises FileNotFoundError where an original checkpoint does not lie in the folder of a base model."""
    folder, due = file.parent, ["model_index.json", *(f"{part}/config.json" for part in ("transformer", "vae"))]
    if (folder / due[0]).is_file():
        due += [part for part in ("scheduler", *ENCODERS, *TOKENIZERS) if part in _present(folder)]
    for part in due:
        if not (folder / part).exists():
            raise FileNotFoundError(
                f"{file} is no whole model, and {folder / part}, of what goes with it, is missing: put the file into "
                f"the folder of its base model (`hf download {BASES['sd35m']} --local-dir {folder}` fetches one)"
            )


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: weight for name, weight in weights.items() if name.startswith(prefix)}


def random_transformer(folder: Path) -> SD3Transformer2DModel:
    """A transformer of that folder's configuration with weights drawn from torch's global seed."""
    return SD3Transformer2DModel.from_config(SD3Transformer2DModel.load_config(folder, local_files_only=True))


def joined_rows(read: Sequence[Tokens], length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Base tokens (B,T), target tokens (B,T) and phrase weights (B,T,P), one encoder's rows after the other's.

    T = ``length``: the rows after those of the encoders are nobody's.
    """
    base, target, phrases = (
        torch.cat([getattr(tokens, rows) for tokens in read], 1)
        for rows in ("base_tokens", "target_tokens", "phrase_weights")
    )
    # ---- Eq. 17: A = (A_CLIP + A_T5) / 2; an encoder that lost a phrase to truncation does not count ----
    phrases = phrases / phrases.sum(1, keepdim=True).clamp(min=1)
    rest = length - base.shape[1]
    return functional.pad(base, (0, rest)), functional.pad(target, (0, rest)), functional.pad(phrases, (0, 0, 0, rest))


def _fields(layer: str, attention: nn.Module) -> dict[str, Projection]:
    """Eq. 14, 15, each path with its own V^vis; the model's own softmax is over the keys of image and text."""
    split = partial(split_heads, heads=attention.heads)

    def normed(norm: str, projection: str) -> Projection:
        """What the softmax reads; Stable Diffusion 3.0 has no norms."""
        if getattr(attention, norm) is None:
            return Projection(f"{layer}.{projection}", split)
        return Projection(f"{layer}.{norm}", already_split)

    image_key, text_key = normed("norm_k", "to_k"), normed("norm_added_k", "add_k_proj")
    # ---- Eq. 14: F = Softmax(Q^txt K^vis^T / sqrt(d)) V^vis; Eq. 15: Q^vis is compared ----
    return {
        "text": normed("norm_added_q", "add_q_proj"),
        "key": image_key,
        "value": Projection(f"{layer}.to_v", split),
        "query": normed("norm_q", "to_q"),
        "context_key": image_key._replace(then=text_key.module),
    }
