import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException

from spf.portraits.batches import PortraitBatch
from spf.portraits.datamodule import PortraitData
from spf.stages.fine_tuning import StandardFineTuning
from spf.stages.resume import rewind

ACCUMULATE, STEPS = 3, 12  # the 16 portraits are five steps of three, and one that is left over


class Interrupted(Exception):
    """The end of the interrupted run."""


class Learner(LightningModule):
    """Learns something that depends on the portraits and their order; notes their ids and epochs by batch."""

    def __init__(self, asks_for_steps: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = torch.nn.Linear(3 * 8 * 8, 1)
        self.asks_for_steps = asks_for_steps
        self.seen: list[tuple] = []

    def training_step(self, batch: PortraitBatch, index: int) -> torch.Tensor:
        self.seen.append((*batch.ids, *batch.epochs))
        epochs = torch.tensor(batch.epochs)[:, None]
        return (self.weight(batch.image.flatten(1)) - epochs).square().mean()

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.parameters(), 0.01)
        # asking makes the loader, and starts its workers, before the loop has its state
        steps = self.trainer.estimated_stepping_batches if self.asks_for_steps else STEPS
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.1, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        rewind(checkpoint, self.trainer)


class Interruption(Callback):
    """Ends a run in the n-th call of a hook, and leaves a checkpoint as Lightning makes it there or thereafter."""

    def __init__(self, hook: str, call: int, path: Path, by: Any = Interrupted) -> None:
        self.call, self.path, self.by = call, path, by
        setattr(self, hook, self.interrupt)

    def interrupt(self, trainer: Trainer, *_: Any) -> None:
        self.call -= 1
        if self.call == 0 and self.by is Interrupted:
            raise Interrupted
        if self.call == 0:
            self.by(trainer)

    def on_exception(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.path)


def train(module: LightningModule, source: Path, ckpt: Path | None = None, batch: int = 1, workers: int = 0,
          **options: Any) -> Trainer:
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    data = PortraitData(str(source), 8, batch, num_workers=workers)
    options = {"accumulate_grad_batches": ACCUMULATE, "max_steps": STEPS, "accelerator": "cpu"} | options
    trainer = Trainer(**(dict.fromkeys(quiet, False) | options))
    trainer.fit(module, data, ckpt_path=ckpt)
    return trainer


@pytest.fixture(scope="module")
def whole_of(portraits: Path) -> Any:
    """The uninterrupted run, by accumulation, made once."""
    runs: dict[int, tuple[Learner, Trainer]] = {}

    def of(accumulate: int = ACCUMULATE) -> tuple[Learner, Trainer]:
        if accumulate not in runs:
            learner = Learner()
            runs[accumulate] = learner, train(learner, portraits, accumulate_grad_batches=accumulate)
        return runs[accumulate]

    return of


def equals_the_whole(resumed: Learner, trainer: Trainer, whole: tuple[Learner, Trainer], steps_before: int) -> None:
    """The resumed run saw what came after that step, learnt the same, and Lightning counted the same."""
    accumulate = trainer.accumulate_grad_batches
    assert resumed.seen == whole[0].seen[steps_before * accumulate:]
    assert torch.equal(resumed.weight.weight, whole[0].weight.weight)
    assert trainer.global_step == STEPS and trainer.fit_loop.total_batch_idx == whole[1].fit_loop.total_batch_idx
    assert trainer.current_epoch == whole[1].current_epoch
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == STEPS
    assert trainer.datamodule.state_dict() == whole[1].datamodule.state_dict()


def steps_in(checkpoint: Path) -> int:
    return torch.load(checkpoint, weights_only=True)["global_step"]


def interrupted(source: Path, interruption: Interruption, error: type[BaseException] = Interrupted,
                **options: Any) -> Path:
    with pytest.raises(error):
        train(Learner(), source, callbacks=[interruption], **options)
    return interruption.path


@pytest.mark.parametrize("batch", range(1, 34))
def test_an_error_before_any_batch(whole_of: Any, portraits: Path, tmp_path: Path, batch: int) -> None:
    """In mid-accumulation, between steps, between epochs: over two epochs."""
    ckpt = interrupted(portraits, Interruption("on_train_batch_start", batch, tmp_path / "c.ckpt"))
    resumed = Learner()
    equals_the_whole(resumed, train(resumed, portraits, ckpt), whole_of(), (batch - 1) // ACCUMULATE)


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize(("hook", "call", "accumulate"), [
    ("on_train_start", 1, 3), ("on_train_epoch_start", 2, 3), ("on_before_backward", 6, 3),
    ("on_train_batch_end", 3, 3), ("on_train_batch_end", 5, 3), ("on_train_batch_end", 5, 1),
    ("on_train_epoch_end", 1, 3)])
def test_an_error_in_any_hook(whole_of: Any, portraits: Path, tmp_path: Path, hook: str, call: int, accumulate: int,
                              asks: bool) -> None:
    options = {"accumulate_grad_batches": accumulate}
    ckpt = interrupted(portraits, Interruption(hook, call, tmp_path / "c.ckpt"), **options)
    resumed = Learner(asks)
    trainer = train(resumed, portraits, ckpt, **options)
    equals_the_whole(resumed, trainer, whole_of(accumulate), steps_in(ckpt))


@pytest.mark.parametrize(("hook", "call"), [("on_train_batch_end", 15), ("on_train_batch_end", 16),
                                            ("on_train_epoch_end", 2), ("on_train_epoch_start", 2)])
def test_epochs_instead_of_steps(portraits: Path, tmp_path: Path, hook: str, call: int) -> None:
    """Lightning restarts otherwise where it counts epochs."""
    options = {"max_epochs": 3, "max_steps": -1}
    whole, resumed = Learner(), Learner()
    before = train(whole, portraits, **options)
    ckpt = interrupted(portraits, Interruption(hook, call, tmp_path / "c.ckpt"), **options)
    trainer = train(resumed, portraits, ckpt, **options)
    assert resumed.seen == whole.seen[steps_in(ckpt) * ACCUMULATE:]
    assert torch.equal(resumed.weight.weight, whole.weight.weight)
    assert (trainer.current_epoch, trainer.global_step) == (before.current_epoch, before.global_step) == (3, 15)


@pytest.mark.parametrize("batch", [7, 15, 17, 20])
def test_workers_start_at_the_right_place(whole_of: Any, portraits: Path, tmp_path: Path, batch: int) -> None:
    ckpt = interrupted(portraits, Interruption("on_train_batch_start", batch, tmp_path / "c.ckpt"), workers=2)
    resumed = Learner()
    equals_the_whole(resumed, train(resumed, portraits, ckpt, workers=2), whole_of(), (batch - 1) // ACCUMULATE)


class Late(SingleDeviceStrategy):
    """Restores like FSDP, when the optimizers are there, and so the loader and its workers."""

    restore_checkpoint_after_setup = True


@pytest.mark.parametrize("workers", [0, 1])
def test_strategies_that_restore_late(whole_of: Any, portraits: Path, tmp_path: Path, workers: int) -> None:
    ckpt = interrupted(portraits, Interruption("on_train_batch_start", 21, tmp_path / "c.ckpt"))
    resumed = Learner()
    trainer = train(resumed, portraits, ckpt, workers=workers, strategy=Late(device="cpu"))
    equals_the_whole(resumed, trainer, whole_of(), 6)


def test_a_run_may_be_interrupted_again_and_again(whole_of: Any, portraits: Path, tmp_path: Path) -> None:
    ckpt, seen = None, []
    for _ in range(5):
        learner = Learner()
        with pytest.raises(Interrupted):
            train(learner, portraits, ckpt, callbacks=[Interruption("on_train_batch_end", 8, tmp_path / "next.ckpt")])
        ckpt = (tmp_path / "next.ckpt").rename(tmp_path / "c.ckpt")
        seen += learner.seen[:6]  # of eight batches two were lost
    resumed = Learner()
    equals_the_whole(resumed, train(resumed, portraits, ckpt), whole_of(), 10)
    assert seen == whole_of()[0].seen[:30]


def test_a_signal_in_mid_accumulation(whole_of: Any, portraits: Path, tmp_path: Path) -> None:
    kill = Interruption("on_train_batch_start", 8, tmp_path / "c.ckpt", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    ckpt = interrupted(portraits, kill, SIGTERMException)
    resumed = Learner()
    equals_the_whole(resumed, train(resumed, portraits, ckpt), whole_of(), 2)


def test_a_finished_run_may_go_on(whole_of: Any, portraits: Path, tmp_path: Path) -> None:
    """Lightning ends its epoch with the run, also in the middle."""
    short, resumed = Learner(asks_for_steps=False), Learner(asks_for_steps=False)
    train(short, portraits, max_steps=7).save_checkpoint(tmp_path / "c.ckpt")
    trainer = train(resumed, portraits, tmp_path / "c.ckpt")
    assert short.seen + resumed.seen == whole_of()[0].seen
    assert (trainer.current_epoch, trainer.global_step) == (whole_of()[1].current_epoch, STEPS)


@pytest.mark.parametrize(("batch", "accumulate"), [(3, 1), (1, 1), (2, 3)])
def test_other_batches_continue_the_stream(whole_of: Any, portraits: Path, tmp_path: Path, batch: int,
                                           accumulate: int) -> None:
    """Also where a step is no longer of the same size."""
    ckpt = interrupted(portraits, Interruption("on_train_batch_start", 24, tmp_path / "c.ckpt"))
    resumed = Learner()
    trainer = train(resumed, portraits, ckpt, batch, accumulate_grad_batches=accumulate)
    stream = whole_of()[0].seen
    seen = [(names[row], names[batch + row]) for names in resumed.seen for row in range(batch)]
    assert len(seen) == (STEPS - 7) * batch * accumulate
    assert len({*stream[:21], *seen}) == 21 + len(seen)
    assert seen[:15] == stream[21:][: len(seen)]
    assert trainer.datamodule.samples_seen == 21 + len(seen)


@pytest.mark.parametrize("limit", [6, 7, 0.5])
def test_limited_epochs(portraits: Path, tmp_path: Path, limit: float) -> None:
    options = {"limit_train_batches": limit}
    whole, resumed = Learner(), Learner()
    before = train(whole, portraits, **options)
    ckpt = interrupted(portraits, Interruption("on_train_batch_start", 11, tmp_path / "c.ckpt"), **options)
    trainer = train(resumed, portraits, ckpt, **options)
    assert resumed.seen == whole.seen[-len(resumed.seen):] and torch.equal(resumed.weight.weight, whole.weight.weight)
    assert trainer.current_epoch == before.current_epoch


def test_what_is_not_ours_is_left_alone(portraits: Path) -> None:
    trainer = train(Learner(), portraits, max_steps=1)
    for checkpoint in ({}, {"loops": {}}):
        rewind(checkpoint, trainer)
        assert checkpoint in ({}, {"loops": {}})
    trainer.state.fn = "test"
    rewind({"PortraitData": {}}, trainer)


def test_nothing_is_said_of_a_loader_that_cannot_resume(portraits: Path, tmp_path: Path,
                                                        recwarn: pytest.WarningsRecorder) -> None:
    ckpt = interrupted(portraits, Interruption("on_train_batch_start", 8, tmp_path / "c.ckpt"))
    train(Learner(), portraits, ckpt)
    assert not [warning for warning in recwarn if "not resumable" in str(warning.message)]


def test_fine_tuning_resumes_in_mid_accumulation(tiny_sd15: Path, portraits: Path, tmp_path: Path) -> None:
    options = {"learning_rate": 1e-3, "caption_dropout": 0.2, "lr_scheduler": "cosine", "cache_latents": True}
    size = {"batch": 2, "accumulate_grad_batches": 2, "max_steps": 3}
    whole, broken, resumed = (StandardFineTuning(str(tiny_sd15), **options) for _ in range(3))
    train(whole, portraits, **size)
    with pytest.raises(Interrupted):
        train(broken, portraits, callbacks=[Interruption("on_train_batch_start", 4, tmp_path / "c.ckpt")], **size)
    train(resumed, portraits, tmp_path / "c.ckpt", **size)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
