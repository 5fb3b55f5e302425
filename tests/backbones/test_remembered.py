from collections.abc import Sequence

import pytest
import torch

from spf.backbones import remembered
from spf.backbones.remembered import OncePerPrompt
from spf.notation import Conditions
from spf.text import Prompt

A, B, C = (Prompt(letter, phrases=(letter,) * count) for count, letter in enumerate("abc", 1))
SIZE = 4 * (8 + 3) + 2 * 2 + 4 * 2  # bytes of what `once` keeps of A


def once(asked: list[Prompt], dtype: torch.dtype = torch.float32) -> OncePerPrompt:
    """Reads a prompt's letter; P is as large as asked for."""
    def read(prompts: Sequence[Prompt]) -> Conditions:
        asked.extend(prompts)
        letter = torch.tensor([[float(ord(prompt.base_text))] for prompt in prompts])
        linear = torch.nn.functional.linear(letter, torch.tensor([[1.001]]))
        tokens = torch.ones(len(prompts), 2, dtype=torch.bool)
        return Conditions(linear[..., None].expand(-1, 2, 4), letter.expand(-1, 3), tokens, ~tokens,
                          torch.ones(len(prompts), 2, len(prompts[0].phrases)))

    return OncePerPrompt(read, torch.device("cpu"), dtype)


def test_a_prompt_is_read_once_and_alone_and_phrases_are_padded() -> None:
    asked: list[Prompt] = []
    made = once(asked)
    first, again = made([B, A, B]), made([A])
    assert asked == [B, A]
    assert first.sequence[:, 0, 0].tolist() == pytest.approx([98 * 1.001, 97 * 1.001, 98 * 1.001])
    assert first.phrase_weights.sum((1, 2)).tolist() == [4, 2, 4] and first.phrase_weights.shape == (3, 2, 2)
    assert again.phrase_weights.shape == (1, 2, 1) and torch.equal(again.pooled, first.pooled[1:2])


def test_the_least_lately_used_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Prompt] = []
    made = once(asked)
    made([A])
    assert made.bytes == SIZE
    monkeypatch.setattr(remembered, "MOST_BYTES", 2 * SIZE + 8)  # B is larger than A by 8 bytes
    made([B, A])
    with pytest.warns(UserWarning, match="some are read again, where the text encoders are"):
        made([C])
    assert list(made.kept) == [C] or (list(made.kept) == [A, C] and made.bytes <= 2 * SIZE + 8)
    made([A, B])
    assert asked.count(B) == 2 and made.bytes <= remembered.MOST_BYTES


def test_bits_do_not_depend_on_the_precision_of_the_caller() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        plain = once([], dtype)([A])
        with torch.autocast("cpu", torch.bfloat16):
            cast = once([], dtype)([A])
        assert plain.sequence.dtype == plain.pooled.dtype == dtype and torch.equal(plain.sequence, cast.sequence)
    assert plain.sequence.float().unique().item() == 97  # 97.097 in bfloat16
