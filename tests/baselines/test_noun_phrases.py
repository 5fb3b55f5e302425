"""Noun phrases of base and target text, and the tokens at which they end."""

import pytest

from spf.backbones import Backbone
from spf.baselines.noun_phrases import last_tokens, noun_phrases
from spf.text import Prompt

pytestmark = pytest.mark.usefixtures("rule_based")

MINIATURE = Prompt("a woman with long red hair, in a green sweater,", " wearing round glasses ",
                   ("with long red hair", "in a green sweater"))


def test_both_texts_are_read_without_determiners() -> None:
    found = noun_phrases(MINIATURE)
    assert [(one.attribute, one.noun, one.of_target) for one in found] == [
        ("", "woman", False), ("long red", "hair", False), ("green", "sweater", False), ("round", "glasses", True)]
    assert [one.text for one in found][1:] == ["long red hair", "green sweater", "round glasses"]


def test_spans_are_those_of_the_full_text() -> None:
    for prompt in (MINIATURE, Prompt("", "a hat"), Prompt("A Man's hat.", "V* Brown-ish beard;")):
        for phrase in noun_phrases(prompt):
            assert tuple(prompt.full_text[slice(*span)].lower() for span in phrase.spans) == phrase.words


@pytest.mark.parametrize(("base", "target", "found"), [
    ("a studio portrait of an old man", "", ["old man"]),
    ("a photo of a pile of red books", "", ["red books"]),
    ("V* toy bear", "V* hair", ["toy bear", "hair"]),
    ("", "", []), (" , the", "...", []),
])
def test_what_is_no_thing_is_left_out(base: str, target: str, found: list[str]) -> None:
    assert [phrase.text for phrase in noun_phrases(Prompt(base, target))] == found


def test_a_target_after_many_phrases_is_still_found() -> None:
    base = ", ".join(f"a thing {letter}" for letter in "abcdefghijklmnop")
    assert noun_phrases(Prompt(base, "blonde hair"))[-1].text == "blonde hair"


def test_the_last_token_of_a_span(backbone: Backbone) -> None:
    prompt = Prompt("a woman in an antidisestablishment jacket", "blonde hair")
    tokenizer = backbone.tokenizers["tokenizer"]
    ids = tokenizer(prompt.full_text).input_ids
    spans = [span for phrase in noun_phrases(prompt) for span in phrase.spans]
    ends = last_tokens(prompt, spans, backbone, 77)
    assert [tokenizer.decode(ids[end]).strip() for end in ends] == [
        "woman", tokenizer.decode(tokenizer("antidisestablishment").input_ids[-2]).strip(), "jacket", "blonde", "hair"]
    assert len(ids) > 10, "a word of several tokens"


def test_what_truncation_removes_has_no_token(backbone: Backbone) -> None:
    prompt = Prompt("a woman " * 40, "blonde hair")
    first, *_, last = noun_phrases(prompt)
    assert last_tokens(prompt, [first.spans[0], last.spans[-1]], backbone, 77)[1] is None
