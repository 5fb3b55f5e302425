"""Nouns and what describes them, "long red hair", in base text and target text: what Magnet and STORM keep together."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile

from spf.backbones import Backbone
from spf.text import ONLY_DETERMINER, Prompt, Span, phrase_spans, token_rows

WORD = re.compile(r"\w+(?:['’-]\w+)*(?![\w*])")  # "V*" is no word
NO_THINGS = {"photo", "bunches", "bunch", "front", "patch", "side", "pile", "piece"}
"""Magnet's list: alone they name nothing that could be seen."""
PICTURES = {"photo", "photograph", "portrait", "picture", "painting", "image", "headshot", "close-up", "shot"}
"""Nor do these, however they are described: "a studio portrait of"."""


@dataclass(frozen=True)
class NounPhrase:
    """A noun with the words before it (Magnet's concept), and where they stand in the prompt's full text."""

    words: tuple[str, ...]  # in lower case, without determiner; the last is the noun
    spans: tuple[Span, ...]  # of each word: characters
    of_target: bool

    @property
    def text(self) -> str:
        """The whole of it."""
        return " ".join(self.words)

    @property
    def noun(self) -> str:
        """What is described."""
        return self.words[-1]

    @property
    def attribute(self) -> str:
        """How; "" for a noun alone."""
        return " ".join(self.words[:-1])


def noun_phrases(prompt: Prompt) -> list[NounPhrase]:
    """Those of the base text, then those of the target text: spaCy's where it is installed, else a rule's.

    Both are read afresh, as ``spf.text`` does it: phrases that come with a prompt may be longer ("in a red jacket").
    """
    target = Prompt(prompt.target_text.strip())
    start = len(prompt.full_text) - len(target.base_text)
    found = [*_of(Prompt(prompt.base_text), 0, False), *_of(target, start, True)]
    return [phrase for phrase in found if phrase.noun not in PICTURES and phrase.text not in NO_THINGS]


def _of(part: Prompt, start: int, of_target: bool) -> list[NounPhrase]:
    """Those of a text that begins at the character ``start`` of the whole."""
    found = []
    for left, right in phrase_spans(part):
        words = WORD.finditer(part.stripped_base, left, right)
        words = list(dropwhile(lambda word: ONLY_DETERMINER.fullmatch(word.group()), words))
        if words:
            spans = tuple((start + word.start(), start + word.end()) for word in words)
            found.append(NounPhrase(tuple(word.group().lower() for word in words), spans, of_target))
    return found


def last_tokens(prompt: Prompt, spans: Sequence[Span], backbone: Backbone, length: int) -> list[int | None]:
    """Which of T = ``length`` tokens is the last of each span of the full text; None for what truncation removed."""
    tokenizer = backbone.tokenizers["tokenizer"]
    encoded = tokenizer(prompt.full_text, truncation=True, max_length=length, return_offsets_mapping=True)
    rows = [token_rows(prompt.full_text, encoded.offset_mapping, span).nonzero().flatten().tolist() for span in spans]
    return [row[-1] if row else None for row in rows]
