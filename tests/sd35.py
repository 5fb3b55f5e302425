"""Stable Diffusion 3.5 Medium, shrunk: a random transformer of three blocks, one of them with dual attention."""

from string import ascii_letters, digits, punctuation
from typing import Any

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from spf.backbones.clip_bpe import clip_tokenizer
from spf.backbones.mmdit import MMDiTBackbone

TRANSFORMER = {
    "sample_size": 8, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 3, "attention_head_dim": 16,
    "num_attention_heads": 2, "joint_attention_dim": 96, "caption_projection_dim": 32, "pooled_projection_dim": 72,
    "pos_embed_max_size": 16, "dual_attention_layers": (0,), "qk_norm": "rms_norm",
}  # fmt: skip
WORDS = ("▁woman", "▁a", "▁in", "▁brown", "▁jack", "et", "▁with", "▁cur", "tain", "▁background", "▁hair", "▁man")

ABSENT = {"tiny_sd35": {}, "tiny_sd35_without_t5": {"text_encoder_3": None, "tokenizer_3": None}}
"""By fixture (of conftest.py), what the stock pipeline must be told to do without."""


def tiny_sd35(t5: bool, **transformer: Any) -> MMDiTBackbone:
    """From torch's global seed; ``transformer`` changes its configuration."""
    encoders, tokenizers = {"text_encoder": clip(32), "text_encoder_2": clip(40)}, {"tokenizer": clip_tokenizer()}
    tokenizers["tokenizer_2"] = padded_with_exclamation_marks()
    if t5:
        tokenizers["tokenizer_3"] = t5_tokenizer()
        encoders["text_encoder_3"] = T5EncoderModel(T5Config(
            vocab_size=len(tokenizers["tokenizer_3"]), d_model=96, d_kv=16, d_ff=64, num_layers=2, num_heads=2,
            feed_forward_proj="gated-gelu"))
    vae = AutoencoderKL(
        block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=16,
        up_block_types=("UpDecoderBlock2D",) * 4, use_quant_conv=False, use_post_quant_conv=False, sample_size=64,
        scaling_factor=1.5305, shift_factor=0.0609)
    return MMDiTBackbone(SD3Transformer2DModel(**{**TRANSFORMER, **transformer}), vae, encoders, tokenizers,
                         FlowMatchEulerDiscreteScheduler(shift=3.0))


def clip(width: int) -> CLIPTextModelWithProjection:
    """CLIP's text tower with its projection, as wide as asked."""
    return CLIPTextModelWithProjection(CLIPTextConfig(
        hidden_size=width, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, projection_dim=width,
        bos_token_id=49406, eos_token_id=49407, pad_token_id=49407))


def padded_with_exclamation_marks() -> CLIPTokenizer:
    """CLIP-G's: it pads with "!", token 0."""
    tokenizer = clip_tokenizer()
    tokenizer.pad_token = "!"
    return tokenizer


def t5_tokenizer() -> T5TokenizerFast:
    """A unigram one as T5's: some words and word pieces, and letters for the rest."""
    letters = [mark + letter for mark in ("▁", "") for letter in ascii_letters + digits + punctuation]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(word, -2.0) for word in WORDS] + [(letter, -6.0) for letter in letters if letter not in WORDS]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)
