from pathlib import Path

import pytest

from spf.miniature.people import base_text, draw_people, target_text
from spf.miniature.tokenizer import LENGTH, save_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):  # noqa: ANN201
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_every_word_of_the_world_is_one_token(tokenizer) -> None:  # noqa: ANN001
    for person in draw_people(20, 0, ("old", "beard")):
        text = f"{base_text(person)}, {target_text(person.target)}"
        assert len(tokenizer(text).input_ids) == 2 + len(text.replace(",", " ,").split()) <= LENGTH


@pytest.mark.parametrize("text", ["a V* knight", "été à la plage", "日本の肖像"])
def test_any_other_text_falls_back_to_bytes(tokenizer, text: str) -> None:  # noqa: ANN001
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert "".join(tokenizer.decode(ids, skip_special_tokens=True).split()) == "".join(text.lower().split())


def test_padding_is_the_end_token_as_in_sd15(tokenizer) -> None:  # noqa: ANN001
    ids = tokenizer("a woman", padding="max_length", return_tensors="pt").input_ids[0]
    assert len(ids) == LENGTH and (ids[3:] == tokenizer.eos_token_id).all()


def test_a_stock_tokenizer_is_saved(tmp_path: Path) -> None:
    saved = save_tokenizer(tmp_path)
    assert saved.model_max_length == LENGTH and saved.is_fast
