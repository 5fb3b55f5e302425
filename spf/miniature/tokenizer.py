"""The miniature's CLIPTokenizer: the world's words are whole tokens, any other text falls back to bytes."""

import json
from itertools import chain
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from spf.miniature.people import ATTRIBUTES, PHRASES, TARGETS

LENGTH = 64
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer() -> CLIPTokenizer:
    """Byte-level BPE in CLIP's conventions: 512 byte tokens, merges up to every word of the world, two specials."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False)])
    trainer = trainers.BpeTrainer(vocab_size=10_000, end_of_word_suffix="</w>", initial_alphabet=alphabet,
                                  show_progress=False)
    # four times, so that each pair of letters occurs often enough to be merged
    bpe.train_from_iterator([" ".join([*world_words() * 2, ","] * 2)], trainer)
    merges = [tuple(merge) for merge in _merges(bpe)]
    tokens = [*alphabet, *(byte + "</w>" for byte in alphabet), *("".join(merge) for merge in merges), START, END]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def save_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write ``folder/tokenizer`` and return what a user will load from there."""
    build_tokenizer().save_pretrained(folder / "tokenizer")
    return CLIPTokenizer.from_pretrained(folder / "tokenizer")


def world_words() -> list[str]:
    """Every word of the world, once."""
    texts = chain(*TARGETS.values(), *PHRASES.values(), *ATTRIBUTES.values())
    return sorted({word for text in texts for word in text.split() if "{" not in word})


def _merges(bpe: Tokenizer) -> list[list[str]]:
    return json.loads(bpe.to_str())["model"]["merges"]
