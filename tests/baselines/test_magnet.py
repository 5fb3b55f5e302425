"""Magnet's vectors, held against the text encoder called by hand."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from spf.backbones import Backbone, load_backbone
from spf.baselines import magnet
from spf.baselines.magnet import Magnet, concepts
from spf.baselines.noun_phrases import noun_phrases
from spf.baselines.nouns import NOUNS
from spf.evaluation.captions import requests_of
from spf.miniature.people import TARGETS
from spf.text import Prompt

pytestmark = pytest.mark.usefixtures("rule_based")

PROMPT = Prompt("a woman with long red hair", "wearing an antidisestablishment hat")
FEW = ("woman", "hair", "coat", "dog")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A short list of nouns, one of which is no single token."""
    monkeypatch.setattr(magnet, "NOUNS", (*FEW, "flibbertigibbet"))
    yield


def by_hand(text: str, backbone: Backbone) -> tuple[Tensor, int]:
    """Features (77,E) of a text by transformers alone, and the place of the first end mark."""
    tokenizer, encoder = backbone.tokenizers["tokenizer"], backbone.encoders["text_encoder"]
    ids = tokenizer(text, padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        return encoder(ids).last_hidden_state[0], ids[0].tolist().index(tokenizer.eos_token_id)


def word(text: str, backbone: Backbone) -> Tensor:
    features, end = by_hand(text, backbone)
    return features[end - 1]


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-5)


def test_a_text_alone_is_what_the_encoder_says(backbone: Backbone) -> None:
    texts = ["hair", "long red hair", "antidisestablishment hat"]
    found = magnet.alone(texts, backbone)
    for row, text in enumerate(texts):
        features, end = by_hand(text, backbone)
        assert close(found.vector[row], features[end - 1]) and int(found.tokens[row]) == end - 1
        assert close(found.omega[row], cosine_similarity(features[end], features[76], 0))
    assert not close(found.vector[0], found.vector[1])


def test_the_nearest_nouns(backbone: Backbone, few: None) -> None:
    likeness = {noun: float(cosine_similarity(word(noun, backbone), word("hair", backbone), 0)) for noun in FEW}
    expected = sorted(FEW, key=likeness.__getitem__, reverse=True)
    assert Magnet(neighbours=3).nearest("hair", word("hair", backbone), backbone) == expected[:3]
    assert expected[0] == "hair", "it stands for itself too"
    assert set(Magnet().nearest("hair", word("hair", backbone), backbone)) == set(FEW), "no more than there are"
    unknown = Magnet(neighbours=2).nearest("wig", word("wig", backbone), backbone)
    assert unknown[0] == "wig" and unknown[1] in FEW


def test_the_vectors_by_hand(backbone: Backbone, few: None) -> None:
    guidance, pairs = Magnet(binding=0.7, neighbours=2), concepts(PROMPT)
    assert [pair.text for pair in pairs] == ["woman", "long red hair", "antidisestablishment hat"]
    found = guidance.vectors(pairs, backbone)
    for row, pair in enumerate(pairs):
        features, end = by_hand(pair.text, backbone)
        omega = float(cosine_similarity(features[end], features[76], 0))
        near = guidance.nearest(pair.noun, word(pair.noun, backbone), backbone)
        shifts = {other.text: sum(word(other.text.replace(other.noun, noun), backbone) - word(noun, backbone)
                                  for noun in near) / 2 for other in pairs}
        positive = math.exp(0.7 - omega) * shifts.pop(pair.text)
        negative = (1 - omega**2) * sum(shifts.values())
        assert close(found[row], positive - negative)
    assert (found.norm(dim=1) > 1e-3).all()


def test_only_the_nouns_last_tokens_are_edited(backbone: Backbone, few: None) -> None:
    conditions = backbone.condition([PROMPT, Prompt("laughing")])
    edited = Magnet(strength=0.5).edit([PROMPT, Prompt("laughing")], conditions, backbone)
    ids = backbone.tokenizers["tokenizer"](PROMPT.full_text).input_ids
    words = [backbone.tokenizers["tokenizer"].decode(token).strip() for token in ids]
    places = [words.index(noun) for noun in ("woman", "hair", "hat")]
    moved = edited.sequence - conditions.sequence
    assert close(moved[0, places], 0.5 * Magnet().vectors(concepts(PROMPT), backbone))
    moved[0, places] = 0
    assert not moved.any(), "the rest stays, bit for bit"
    assert torch.equal(edited.phrase_weights, conditions.phrase_weights)


def test_a_prompt_does_not_see_those_beside_it(backbone: Backbone, few: None) -> None:
    other = Prompt("a man in a blue coat", "a striped scarf")
    three = backbone.condition([other, PROMPT, PROMPT])
    edited = Magnet().edit([other, PROMPT, PROMPT], three, backbone).sequence - three.sequence
    alone = replace(three, sequence=three.sequence[1:2])
    assert torch.equal(Magnet().edit([PROMPT], alone, backbone).sequence - alone.sequence, edited[1:2])
    assert torch.equal(edited[1], edited[2]) and not torch.equal(edited[0], edited[1])


def test_autocast_coarsens_nothing(backbone: Backbone, few: None) -> None:
    exact = Magnet().vectors(concepts(PROMPT), backbone)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Magnet().vectors(concepts(PROMPT), backbone), exact)


@pytest.mark.parametrize("text", ["", "laughing", "a woman and a man", "!!"])
def test_where_nothing_is_described_nothing_is_edited(text: str, backbone: Backbone) -> None:
    conditions = backbone.condition([Prompt(text)])
    assert not Magnet().edits(Prompt(text))
    assert torch.equal(Magnet().edit([Prompt(text)], conditions, backbone).sequence, conditions.sequence)


def test_a_noun_that_truncation_removes_is_left_out(backbone: Backbone, few: None) -> None:
    long = Prompt("a woman in a red coat, " + "and " * 80, "blonde hair")
    with pytest.warns(UserWarning, match="are lost"):
        conditions = backbone.condition([long])
    moved = (Magnet().edit([long], conditions, backbone).sequence - conditions.sequence)[0].any(1)
    assert moved.nonzero().flatten().tolist() == [2, 6]  # "woman", "coat"


def test_a_concept_within_anothers_attribute_is_dropped() -> None:
    prompt = Prompt("a red dress with a red dress pattern, hair")
    assert len(noun_phrases(prompt)) == 3
    assert [pair.text for pair in concepts(prompt)] == ["red dress pattern", "hair"]


def test_on_the_miniature_the_nouns_are_its_own_and_nearly_all_prompts_are_edited() -> None:
    nouns, vectors = Magnet()._bank(load_backbone("miniature"))
    assert {"woman", "man", "hair", "shirt", "glasses", "scarf", "beard"} <= set(nouns) < set(NOUNS)
    assert not {"car", "dog", "river", "piano"} & set(nouns) and vectors.shape == (len(nouns), 128)
    for target in TARGETS:
        prompts = [request.prompt for request in requests_of("miniature", (target,), 20, 0)]
        assert sum(map(Magnet().edits, prompts)) >= 0.9 * len(prompts)


def test_a_base_with_several_text_encoders_is_refused(tiny_sd35: Path, prompt: Prompt) -> None:
    several = load_backbone(tiny_sd35)
    with pytest.raises(ValueError, match="one text encoder, and this base has 3"):
        Magnet().edit([prompt], several.condition([prompt]), several)
