from pathlib import Path

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from spf.stages.ema import Ema
from tests.stages.toy import Toy, toy_data, toy_trainer


class Weights(Callback):
    """The weights after every batch; with accumulation some are the same."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: object) -> None:
        self.seen.append(module.learns.weight.detach().clone())


def test_it_is_the_average_of_the_weights_after_each_optimizer_step(tmp_path: Path) -> None:
    ema, weights, toy = Ema(0.6), Weights(), Toy()
    expected = toy.learns.weight.detach().clone()
    toy_trainer(tmp_path, 6, ema, weights, accumulate_grad_batches=2).fit(toy, toy_data())
    for n, weight in enumerate(weights.seen[1::2]):
        decay = min(0.6, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight
    assert torch.allclose(ema.weights["learns.weight"], expected, atol=1e-6) and ema.updates == 6


def test_only_what_learns_is_kept_in_float32_and_saved(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, 2, Ema(0.9), precision="bf16-true")
    trainer.fit(Toy(), toy_data())
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    saved = torch.load(tmp_path / "c.ckpt", weights_only=True)["ema"]
    assert saved["updates"] == 2 and set(saved["weights"]) == {"learns.weight", "learns.bias"}
    assert {value.dtype for value in saved["weights"].values()} == {torch.float32}


def test_a_resumed_average_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    whole, first, second = Ema(0.9), Ema(0.9), Ema(0.9)
    toy_trainer(tmp_path, 12, whole).fit(Toy(), toy_data())
    before = toy_trainer(tmp_path, 6, first)
    before.fit(Toy(), toy_data())
    before.save_checkpoint(tmp_path / "c.ckpt")
    toy_trainer(tmp_path, 12, second).fit(Toy(), toy_data(), ckpt_path=tmp_path / "c.ckpt")
    assert all(torch.equal(value, second.weights[name]) for name, value in whole.weights.items())
    assert second.updates == whole.updates == 12
    assert not torch.equal(first.weights["learns.bias"], whole.weights["learns.bias"])


def test_what_is_saved_has_the_last_step_whoever_saves_first(tmp_path: Path) -> None:
    class SavesEarly(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
            trainer.save_checkpoint(tmp_path / "c.ckpt")

    toy_trainer(tmp_path, 3, SavesEarly(), Ema(0.9)).fit(Toy(), toy_data())
    assert torch.load(tmp_path / "c.ckpt", weights_only=True)["ema"]["updates"] == 3


def test_in_place_the_model_is_the_average_and_then_itself_again(tmp_path: Path) -> None:
    ema, toy = Ema(0.9), Toy()
    toy_trainer(tmp_path, 3, ema).fit(toy, toy_data())
    own = toy.learns.weight.detach().clone()
    with pytest.raises(KeyError), ema.in_place(toy):
        assert torch.equal(toy.learns.weight, ema.weights["learns.weight"]) and not torch.equal(toy.learns.weight, own)
        raise KeyError
    assert torch.equal(toy.learns.weight, own)


def test_without_a_decay_nothing_is_kept(tmp_path: Path) -> None:
    ema = Ema()
    trainer = toy_trainer(tmp_path, 2, ema)
    trainer.fit(Toy(), toy_data())
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    assert not ema.weights and "ema" not in torch.load(tmp_path / "c.ckpt", weights_only=True)
    with pytest.raises(ValueError, match=r"no averaged weights: resume it without --ema\.decay"):
        toy_trainer(tmp_path, 4, Ema(0.9)).fit(Toy(), toy_data(), ckpt_path=tmp_path / "c.ckpt")


def test_a_decay_lies_below_one() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\), not 1"):
        Ema(1)
