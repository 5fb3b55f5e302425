"""Reads portraits and their texts from tar shards, parquet shards or an image folder into one Arrow table.

The source is walked and checked once. The table then lives in the Hugging Face cache (`HF_DATASETS_CACHE`), where every
process maps it into memory, and is built anew when a file of the source changes. The bytes of shards are copied there,
so the cache needs as much room as they do; the images of a folder stay where they are.
"""

import csv
import glob
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TextIO

import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, Features, Value
from datasets import Image as EncodedImage
from datasets.exceptions import DatasetGenerationError
from PIL import Image, ImageOps

FEATURES = Features(
    {
        "image": EncodedImage(decode=False),  # {"bytes", "path"}, as the file has it; `decode_portrait` opens it
        "base_text": Value("string"),
        "target_text": Value("string"),  # "" where the source has none
        "phrases": [Value("string")],  # [] where the source has none
        "id": Value("string"),
    }
)
IMAGE_TYPES = {"png", "jpg", "jpeg", "webp"}
LAYOUT = 1  # part of the cache's name: count up when the rows change for the same source

Columns = dict[str, str]  # our name of a column -> the name the source has for it


class PortraitError(ValueError):
    """Something is wrong with the portraits; the message names the file and the remedy."""


class Record(NamedTuple):
    """A portrait as its source has it, before the columns are renamed and checked."""

    where: str  # the place that an error names
    key: str  # the id, if the source gives none
    image: dict[str, Any] | None  # {"bytes", "path"}
    fields: dict[str, Any]


def read_portraits(source: str | Path, columns: Columns | None = None, require_target: bool = False) -> Dataset:
    """The portraits of `source` as a map-style table with the columns `FEATURES`; images are encoded, ids are unique.

    `source` is a folder, a glob or a single file of one of three formats:
      - `*.tar`: WebDataset shards, `KEY.png|jpg|jpeg|webp` next to `KEY.json` (the texts) or `KEY.txt` (the base text);
      - `*.parquet`: one row per portrait; the image is bytes, or a struct with `bytes` as `datasets` writes it;
      - `metadata.jsonl` or `metadata.csv` in a folder of images: `file_name` and the texts (phrases in CSV as JSON).
    `columns` renames, as in {"base_text": "caption"}; a column named there must exist in every row. Texts are stripped.
    The id defaults to KEY, SHARD/ROW or the file name. Raises `PortraitError`, with `require_target` also when a target
    text is missing.
    """
    columns = columns or {}
    if unknown := columns.keys() - FEATURES.keys():
        raise PortraitError(f"columns: {', '.join(sorted(unknown))} is none of ours. Rename {', '.join(FEATURES)}.")
    files = _find(Path(source).expanduser())
    try:
        # The builder holds a file lock, so of several processes one builds and the others wait for its table.
        table = Dataset.from_generator(
            _rows,
            features=FEATURES,
            gen_kwargs={"files": files, "columns": columns},  # a tuple of files: a list would be split into shards
            fingerprint=_fingerprint(files, columns),
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, PortraitError):
            raise error.__cause__ from None
        raise
    if require_target and (row := pc.index(table.data.column("target_text"), "").as_py()) >= 0:
        bare = f"portrait {table[row]['id']!r} has no target text, and this training needs one for each"
        raise PortraitError(f"{source}: {bare}.\nAdd them, or name their column: columns: {{target_text: ...}}.")
    return table


def decode_portrait(image: dict[str, Any]) -> Image.Image:
    """The RGB picture of a row's `image`, upright. Raises `PortraitError` if it is missing, corrupt or truncated."""
    try:
        with Image.open(image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except Exception as error:  # by format and fault Pillow raises OSError, SyntaxError, ValueError, struct.error, ...
        remedy = "Replace or remove this portrait, or set on_bad_image: replace."
        raise PortraitError(f"{image['path']}: the image cannot be decoded ({error}).\n{remedy}") from error


def _find(source: Path) -> tuple[Path, ...]:
    """The files that make up the source, in order, all of one format."""
    if source.is_dir():
        found = sorted(source.iterdir())
    else:
        found = [source] if source.exists() else sorted(map(Path, glob.glob(str(source), recursive=True)))
        if not found:
            raise PortraitError(f"{source}: there is no such folder, file or glob (seen from {Path.cwd()}).")
    files = tuple(file.absolute() for file in found if _format(file))
    if len(formats := sorted({_format(file) for file in files})) > 1:
        raise PortraitError(f"{source}: mixes {' and '.join(formats)}.\nName one by a glob, such as {source}/*.tar.")
    if not files:
        if any(file.suffix.lower()[1:] in IMAGE_TYPES for file in found):
            raise PortraitError(f"{source}: has no captions.\nAdd metadata.jsonl: file_name and base_text per line.")
        raise PortraitError(f"{source}: holds no portraits; it needs files that end in {', '.join(READERS)}.")
    return files


def _format(file: Path) -> str | None:
    return next((ending for ending in READERS if file.name.endswith(ending)), None)


def _fingerprint(files: tuple[Path, ...], columns: Columns) -> str:
    """Names the cache. The images of a folder are left out: they are read in place, so they cannot grow stale."""
    stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr((LAYOUT, sorted(columns.items()), stamps)).encode()).hexdigest()[:32]


def _rows(files: tuple[Path, ...], columns: Columns) -> Iterator[dict[str, Any]]:
    """Every portrait of the source, checked."""
    taken: dict[str, str] = {}
    for file in files:
        try:
            for record in READERS[_format(file)](file, columns):
                row = _row(record, columns)
                if row["id"] in taken:
                    clash = f"the id {row['id']!r} is taken by {taken[row['id']]}"
                    raise PortraitError(
                        f"{record.where}: {clash}.\nMake ids unique, or name them: columns: {{id: ...}}."
                    )
                taken[row["id"]] = record.where
                yield row
        except PortraitError:
            raise
        except (OSError, ValueError, tarfile.TarError) as error:  # bad parquet and bad UTF-8 are ValueErrors
            raise PortraitError(f"{file}: cannot be read ({error}).\nCopy or write the file again.") from error
    if not taken:
        raise PortraitError(
            f"{', '.join(map(str, files[:3]))}: no portrait in any file.\nFill them, or check the source."
        )


def _row(record: Record, columns: Columns) -> dict[str, Any]:
    """The record under our names. Raises `PortraitError` where something is missing or of the wrong type."""
    where, fields = record.where, record.fields
    required = {columns.get(ours, ours) for ours in columns.keys() | {"base_text"} if ours != "image"}
    if missing := sorted(required - fields.keys()):
        raise PortraitError(
            f"{where}: has no {', '.join(missing)}; it has {', '.join(map(str, fields)) or 'no columns'}.\n"
            "Add it, or name the column that holds it, such as columns: {base_text: caption}."
        )
    if record.image is None:
        raise PortraitError(f"{where}: has no image.\nAdd it to the shard, or to the folder under its file_name.")
    base, target, phrases, given = (fields.get(columns.get(ours, ours)) for ours in list(FEATURES)[1:])
    if not isinstance(base, str) or not base.strip():
        raise PortraitError(f"{where}: the caption is empty or not text.\nWrite one, or remove the portrait.")
    if not isinstance(target or "", str):
        raise PortraitError(f"{where}: the target text is not text.\nWrite one, or leave it out.")
    return {
        "image": record.image,
        "base_text": base.strip(),
        "target_text": (target or "").strip(),
        "phrases": _phrases(where, phrases),
        "id": record.key if given in (None, "") else str(given),
    }


def _phrases(where: str, phrases: Any) -> list[str]:
    """Phrases as a list; a CSV file can only hold them as JSON."""
    try:
        phrases = json.loads(phrases) if phrases and isinstance(phrases, str) else phrases or []
    except json.JSONDecodeError:
        phrases = None
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
        raise PortraitError(f"{where}: phrases is not a list of texts.\nWrite a JSON list of strings, or leave it out.")
    return phrases


def _tar_records(file: Path, columns: Columns) -> Iterator[Record]:
    """A shard's portraits. Members of one portrait follow one another and share the name up to its first dot."""
    with tarfile.open(file, "r:") as shard:
        paths = ((PurePosixPath(member.name), member) for member in shard if member.isfile())
        seen = ((path, member) for path, member in paths if not path.name.startswith("."))  # macOS adds "._" twins
        for stem, group in groupby(seen, key=lambda found: found[0].parent / found[0].name.split(".")[0]):
            parts = {path.name.partition(".")[2].lower(): shard.extractfile(member).read() for path, member in group}
            yield _tar_record(f"{file}::{stem}", str(stem), parts, columns)


def _tar_record(where: str, key: str, parts: dict[str, bytes], columns: Columns) -> Record:
    """One portrait from its members' contents by ending. JSON wins over txt where both give the base text."""
    images = [ending for ending in parts if ending in ({columns["image"]} if "image" in columns else IMAGE_TYPES)]
    if len(images) > 1:
        raise PortraitError(f"{where}: has several images.\nName one, such as columns: {{image: {images[0]}}}.")
    if not parts.keys() & {"json", "txt"}:
        raise PortraitError(f"{where}: has no caption next to it.\nAdd {key}.json or .txt, and use tar --sort=name.")
    try:
        fields = {"base_text": parts["txt"].decode("utf-8-sig")} if "txt" in parts else {}
        fields = fields | json.loads(parts.get("json", b"{}"))
    except (ValueError, TypeError) as error:
        raise PortraitError(f"{where}: its json or txt cannot be read ({error}).\nWrite it again, in UTF-8.") from error
    image = {"bytes": parts[images[0]], "path": f"{where}.{images[0]}"} if images else None
    return Record(where, key, image, fields)


def _parquet_records(file: Path, columns: Columns) -> Iterator[Record]:
    """A shard's rows. Columns that are not ours (masks, latents) are not read, and are None in `fields`."""
    wanted = {columns.get(ours, ours) for ours in FEATURES}
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
            name = str(fields.get(columns.get("image", "file_name")))
            path = file.parent / name
            image = {"bytes": None, "path": str(path)} if path.is_file() else None
            yield Record(f"{file}, row {number} ({name})", name, image, fields)


def _json_rows(file: Path, text: TextIO) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text, 1):
        try:
            if line.strip():
                yield {} | json.loads(line)
        except (ValueError, TypeError) as error:
            raise PortraitError(f"{file}, line {number}: is no JSON object ({error}).\nWrite it again.") from error


READERS = {
    ".tar": _tar_records,
    ".parquet": _parquet_records,
    "metadata.jsonl": _folder_records,
    "metadata.csv": _folder_records,
}
