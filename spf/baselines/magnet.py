"""Magnet (Zhuang et al. 2024): the feature of each noun is drawn to its own attribute and pushed from the others'.

Row "Magnet" of Table 1. Free of training: the text features are edited once, before the first step; the negative prompt
is not. Written down from the released code; all of it is computed in float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from spf.backbones import Backbone
from spf.baselines.noun_phrases import NounPhrase, last_tokens, noun_phrases
from spf.baselines.nouns import NOUNS
from spf.notation import Conditions, Guidance
from spf.text import Prompt

BATCH = 64  # texts encoded at a time


@dataclass(frozen=True)
class Alone:
    """Short texts, each encoded by itself and padded as prompts are; e is the place of a text's first end mark."""

    vector: Tensor  # (S,E) the feature of the last token before e
    omega: Tensor  # (S,) cosine of the features of e and of the last padding, in [-1,1]
    tokens: Tensor  # (S,) how many, without start and end marks


def alone(texts: Sequence[str], backbone: Backbone) -> Alone:
    """Encode S texts, in float32 also under autocast."""
    with torch.autocast(backbone.device.type, enabled=False):
        parts = [_alone(texts[start:start + BATCH], backbone) for start in range(0, len(texts), BATCH)]
    return Alone(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _alone(texts: Sequence[str], backbone: Backbone) -> tuple[Tensor, Tensor, Tensor]:
    conditions = backbone.condition([Prompt(text, phrases=(text,)) for text in texts])
    features, tokens = conditions.sequence.float(), conditions.base_tokens.sum(1)  # (S,T,E), (S,)
    rows = torch.arange(len(texts), device=features.device)
    omega = functional.cosine_similarity(features[rows, tokens + 1], features[:, -1], dim=-1)
    return features[rows, tokens], omega, tokens


@dataclass
class Magnet(Guidance):
    """Edits the feature of every described noun's last token.

    Args:
        strength: factor of the edit; the method's own is 1.
        binding: lambda of alpha = exp(lambda - omega).
        neighbours: K, the nouns most like a noun, itself among them, that stand for it.
    """

    strength: float = 1.0
    binding: float = 0.6
    neighbours: int = 5
    _banks: WeakKeyDictionary = field(default_factory=WeakKeyDictionary, init=False, repr=False, compare=False)

    def edits(self, text: Prompt) -> bool:
        """Whether some noun of base or target text is described."""
        return any(pair.attribute for pair in concepts(text))

    @torch.no_grad()
    def edit(self, texts: Sequence[Prompt], conditions: Conditions, backbone: Backbone) -> Conditions:
        """A prompt without a described noun keeps its features; so does a noun that truncation removed.

        Raises ValueError for a base whose text features come from several encoders.
        """
        if len(backbone.tokenizers) > 1:
            raise ValueError(f"Magnet edits the features of one text encoder, and this base has "
                             f"{len(backbone.tokenizers)}: use it with a base of SD 1.5's kind")
        features = conditions.sequence.float().clone()  # (B,T,E)
        # each prompt by itself, so that its features do not depend on those beside it
        vectors = {text: self.vectors(concepts(text), backbone) for text in dict.fromkeys(texts) if self.edits(text)}
        for row, text in enumerate(texts):
            if text in vectors:
                nouns = [pair.spans[-1] for pair in concepts(text)]
                places = last_tokens(text, nouns, backbone, features.shape[1])
                for place, vector in zip(places, vectors[text], strict=True):
                    if place is not None:
                        features[row, place] += self.strength * vector
        return replace(conditions, sequence=features.to(conditions.sequence.dtype))

    def vectors(self, pairs: Sequence[NounPhrase], backbone: Backbone) -> Tensor:
        """What is added to the feature of each pair's noun: (P,E) float32."""
        omega = alone([pair.text for pair in pairs], backbone).omega
        nouns = alone([pair.noun for pair in pairs], backbone).vector
        # ---- Magnet: alpha = exp(lambda - omega), beta = 1 - omega^2 ----
        alpha, beta = (self.binding - omega).exp(), 1 - omega.square()
        edits = []
        for index, pair in enumerate(pairs):
            shifts = attribute_shifts(pairs, self.nearest(pair.noun, nouns[index], backbone), backbone)  # (P,E)
            own = shifts[index]
            # ---- Magnet: alpha v+ - beta sum of the other pairs' v- ----
            edits.append(alpha[index] * own - beta[index] * (shifts.sum(0) - own))
        return torch.stack(edits)

    def nearest(self, noun: str, vector: Tensor, backbone: Backbone) -> list[str]:
        """The K nouns whose vectors have the greatest cosine with this noun's (E,), itself the first of them."""
        nouns, vectors = self._bank(backbone)
        if noun not in nouns:
            nouns, vectors = [*nouns, noun], torch.cat([vectors, vector[None]])
        likeness = functional.cosine_similarity(vectors, vector[None])
        return [nouns[index] for index in likeness.topk(min(self.neighbours, len(nouns))).indices.tolist()]

    def _bank(self, backbone: Backbone) -> tuple[list[str], Tensor]:
        """The nouns that the text encoder knows as words of its own (one token), and their vectors."""
        if backbone not in self._banks:
            found = alone(NOUNS, backbone)
            known = (found.tokens == 1).nonzero().flatten()
            self._banks[backbone] = [NOUNS[index] for index in known.tolist()], found.vector[known]
        nouns, vectors = self._banks[backbone]
        return nouns, vectors.to(backbone.device)


def concepts(prompt: Prompt) -> list[NounPhrase]:
    """Magnet's pairs of concept and subject: noun phrases that are not part of how another noun is described."""
    found = noun_phrases(prompt)
    return [one for one in found if not any(f" {one.text} " in f" {other.attribute} " for other in found)]


def attribute_shifts(pairs: Sequence[NounPhrase], nouns: Sequence[str], backbone: Backbone) -> Tensor:
    """How each pair's attribute moves the vectors of these K nouns, on average; zero without one: (P,E)."""
    described = [f"{pair.attribute} {noun}".lstrip() for pair in pairs for noun in nouns]
    vectors = alone([*described, *nouns], backbone).vector
    # ---- Magnet: v = 1/K sum_k [ w(attribute, noun_k) - w(noun_k) ] ----
    return (vectors[:-len(nouns)].unflatten(0, (len(pairs), len(nouns))) - vectors[-len(nouns):]).mean(1)
