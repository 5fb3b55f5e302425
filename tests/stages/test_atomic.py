import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spf.stages.atomic import AtomicCheckpointIO, CheckpointError, give_second_name, partial_name


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """As on a full disk, a write really fails half-way."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, events = tmp_path / "new" / "last.ckpt", []
    replace, fsync = os.replace, os.fsync

    def noted_fsync(descriptor: int) -> None:
        events.append(f"fsync {os.path.relpath(os.readlink(f'/proc/self/fd/{descriptor}'), tmp_path)}")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", lambda *names: events.append(f"rename to {names[1].name}") or replace(*names))
    AtomicCheckpointIO().save_checkpoint({"step": torch.tensor(1)}, path)
    assert events == ["fsync new/.last.ckpt.partial", "rename to last.ckpt", "fsync new"]
    assert AtomicCheckpointIO().load_checkpoint(path) == {"step": 1}


def test_a_disk_that_fills_up_in_mid_write_keeps_the_old_checkpoint(tmp_path: Path, small_files_only: None) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(CheckpointError, match=r"last\.ckpt was not written: File too large; free some space there"):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(1_000_000)}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_read_only_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: Path, *_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "open", read_only)
    with pytest.raises(CheckpointError, match=rf"Read-only file system; see whether {tmp_path} can be written"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt")


def test_what_fails_otherwise_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="lambda"):
        AtomicCheckpointIO().save_checkpoint({"code": lambda: 1}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_that_stays_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr("lightning.pytorch.plugins.io.TorchCheckpointIO.remove_checkpoint", busy)
    AtomicCheckpointIO().remove_checkpoint(tmp_path / "old.ckpt")
    assert "old.ckpt could not be removed: Device or resource busy" in capsys.readouterr().out


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"path": Path("x")}, tmp_path / "unsafe.ckpt")
    with pytest.raises(Exception, match="[Ww]eights.only"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "unsafe.ckpt")
    assert AtomicCheckpointIO().load_checkpoint(tmp_path / "unsafe.ckpt", weights_only=False) == {"path": Path("x")}


def test_a_second_name_outlives_the_first(tmp_path: Path) -> None:
    first, other, last = (tmp_path / name for name in ("first", "other", "last"))
    first.write_text("1")
    other.write_text("2")
    for file in (first, other, other):
        give_second_name(file, last)
        assert last.read_text() == file.read_text() and not partial_name(last).exists()
    other.unlink()
    assert last.read_text() == "2"


def test_without_links_the_second_name_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "first").write_text("1")
    give_second_name(tmp_path / "first", tmp_path / "last")
    assert (tmp_path / "last").read_text() == "1" and (tmp_path / "last").stat().st_nlink == 1
