import os
import signal
from pathlib import Path

import pytest
import torch
from lightning import Callback, Trainer

from spf.stages.atomic import AtomicCheckpointIO, CheckpointError
from spf.stages.checkpoints import Checkpoints
from spf.stages.interruption import EXIT_CODE, REQUEUE, Interruption
from tests.stages.toy import Toy, toy_data, toy_trainer


class SignalAtBatch(Callback):
    """Sends one to its own process amid an accumulation."""

    def __init__(self, number: int, batch: int = 2) -> None:
        self.number, self.batch = number, batch

    def on_train_batch_start(self, trainer: Trainer, module: Toy, batch: object, index: int) -> None:
        if index == self.batch:
            os.kill(os.getpid(), self.number)


def interrupted(folder: Path, number: int) -> tuple[Interruption, Trainer]:
    """Two batches a step; the signal comes in the second of eight steps."""
    interruption = Interruption()
    keep = Checkpoints(folder, save_last="link", every_n_train_steps=100)
    trainer = toy_trainer(folder, 8, interruption, SignalAtBatch(number), keep, accumulate_grad_batches=2)
    trainer.fit(Toy(), toy_data())
    return interruption, trainer


@pytest.fixture
def requeued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SLURM job that asks to be queued again; what its scontrol was told."""
    scontrol, told = tmp_path / "bin" / "scontrol", tmp_path / "told"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\necho $* >> {told}\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4321")
    monkeypatch.setenv(REQUEUE, "1")
    return told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_it_stops_after_the_step_at_hand_with_a_checkpoint(number: int, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    interruption, trainer = interrupted(tmp_path, number)
    assert trainer.global_step == torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2
    assert signal.getsignal(number) == before
    with pytest.raises(SystemExit) as left:
        interruption.conclude(trainer)
    assert left.value.code == EXIT_CODE == 75


def test_the_signal_before_the_time_limit_requeues(tmp_path: Path, requeued: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    interruption, trainer = interrupted(tmp_path, signal.SIGUSR1)
    assert not requeued.exists()
    with pytest.raises(SystemExit):
        interruption.conclude(trainer)
    assert requeued.read_text() == "requeue 4321\n" and "job 4321 is queued again" in capsys.readouterr().out


def test_scancel_does_not_requeue(tmp_path: Path, requeued: Path) -> None:
    interruption, trainer = interrupted(tmp_path, signal.SIGTERM)
    with pytest.raises(SystemExit):
        interruption.conclude(trainer)
    assert not requeued.exists()


def test_a_job_that_does_not_ask_is_not_requeued(tmp_path: Path, requeued: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUEUE)
    interruption, trainer = interrupted(tmp_path, signal.SIGUSR1)
    with pytest.raises(SystemExit):
        interruption.conclude(trainer)
    assert not requeued.exists()


@pytest.mark.parametrize("scontrol", ["#!/bin/sh\nexit 1\n", None], ids=["refuses", "is absent"])
def test_a_refused_requeue_is_told(scontrol: str | None, tmp_path: Path, requeued: Path,
                                   monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if scontrol:
        (tmp_path / "bin" / "scontrol").write_text(scontrol)
    else:
        monkeypatch.setenv("PATH", "")
    interruption, trainer = interrupted(tmp_path, signal.SIGUSR1)
    with pytest.raises(SystemExit) as left:
        interruption.conclude(trainer)
    assert left.value.code == EXIT_CODE and "could not be queued again: submit it" in capsys.readouterr().out


def test_a_finished_training_just_ends_though_the_signal_came_in_its_last_step(tmp_path: Path, requeued: Path) -> None:
    interruption = Interruption()
    trainer = toy_trainer(tmp_path, 3, interruption, SignalAtBatch(signal.SIGUSR1))
    trainer.fit(Toy(), toy_data())
    interruption.conclude(trainer)
    assert not requeued.exists()


def test_other_ranks_leave_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    interruption, trainer = interrupted(tmp_path, signal.SIGTERM)
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    capsys.readouterr()
    interruption.conclude(trainer)
    assert capsys.readouterr().out == ""


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    class Twice(SignalAtBatch):
        def on_train_batch_start(self, *arguments: object) -> None:
            super().on_train_batch_start(*arguments)
            super().on_train_batch_start(*arguments)

    keep = Checkpoints(tmp_path, save_last="link", every_n_train_steps=100, save_on_exception=True)
    with pytest.raises(SystemExit):
        toy_trainer(tmp_path, 8, Interruption(), Twice(signal.SIGINT), keep).fit(Toy(), toy_data())
    assert not (tmp_path / "last.ckpt").exists()


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise CheckpointError("the disk is full")

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", full)
    with pytest.raises(CheckpointError, match="the disk is full. There is no earlier one"):
        interrupted(tmp_path, signal.SIGTERM)
