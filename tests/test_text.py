"""Joining, phrases, token rows."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from spf import text
from spf.backbones.clip_bpe import clip_tokenizer
from spf.text import Prompt, phrases, tokenize

TOKENIZER = clip_tokenizer()
FIGURE_3 = ("A woman", "a brown jacket", "a curtain background")


@pytest.fixture(autouse=True)
def rule_based(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same phrases whether or not spaCy is installed."""
    monkeypatch.setattr(text, "_parser", lambda: None)


@pytest.mark.parametrize("ending", ["", ",", " , ", ".", ";", ". \n"])
def test_base_tokens_are_a_prefix_of_the_full_text(ending: str) -> None:
    alone = TOKENIZER(Prompt("A woman in a brown jacket" + ending).full_text).input_ids
    joined = TOKENIZER(Prompt("A woman in a brown jacket" + ending, "blonde hair").full_text).input_ids
    assert joined[: len(alone) - 1] == alone[:-1]  # all but the end of text


def test_joining() -> None:
    assert Prompt("a man,", "a hat").full_text == "a man, a hat"
    assert Prompt("a man. ").full_text == "a man"
    assert Prompt("", "a hat").full_text == "a hat"
    assert Prompt("").full_text == ""
    assert Prompt("a man", "V* hat").full_text == "a man, V* hat"
    assert Prompt("a man", "a hat", ("a man",)).base == Prompt("a man", "", ("a man",))


@pytest.mark.parametrize(
    ("base", "found"),
    [
        ("A woman in a brown jacket, with a curtain background,", FIGURE_3),
        ("a portrait of an old man wearing round glasses", ("a portrait", "an old man", "round glasses")),
        ("a man and a woman, and; with", ("a man", "a woman")),
        ("V* toy bear", ("V* toy bear",)),
        ("", ()),
    ],
)
def test_rule_based_phrases(base: str, found: tuple[str, ...]) -> None:
    assert phrases(Prompt(base, "blonde hair")) == found


def test_phrases_are_capped() -> None:
    assert len(phrases(Prompt(", ".join(f"thing {letter}" for letter in "abcdefghijklmnop")))) == text.MAX_PHRASES


def test_spacy_noun_chunks_are_used_where_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(start: int, end: int, tag: str) -> SimpleNamespace:
        return SimpleNamespace(start_char=start, end_char=end, root=SimpleNamespace(pos_=tag))

    chunks = SimpleNamespace(noun_chunks=[chunk(0, 5, "NOUN"), chunk(6, 9, "PRON")])
    monkeypatch.setattr(text, "_parser", lambda: lambda base: chunks)
    assert phrases(Prompt("a man who smiles")) == ("a man",)


def test_given_phrases_win() -> None:
    prompt = Prompt("A woman, a red hat, a red hat", phrases=("woman", "A RED HAT", "a red hat"))
    assert phrases(prompt) == ("woman", "a red hat", "a red hat")
    spans = text.phrase_spans(prompt)
    assert spans[1] != spans[2]


@pytest.mark.parametrize("phrase", ["man", "a dog", ""])
def test_a_given_phrase_must_occur_as_words_of_the_base_text(phrase: str) -> None:
    with pytest.raises(ValueError, match="does not occur in the base text"):
        phrases(Prompt("A woman", "a dog", (phrase,)))


def words(ids: torch.Tensor) -> str:
    return TOKENIZER.decode(ids).strip()


def test_token_rows_of_base_and_phrases(prompt: Prompt) -> None:
    tokens = tokenize([prompt], TOKENIZER, 77)
    assert words(tokens.ids[0][tokens.base_tokens[0]]) == "a woman in a brown jacket , with a curtain background"
    found = [words(tokens.ids[0][column > 0]) for column in tokens.phrase_weights[0].T]
    assert found == [phrase.lower() for phrase in FIGURE_3]
    assert torch.allclose(tokens.phrase_weights.sum(1), torch.ones(1, 3))


@pytest.mark.parametrize(("base", "target", "found"), [
    ("A woman in a brown jacket, with a curtain background", "blonde hair", "blonde hair"),
    ("a man with a hat.", " a hat, and  V* café ", "a hat , and v * café"),  # not the hat of the base text
    ("", "blonde hair", "blonde hair"),
    ("a man", "", ""),
    ("a man", "  ", ""),
    ("", "", ""),
])
def test_token_rows_of_the_target(base: str, target: str, found: str) -> None:
    tokens = tokenize([Prompt(base, target)], TOKENIZER, 77)
    assert words(tokens.ids[0][tokens.target_tokens[0]]) == found
    assert not (tokens.target_tokens & tokens.base_tokens).any()


def test_each_prompt_of_a_batch_has_its_target(prompt: Prompt) -> None:
    tokens = tokenize([prompt, prompt.base, Prompt("a man", "a red hat")], TOKENIZER, 77)
    assert tokens.target_tokens.dtype == torch.bool and tokens.target_tokens.shape == (3, 77)
    found = [words(ids[rows]) for ids, rows in zip(tokens.ids, tokens.target_tokens, strict=True)]
    assert found == ["blonde hair", "", "a red hat"]


def test_words_of_several_tokens_are_whole() -> None:
    tokens = tokenize([Prompt("a freckled girl of 42", "V* café")], TOKENIZER, 77)
    assert words(tokens.ids[0][tokens.phrase_weights[0, :, 0] > 0]) == "a freckled girl"
    assert words(tokens.ids[0][tokens.phrase_weights[0, :, 1] > 0]) == "4 2"


def test_a_batch_pads_phrases_with_empty_columns(prompt: Prompt) -> None:
    tokens = tokenize([prompt, Prompt("a man"), Prompt("")], TOKENIZER, 77)
    assert tokens.phrase_weights.shape == (3, 77, 3)
    assert tokens.phrase_weights.sum(1).tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert not tokens.base_tokens[2].any()
    assert tokenize([Prompt("")], TOKENIZER, 77).phrase_weights.shape == (1, 77, 1)


def test_truncation_takes_the_target_first_and_says_so_once(prompt: Prompt) -> None:
    prompt = Prompt(prompt.base_text, "very long blonde hair")  # 11 base tokens, a comma, 4 of the target
    with pytest.warns(UserWarning, match=r"keeps 15 tokens: the last 3 .* end of the target text 'very long"):
        tokens = tokenize([prompt], TOKENIZER, 15)
    assert tokens.base_tokens.sum() == 11
    assert words(tokens.ids[0][tokens.target_tokens[0]]) == "very"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenize([prompt], TOKENIZER, 15)


def test_a_target_beyond_the_cut_has_no_row(prompt: Prompt) -> None:
    with pytest.warns(UserWarning, match="end of the target text"):
        tokens = tokenize([prompt], TOKENIZER, 14)  # up to the comma
    assert tokens.base_tokens.sum() == 11 and not tokens.target_tokens.any()


def test_a_phrase_beyond_the_cut_has_no_row(prompt: Prompt) -> None:
    with pytest.warns(UserWarning, match="end of the base text"):
        tokens = tokenize([prompt.base], TOKENIZER, 9)
    assert tokens.phrase_weights.sum(1).tolist() == [[1, 1, 0]]
