from pathlib import Path

import pytest
import torch
from lightning import Callback, Trainer

from spf.miniature.shards import paint_portraits
from spf.notation import AttentionRecord
from spf.portraits.datamodule import PortraitData
from spf.stages.pretraining import GroundedPretraining, grounding


def record(scores: torch.Tensor) -> AttentionRecord:
    """A layer of one head and 2 x 2 places whose attention logits over T words are ``scores`` (4,T)."""
    words = scores.shape[1]
    query = scores[None, None] * words**0.5
    keys = torch.eye(words)[None, None]
    return AttentionRecord("layer", (2, 2), keys, query, query, query, keys)


def test_grounding_is_the_cross_entropy_with_the_phrases_of_a_place() -> None:
    words = torch.zeros(1, 4, 2, dtype=torch.bool)  # BOS, two words of the first phrase, one of the second
    words[0, 1:3, 0] = words[0, 3, 1] = True
    masks = torch.zeros(1, 5, 4, 4)
    masks[0, 0, :, :2] = masks[0, 1, :, 2:] = 1  # the first phrase is true on the left, the second on the right
    even = grounding(record(torch.zeros(4, 4)), words, masks)
    assert torch.isclose(even, -(torch.tensor(0.5).log() + torch.tensor(0.25).log()) / 2, atol=1e-3)
    looks = torch.full((4, 4), -20.0)
    looks[0::2, 1] = looks[1::2, 3] = 20.0
    assert grounding(record(looks), words, masks) < 1e-3 < 5 < grounding(record(looks.flip(0)), words, masks)


def test_a_place_of_two_phrases_is_shared_and_an_empty_text_says_nothing() -> None:
    words = torch.tensor([[[True, False], [False, True]]])
    both = torch.ones(1, 2, 2, 2)
    assert torch.isclose(grounding(record(torch.zeros(4, 2)), words, both), -torch.tensor(0.5).log(), atol=1e-3)
    assert grounding(record(torch.zeros(4, 2)), torch.zeros(1, 2, 2, dtype=torch.bool), both) == 0


class Losses(Callback):
    """The grounding term, step by step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        self.seen.append(float(trainer.callback_metrics["loss/grounding"]))


def test_it_trains_on_painted_portraits_alone(tmp_path: Path) -> None:
    source = paint_portraits(tmp_path / "p", 4, "home", (), "varied")
    module = GroundedPretraining(base="miniature", denoiser="random", grounding=0.5, learning_rate=3e-3)
    options = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False,
               "enable_model_summary": False, "accelerator": "cpu"}
    losses = Losses()
    Trainer(max_steps=10, callbacks=[losses], **options).fit(module, PortraitData(str(source), 128, 4, num_workers=0))
    assert module.hparams["grounding"] == 0.5 and module.hparams["denoiser"] == "random"
    assert losses.seen[-1] < 0.9 * losses.seen[0]
    (source / "painted.json").unlink()
    module._said.clear()
    with pytest.raises(FileNotFoundError, match="portraits of known truth"):
        Trainer(max_steps=1, **options).fit(module, PortraitData(str(source), 128, 4, num_workers=0))


def test_a_folder_with_targets_is_refused(tmp_path: Path) -> None:
    source = paint_portraits(tmp_path / "p", 4, targets=("hat",))
    trainer = Trainer(max_steps=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(ValueError, match="shows hat, and the base model is to learn no target"):
        trainer.fit(GroundedPretraining(denoiser="random"), PortraitData(str(source), 128, 4, num_workers=0))
