"""A checkpoint file is whole or absent: written under a temporary name, on to the disk, then renamed."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class CheckpointError(OSError):
    """A checkpoint that was not written; its text says where, why, and what to do."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name, on to the disk, and renames it: a file that is there is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """As Lightning's, but ``path`` keeps its old content until the new one is on the disk, and no copy is made.

        Raises CheckpointError where the disk is full or does not let itself be written, and leaves nothing behind.
        """
        path = Path(path)
        partial = partial_name(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            _rename(partial, path)
        except (OSError, RuntimeError) as error:
            reason = error if isinstance(error, OSError) else error.__context__  # torch may cover it with its own
            if not isinstance(reason, OSError):
                raise
            raise CheckpointError(_not_written(path, reason)) from error
        finally:
            with suppress(OSError):
                partial.unlink()

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu",
                        weights_only: bool | None = None) -> dict[str, Any]:
        """As Lightning's, but without running pickled code unless told to, and read once for all ranks of a node."""
        return torch.load(path, map_location=map_location, mmap=True, weights_only=weights_only is not False)

    def remove_checkpoint(self, path: str | Path) -> None:
        """As Lightning's; a file that cannot be removed is only in the way."""
        try:
            super().remove_checkpoint(path)
        except OSError as error:
            print(f"the old checkpoint {path} could not be removed: {error.strerror}", flush=True)


def partial_name(path: Path) -> Path:
    """The name under which ``path`` is written."""
    return path.with_name(f".{path.name}.partial")


def _rename(partial: Path, path: Path) -> None:
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot
            os.fsync(folder)  # or the new name could be lost with the power, after the old file has been rotated away
    finally:
        os.close(folder)


def give_second_name(file: Path, name: Path) -> None:
    """``name`` for what is in ``file``, given in one move; Lightning's own removes the old ``name`` first.

    Raises CheckpointError where that cannot be written.
    """
    partial = partial_name(name)
    try:
        partial.unlink(missing_ok=True)
        try:
            os.link(file, partial)
        except OSError:  # a file system without such links
            shutil.copyfile(file, partial)
            with partial.open("rb+") as copy:
                os.fsync(copy.fileno())
        _rename(partial, name)
    except OSError as error:
        raise CheckpointError(_not_written(name, error)) from error
    finally:
        with suppress(OSError):
            partial.unlink()  # renaming a file to another name that it has does nothing


def _not_written(path: Path, error: OSError) -> str:
    remedy = "free some space there" if error.errno in NO_ROOM else f"see whether {path.parent} can be written"
    return f"checkpoint {path} was not written: {error.strerror or error}; {remedy}"
