"""The tokenizer is CLIP's own."""

import importlib.util

import pytest

from spf.backbones import clip_bpe
from spf.backbones.clip_bpe import clip_tokenizer


def test_known_ids() -> None:
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49408
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (tokenizer.pad_token_id, tokenizer.model_max_length) == (49407, 77)


def test_equals_the_tokenizer_of_open_clip() -> None:
    reference = importlib.import_module("open_clip.tokenizer").SimpleTokenizer()
    for text in ("A woman's 3 V* café, blonde-haired.", "two  spaces &\nfreckled, 1999!"):
        expected = [reference.sot_token_id, *reference.encode(text), reference.eot_token_id]
        assert clip_tokenizer()(text).input_ids == expected


def test_without_open_clip_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_bpe, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install open_clip_torch"):
        clip_tokenizer()
