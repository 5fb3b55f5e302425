import errno
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing import ProcessRaisedException

from spf.stages.atomic import AtomicCheckpointIO, CheckpointError
from spf.stages.checkpoints import Checkpoints, newest_whole, steps_made
from tests.stages.toy import Toy, toy_data, toy_trainer


def every(steps: int, folder: Path, **more: object) -> Checkpoints:
    return Checkpoints(folder, "{step}", save_last="link", every_n_train_steps=steps, enable_version_counter=False,
                       **more)


def step(path: Path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """disk(fails_at={4}): the checkpoints of those steps cannot be written."""

    def full(fails_at: set[int]) -> None:
        def write(checkpoint: dict[str, int], file: object) -> None:
            save(checkpoint, file)
            if checkpoint["global_step"] in fails_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("torch.save", write)

    save = torch.save
    return full


def test_the_old_one_goes_when_the_new_one_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, remove = [], AtomicCheckpointIO.remove_checkpoint

    def look_and_remove(self: AtomicCheckpointIO, path: str) -> None:
        found.append((names(tmp_path), step(tmp_path / "last.ckpt")))
        remove(self, path)

    monkeypatch.setattr(AtomicCheckpointIO, "remove_checkpoint", look_and_remove)
    toy_trainer(tmp_path, 4, every(2, tmp_path)).fit(Toy(), toy_data())
    assert found == [({"step=2.ckpt", "step=4.ckpt", "last.ckpt"}, 2)]
    assert names(tmp_path) == {"step=4.ckpt", "last.ckpt"} and step(tmp_path / "last.ckpt") == 4


def test_last_is_no_second_write(tmp_path: Path) -> None:
    toy_trainer(tmp_path, 4, every(2, tmp_path)).fit(Toy(), toy_data())
    assert (tmp_path / "last.ckpt").samefile(tmp_path / "step=4.ckpt")


def test_the_last_step_is_saved_though_no_multiple_of_the_interval(tmp_path: Path) -> None:
    toy_trainer(tmp_path, 5, every(2, tmp_path)).fit(Toy(), toy_data())
    assert step(tmp_path / "last.ckpt") == 5


def test_a_full_disk_costs_a_line_and_the_next_interval_tries_again(
        tmp_path: Path, disk: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    disk(fails_at={4, 6})
    toy_trainer(tmp_path, 8, every(2, tmp_path), accumulate_grad_batches=2).fit(Toy(), toy_data())
    lines = [line for line in capsys.readouterr().out.splitlines() if "not written" in line]
    assert len(lines) == 2 and f"{tmp_path}/step=4.ckpt was not written: No space left on device; free" in lines[0]
    assert all(line.endswith(f"Still good: {tmp_path}/step=2.ckpt. The next interval tries again.") for line in lines)
    assert names(tmp_path) == {"step=8.ckpt", "last.ckpt"}


def test_after_a_resume_the_good_one_is_what_it_resumed_from(tmp_path: Path, disk: Callable[..., None],
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    toy_trainer(tmp_path, 2, every(2, tmp_path)).fit(Toy(), toy_data())
    disk(fails_at={4})
    toy_trainer(tmp_path, 6, every(2, tmp_path)).fit(Toy(), toy_data(), ckpt_path=tmp_path / "last.ckpt")
    assert f"Still good: {tmp_path}/last.ckpt. The next" in capsys.readouterr().out


def test_a_full_disk_at_the_end_is_an_error_and_the_last_good_one_stays(tmp_path: Path,
                                                                      disk: Callable[..., None]) -> None:
    disk(fails_at={5})
    with pytest.raises(CheckpointError, match=r"step=5\.ckpt was not written: No space.*Still good: .*step=4\.ckpt"):
        toy_trainer(tmp_path, 5, every(2, tmp_path, save_on_exception=True)).fit(Toy(), toy_data())
    assert names(tmp_path) == {"step=4.ckpt", "last.ckpt"} and newest_whole(tmp_path) == tmp_path / "last.ckpt"


class FullAt(AtomicCheckpointIO):
    """The checkpoints of some steps cannot be written."""

    def __init__(self, steps: set[int]) -> None:
        self.steps = steps

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if checkpoint["global_step"] in self.steps:
            raise CheckpointError(f"no room for {path}")
        super().save_checkpoint(checkpoint, path)


def test_ranks_fail_together_and_go_on_together(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trainer = toy_trainer(tmp_path, 5, every(2, tmp_path), disk=FullAt({4, 5}), devices=2,
                          strategy=DDPStrategy(start_method="spawn", timeout=timedelta(seconds=200)))
    with pytest.raises(ProcessRaisedException, match=r"no room for .*step=5\.ckpt. Still good: .*step=2\.ckpt"):
        trainer.fit(Toy(), toy_data())
    lines = [line for line in capfd.readouterr().out.splitlines() if "tries again" in line]
    assert len(lines) == 1 and "no room for" in lines[0] and "step=4.ckpt" in lines[0]
    assert names(tmp_path) == {"step=2.ckpt", "last.ckpt"}


class Breaks(Toy):
    """Fails at batch 3."""

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        if index == 3:
            raise ValueError("a bad image")
        return super().training_step(batch, index)


@pytest.mark.parametrize(("fails_at", "kept"), [(set(), 3), ({3}, 2)])
def test_an_exception_saves_what_there_is_and_stays_the_error(
        fails_at: set[int], kept: int, tmp_path: Path, disk: Callable[..., None]) -> None:
    disk(fails_at)
    with pytest.raises(ValueError, match="a bad image"):
        toy_trainer(tmp_path, 5, every(2, tmp_path, save_on_exception=True)).fit(Breaks(), toy_data())
    assert step(tmp_path / "last.ckpt") == kept


def test_a_resumed_run_does_not_write_its_own_start_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_trainer(tmp_path, 4, every(4, tmp_path)).fit(Toy(), toy_data())
    written, save = [], AtomicCheckpointIO.save_checkpoint
    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint",
                        lambda self, checkpoint, path, **_: written.append(path) or save(self, checkpoint, path))
    trainer = toy_trainer(tmp_path, 5, every(4, tmp_path), accumulate_grad_batches=2)
    trainer.fit(Toy(), toy_data(), ckpt_path=tmp_path / "last.ckpt")
    assert [Path(path).name for path in written] == ["step=5.ckpt"] and step(tmp_path / "last.ckpt") == 5


def test_the_newest_whole_one_is_found_and_the_others_are_named(tmp_path: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    assert newest_whole(tmp_path / "nowhere") is None
    for count in (100, 20, 3):
        torch.save({"global_step": count, "weights": torch.randn(1000)}, tmp_path / f"step={count}.ckpt")
    whole = (tmp_path / "step=100.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole)
    assert newest_whole(tmp_path) == tmp_path / "last.ckpt" and not capsys.readouterr().out
    (tmp_path / "last.ckpt").write_bytes(whole[:-100])
    (tmp_path / "step=20.ckpt").write_bytes(b"")
    (tmp_path / ".step=101.ckpt.partial").write_bytes(whole[:3000])
    assert newest_whole(tmp_path) == tmp_path / "step=100.ckpt"
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].rpartition("/")[2] for line in lines] == [
        ".step=101.ckpt.partial", "last.ckpt", "step=20.ckpt"]
    assert not list(tmp_path.glob(".*"))


def test_where_no_checkpoint_reads_nothing_starts_anew(tmp_path: Path) -> None:
    torch.save([1], tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="no checkpoint in .* can be read"):
        newest_whole(tmp_path)


def test_the_newest_wins_over_a_last_that_was_left_behind(tmp_path: Path) -> None:
    for name, count in (("last.ckpt", 3), ("step=6.ckpt", 6)):
        torch.save({"global_step": count}, tmp_path / name)
    assert newest_whole(tmp_path) == tmp_path / "step=6.ckpt"


def test_the_steps_made_are_told_without_a_word_or_a_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert steps_made(tmp_path / "nowhere") == 0
    for step in (4, 12):
        torch.save({"global_step": step}, tmp_path / f"{step}.ckpt")
    (tmp_path / "damaged.ckpt").write_bytes(b"no checkpoint")
    (tmp_path / ".last.ckpt.partial").touch()
    assert steps_made(tmp_path) == 12 and len(list(tmp_path.iterdir())) == 4
    assert capsys.readouterr().out == ""
