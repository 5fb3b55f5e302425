"""The list of nouns: ordinary words, each once, known to CLIP and to the painted world."""

from spf.backbones.clip_bpe import clip_tokenizer
from spf.baselines.nouns import NOUNS
from spf.miniature.people import ATTRIBUTES


def test_each_stands_there_once_as_one_lower_case_word() -> None:
    assert len(set(NOUNS)) == len(NOUNS) > 600
    assert all(noun.isalpha() and noun.islower() for noun in NOUNS)


def test_clip_knows_nearly_all_of_them_as_one_token() -> None:
    whole = [noun for noun, ids in zip(NOUNS, clip_tokenizer()(list(NOUNS)).input_ids, strict=True) if len(ids) == 3]
    assert len(whole) > 600


def test_the_painted_worlds_nouns_are_among_them() -> None:
    named = {*ATTRIBUTES["gender"], *ATTRIBUTES["garment"], *ATTRIBUTES["background"], "hair", "skin", "background"}
    targets = {"hat", "glasses", "scarf", "earrings", "bear", "makeup", "beard", "armour", "mouth", "style"}
    assert named | targets <= set(NOUNS)
