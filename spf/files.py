"""Files that are whole or absent: written under another name, then renamed."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The name to write ``path`` under; at the end it is renamed, and what went wrong leaves the old file as it was.

    Raises OSError that names ``path`` where the disk is full or cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # several processes may write the same
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise OSError(error.errno, _unwritten(path, error.strerror or error)) from error
    except SafetensorError as error:  # what that library makes of a full disk
        raise OSError(_unwritten(path, error)) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _unwritten(path: Path, why: Any) -> str:
    return f"{path} was not written ({why}): see that there is room, then give the same command again"


def unused(path: Path) -> Path:
    """``path``, or FileExistsError when something is there."""
    if path.exists():
        raise FileExistsError(f"{path} is there; give another name or remove it")
    return path


def write_json(content: Any, path: Path) -> None:
    """Indented, whole."""
    with whole(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_lines(rows: Iterable[Any], path: Path) -> None:
    """JSON, a row a line, whole."""
    with whole(path) as partial:
        partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_json(path: Path) -> Any:
    """What ``write_json`` wrote. Raises FileNotFoundError, or ValueError where it is damaged; both name the file."""
    return _parsed(path.read_text(encoding="utf-8"), path)


def read_lines(path: Path) -> list[Any]:
    """What ``write_lines`` wrote; errors as of ``read_json``."""
    return [_parsed(line, path) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def _parsed(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and make it again") from error
