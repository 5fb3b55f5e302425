"""Base text y_base, target text y_tar, their joining, the phrases of the base text and where all of it is in tokens.

Paper: Eq. 2 (base and target rows of E), Sec. 3.3 and Fig. 3 (phrases of the base text).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

Span = tuple[int, int]
"""Characters [start, end) of a text."""

MAX_PHRASES = 12

# Words that end one noun chunk and begin another where no parser is installed.
BOUNDARY = re.compile(
    r"[,;.]|\b(?:in front of|next to|in|on|at|with|of|by|near|under|over|behind|beside|against|before|between|from|to"
    r"|into|through|for|and|or|but|who|whose|that|which|is|are|has|have|having|wearing|holding|carrying|standing"
    r"|sitting|looking|featuring|showing|dressed|surrounded)\b",
    re.IGNORECASE,
)
ONLY_DETERMINER = re.compile(r"(?:a|an|the|his|her|their|its|this|some)?", re.IGNORECASE)


@dataclass(frozen=True)
class Prompt:
    """One text condition y = [y_base, y_tar]; without a target text it is what the reference path reads (Eq. 2).

    ``phrases`` of the base text may be given; when empty they are found by ``phrase_spans``.
    """

    base_text: str
    target_text: str = ""
    phrases: tuple[str, ...] = ()

    @property
    def base(self) -> Prompt:
        """The same prompt without its target text: the reference path's."""
        return Prompt(self.base_text, "", self.phrases)

    @property
    def stripped_base(self) -> str:
        """The base text as it stands in ``full_text``: without closing punctuation.

        "jacket." + ", hat" would merge ".," into one CLIP token, and the base tokens would differ between the paths.
        """
        return self.base_text.lstrip().rstrip(" ,.;\t\n")

    @property
    def full_text(self) -> str:
        """[y_base, y_tar]: the base tokens are a prefix of its tokens."""
        return ", ".join(filter(None, (self.stripped_base, self.target_text.strip())))


def phrases(prompt: Prompt) -> tuple[str, ...]:
    """The P phrases of the base text, as written there; ``Conditions.phrase_weights`` has its columns in this order."""
    return tuple(prompt.stripped_base[start:end] for start, end in phrase_spans(prompt))


@lru_cache(2**16)
def phrase_spans(prompt: Prompt) -> list[Span]:
    """Where the phrases stand in the base text: the prompt's own, else spaCy's noun chunks, else a rule's (Fig. 3).

    Raises ValueError when a phrase of the prompt does not occur in its base text.
    """
    if prompt.phrases:
        return _given_spans(prompt)
    parser = _parser()
    spans = _rule_spans(prompt.stripped_base) if parser is None else _noun_chunks(prompt.stripped_base, parser)
    return spans[:MAX_PHRASES]


def _given_spans(prompt: Prompt) -> list[Span]:
    spans: list[Span] = []
    for phrase in prompt.phrases:
        whole_words = re.compile(rf"(?<!\w){re.escape(phrase.strip())}(?!\w)", re.IGNORECASE)
        found = [match.span() for match in whole_words.finditer(prompt.stripped_base)]
        if not phrase.strip() or not found:
            raise ValueError(f"phrase {phrase!r} does not occur in the base text {prompt.base_text!r}")
        # a phrase given twice means its second occurrence
        spans.append(next((span for span in found if span not in spans), found[0]))
    return spans


def _rule_spans(text: str) -> list[Span]:
    edges = [0, *(edge for match in BOUNDARY.finditer(text) for edge in match.span()), len(text)]
    spans: list[Span] = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        end -= len(piece) - len(piece.rstrip())
        if not ONLY_DETERMINER.fullmatch(text[start:end]):
            spans.append((start, end))
    return spans


def _noun_chunks(text: str, parser: Any) -> list[Span]:
    chunks = parser(text).noun_chunks
    return [(chunk.start_char, chunk.end_char) for chunk in chunks if chunk.root.pos_ != "PRON"]


@cache
def _parser() -> Any | None:
    """spaCy with en_core_web_sm where both are installed: an optional dependency, loaded at first use."""
    try:
        import spacy

        return spacy.load("en_core_web_sm")
    except (ImportError, OSError):
        return None


@dataclass(frozen=True)
class Tokens:
    """A batch of prompts in the tokens of one tokenizer; fields as in ``Conditions``."""

    ids: Tensor  # (B,T) int64
    base_tokens: Tensor  # (B,T) bool
    target_tokens: Tensor  # (B,T) bool
    phrase_weights: Tensor  # (B,T,P) float32


def tokenize(prompts: Sequence[Prompt], tokenizer: Any, length: int) -> Tokens:
    """Prompts -> T = ``length`` tokens each, cut or padded, with the rows of base text and phrases (Eq. 2).

    Spans come from the fast tokenizer's character offsets, never from decoded strings. Truncation takes the end,
    that is the target text first, and warns once per text. P is the largest number of phrases, at least 1.
    """
    texts = [prompt.full_text for prompt in prompts]
    encoded = tokenizer(
        texts,
        padding="max_length",
        truncation=True,
        max_length=length,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    for prompt, whole in zip(prompts, tokenizer(texts, verbose=False).input_ids, strict=True):
        if len(whole) > length:
            _warn_truncated(prompt, len(whole) - length, length)
    spans = [phrase_spans(prompt) for prompt in prompts]
    base_tokens, target_tokens = torch.zeros(2, len(prompts), length, dtype=torch.bool)
    phrase_weights = torch.zeros(len(prompts), length, max(1, *map(len, spans)))
    for row, (prompt, offsets) in enumerate(zip(prompts, encoded.offset_mapping.tolist(), strict=True)):
        whole = len(prompt.full_text)
        base_tokens[row] = token_rows(prompt.full_text, offsets, (0, len(prompt.stripped_base)))
        target_tokens[row] = token_rows(prompt.full_text, offsets, (whole - len(prompt.target_text.strip()), whole))
        for column, span in enumerate(spans[row]):
            inside = token_rows(prompt.full_text, offsets, span)  # (T,)
            phrase_weights[row, :, column] = inside / inside.sum().clamp(min=1)
    return Tokens(encoded.input_ids, base_tokens, target_tokens, phrase_weights)


def token_rows(text: str, offsets: Sequence[Span], span: Span) -> Tensor:
    """(T,) bool: the tokens that share a character other than a space with ``span``; special tokens are empty."""
    start, end = span
    return torch.tensor([bool(text[max(left, start) : min(right, end)].strip()) for left, right in offsets])


@cache
def _warn_truncated(prompt: Prompt, lost: int, kept: int) -> None:
    cut = f"target text {prompt.target_text!r}" if prompt.target_text else "base text"
    warnings.warn(
        f"the tokenizer keeps {kept} tokens: the last {lost} of {prompt.full_text!r} are lost, and with them the end "
        f"of the {cut}; shorten the base text",
        stacklevel=3,
    )
