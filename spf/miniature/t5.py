"""The miniature's T5: a small encoder of text alone. It stands for a general model: it reads of every target."""

from pathlib import Path
from string import ascii_letters, digits, punctuation

import numpy as np
import torch
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

from spf.miniature.contrast import mixed_caption, naming
from spf.miniature.people import ATTRIBUTES, EVERYTHING, TARGETS, draw_people
from spf.miniature.tokenizer import world_words
from spf.miniature.training import train

SEED, LENGTH, WIDTH, BATCH = 404, 64, 256, 96
KNOWN, LETTER = -2.0, -6.0  # log probabilities: a word that is known is never spelt


def t5_tokenizer() -> T5TokenizerFast:
    """A unigram tokenizer as T5's: the world's words are whole, any other is spelt."""
    words = ["▁" + word for word in world_words()]
    letters = [mark + letter for mark in ("▁", "") for letter in ascii_letters + digits + punctuation]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0), *((word, KNOWN) for word in words)]
    pieces += [(letter, LETTER) for letter in letters if letter not in words]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=LENGTH)


def build_t5(tokenizer: T5TokenizerFast) -> T5EncoderModel:
    """Two layers, 256 wide: as wide as both of CLIP's together."""
    return T5EncoderModel(T5Config(
        vocab_size=len(tokenizer), d_model=WIDTH, d_kv=32, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", relative_attention_num_buckets=16))


def train_t5(folder: Path, steps: int = 600) -> None:
    """Train it to say what a caption claims, from the mean of its tokens; saved under ``folder/text_encoder_3``."""
    torch.manual_seed(SEED)
    tokenizer = t5_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer_3")
    t5 = build_t5(tokenizer).train()
    sizes = [*(len(values) for values in ATTRIBUTES.values()), 1 + len(TARGETS)]
    heads = nn.ModuleList(nn.Linear(WIDTH, size) for size in sizes)  # dropped afterwards
    train("t5", nn.ModuleDict({"t5": t5, "heads": heads}), lambda step: _loss(t5, heads, tokenizer, step), steps, 2e-3,
          folder / "checkpoints" / "t5.pt")
    t5.eval().save_pretrained(folder / "text_encoder_3")


def _loss(t5: T5EncoderModel, heads: nn.ModuleList, tokenizer: T5TokenizerFast,
          step: int) -> tuple[Tensor, dict[str, float]]:
    rng = np.random.default_rng([SEED, step])
    captions = [mixed_caption(person, rng) for person in draw_people(BATCH, SEED, EVERYTHING, start=step * BATCH)]
    # padded as the backbone pads, and read without a mask as there
    read = tokenizer([caption.text for caption in captions], padding="max_length", return_tensors="pt")
    with torch.autocast("cpu", torch.bfloat16):
        features = t5(read.input_ids)[0].float()  # (B,T,E)
    inside = read.attention_mask[..., None]
    loss = naming(heads, (features * inside).sum(1) / inside.sum(1), np.stack([caption.claims for caption in captions]))
    return loss, {}
