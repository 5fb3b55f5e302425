"""The true CLIP tokenizer, built offline from the merges that the open_clip wheel ships.

A single-file SD 1.5 checkpoint carries no tokenizer, and tests need the real one: 49408 tokens, <|endoftext|> pads.
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

from transformers import CLIPTokenizer

VOCABULARY = 49408
BYTES = 256


def clip_tokenizer() -> CLIPTokenizer:
    """OpenAI CLIP's byte-pair tokenizer as SD 1.5 configures it: 77 tokens, lower case.

    Raises ModuleNotFoundError when open_clip is not installed.
    """
    merges = _merges()
    letters = _byte_letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def _merges() -> list[tuple[str, str]]:
    package = find_spec("open_clip")  # located, not imported: the import alone takes seconds
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the CLIP tokenizer is read from the open_clip wheel: pip install open_clip_torch")
    lines = gzip.decompress((Path(package.origin).parent / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode()
    count = VOCABULARY - 2 * BYTES - 2  # the file goes on after the merges CLIP was trained with
    return [tuple(line.split()) for line in lines.split("\n")[1 : count + 1]]


def _byte_letters() -> list[str]:
    """The printable letter that stands for each byte, in the order of CLIP's vocabulary (as in GPT-2)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = BYTES - len(printable)
    return [chr(byte) for byte in printable] + [chr(BYTES + index) for index in range(hidden)]
