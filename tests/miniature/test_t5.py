"""The miniature's T5: its tokens, and that it learns to say what a caption claims."""

from pathlib import Path

import pytest
import torch
from transformers import T5EncoderModel

from spf.miniature.t5 import WIDTH, t5_tokenizer, train_t5
from spf.miniature.tokenizer import world_words


def test_the_worlds_words_are_whole_tokens_of_t5_and_others_are_spelt() -> None:
    tokenizer = t5_tokenizer()
    assert all(len(tokenizer(word).input_ids) == 2 for word in world_words())  # the word and </s>
    spelt = tokenizer("a zebra, Zoë").input_ids
    assert len(spelt) == 1 + 5 + 1 + 3 + 1 and spelt.count(tokenizer.unk_token_id) == 1


def test_its_loss_falls_and_what_is_saved_reads_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []

    def a_few_steps(name: str, network: torch.nn.Module, loss_at, steps: int, rate: float, checkpoint: Path) -> None:
        optimizer = torch.optim.AdamW(network.parameters(), rate)
        for step in range(steps):
            loss, _ = loss_at(step)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())

    monkeypatch.setattr("spf.miniature.t5.train", a_few_steps)
    train_t5(tmp_path, 12)
    assert sum(losses[-3:]) < 0.95 * sum(losses[:3])
    ids = t5_tokenizer()("a woman", return_tensors="pt").input_ids
    assert T5EncoderModel.from_pretrained(tmp_path / "text_encoder_3")(ids)[0].shape == (1, 3, WIDTH)
