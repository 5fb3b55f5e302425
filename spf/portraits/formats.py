"""The formats that portraits come in: tar shards, parquet shards, or a folder of images with their metadata.

A file that cannot be read is a `PortraitError`. A portrait that cannot is a record that says why, so that the others
keep their places.
"""

import csv
import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TextIO

import pyarrow.parquet as pq

IMAGE_TYPES = {"png", "jpg", "jpeg", "webp"}
NAMES = ("image", "base_text", "target_text", "phrases", "id")  # a portrait's columns, as we call them

Columns = dict[str, str]  # our name of a column -> the name the source has for it


class PortraitError(ValueError):
    """Something is wrong with the portraits; the message names the file and the remedy."""


class Record(NamedTuple):
    """A portrait as its source has it, before the columns are renamed and checked."""

    where: str  # the place that an error names
    key: str  # the id, if the source gives none
    image: dict[str, Any] | None  # {"bytes", "path"}
    fields: dict[str, Any]
    problem: str = ""  # why nothing can be made of it


def format_of(file: Path) -> str | None:
    """The format of a file by its name, or None."""
    return next((ending for ending in FORMATS if file.name.endswith(ending)), None)


def read_records(file: Path, columns: Columns) -> Iterator[Record]:
    """Every portrait of one file. Raises `PortraitError` if the file is unreadable."""
    try:
        yield from FORMATS[format_of(file)](file, columns)
    except PortraitError:
        raise
    except (OSError, ValueError, tarfile.TarError, csv.Error) as error:  # bad parquet and bad UTF-8 are ValueErrors
        raise PortraitError(f"{file}: cannot be read ({error}).\nCopy or write the file again.") from error


def _tar_records(file: Path, columns: Columns) -> Iterator[Record]:
    """A shard's portraits. Members of one portrait follow one another and share the name up to its first dot."""
    with tarfile.open(file, "r:") as shard:
        paths = ((PurePosixPath(member.name), member) for member in shard if member.isfile())
        seen = ((path, member) for path, member in paths if not path.name.startswith("."))  # macOS adds "._" twins
        for stem, group in groupby(seen, key=lambda found: found[0].parent / found[0].name.split(".")[0]):
            parts = {path.name.partition(".")[2].lower(): shard.extractfile(member).read() for path, member in group}
            yield _tar_record(f"{file}::{stem}", str(stem), parts, columns)
        _require_end(file, shard.offset)


def _require_end(file: Path, offset: int) -> None:
    """A damaged header ends a shard for `tarfile` without a word; only a block of zeros is its true end."""
    with file.open("rb") as shard:
        shard.seek(offset)
        if shard.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise PortraitError(f"{file}: is cut off or damaged at byte {offset}.\nCopy or write the file again.")


def _tar_record(where: str, key: str, parts: dict[str, bytes], columns: Columns) -> Record:
    """One portrait from its members' contents by ending."""
    images = [ending for ending in parts if ending in ({columns["image"]} if "image" in columns else IMAGE_TYPES)]
    image = {"bytes": parts[images[0]], "path": f"{where}.{images[0]}"} if images else None
    if len(images) > 1:
        several = f"{where}: has several images.\nName one, such as columns: {{image: {images[0]}}}."
        return Record(where, key, image, {}, several)
    try:
        return Record(where, key, image, _tar_texts(where, key, parts))
    except PortraitError as error:
        return Record(where, key, image, {}, str(error))


def _tar_texts(where: str, key: str, parts: dict[str, bytes]) -> dict[str, Any]:
    """The texts next to an image. JSON wins over txt where both give the base text."""
    if not parts.keys() & {"json", "txt"}:
        raise PortraitError(f"{where}: has no caption next to it.\nAdd {key}.json or .txt, and use tar --sort=name.")
    try:
        texts = {"base_text": parts["txt"].decode("utf-8-sig")} if "txt" in parts else {}
        return texts | json.loads(parts.get("json", b"{}"))
    except (ValueError, TypeError) as error:
        raise PortraitError(f"{where}: its json or txt cannot be read ({error}).\nWrite it again, in UTF-8.") from error


def _parquet_records(file: Path, columns: Columns) -> Iterator[Record]:
    """A shard's rows. Columns that are not ours (masks, latents) are not read, and are None in `fields`."""
    wanted = {columns.get(ours, ours) for ours in NAMES}
    with pq.ParquetFile(file) as shard:
        names = shard.schema_arrow.names
        batches = shard.iter_batches(batch_size=64, columns=[name for name in names if name in wanted])
        for number, fields in enumerate(row for batch in batches for row in batch.to_pylist()):
            where = f"{file}, row {number}"
            content = fields.get(columns.get("image", "image"))
            content = content.get("bytes") if isinstance(content, dict) else content
            image = {"bytes": content, "path": where} if content and isinstance(content, bytes) else None
            yield Record(where, f"{file.stem}/{number}", image, dict.fromkeys(names) | fields)


def _folder_records(file: Path, columns: Columns) -> Iterator[Record]:
    """The rows of metadata.jsonl or metadata.csv. The images stay where they are; the table holds their paths."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text) if file.suffix == ".csv" else _json_rows(file, text)
        for number, fields in enumerate(rows, 1):
            name = str(fields.get(columns.get("image", "file_name")) or "")
            # whether the file is there is seen when it is opened: the table may outlive what is seen now
            image = {"bytes": None, "path": str(file.parent / name)} if name else None
            yield Record(f"{file}, row {number} ({name})", name, image, fields)


def _json_rows(file: Path, text: TextIO) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text, 1):
        try:
            if line.strip():
                yield {} | json.loads(line)
        except (ValueError, TypeError) as error:
            raise PortraitError(f"{file}, line {number}: is no JSON object ({error}).\nWrite it again.") from error


FORMATS = {
    ".tar": _tar_records,
    ".parquet": _parquet_records,
    "metadata.jsonl": _folder_records,
    "metadata.csv": _folder_records,
}
