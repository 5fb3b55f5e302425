"""Reads portraits and their texts from tar shards, parquet shards or an image folder into one Arrow table.

The source is walked and checked once. The table then lives in the Hugging Face cache (`HF_DATASETS_CACHE`), where every
process maps it into memory, and is built anew when a file of the source changes. The bytes of shards are copied there,
so the cache needs as much room as they do; the images of a folder stay where they are.
"""

import glob
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, Features, Value
from datasets import Image as EncodedImage
from datasets.exceptions import DatasetGenerationError
from PIL import Image, ImageOps, UnidentifiedImageError

from spf.portraits.formats import FORMATS, IMAGE_TYPES, NAMES, Columns, PortraitError, Record, format_of, read_records

FEATURES = Features(
    {
        "image": EncodedImage(decode=False),  # {"bytes", "path"}, as the file has it; `decode_portrait` opens it
        "base_text": Value("string"),
        "target_text": Value("string"),  # "" where the source has none
        "phrases": [Value("string")],  # [] where the source has none
        "id": Value("string"),
        "problem": Value("string"),  # "" where nothing is wrong; else what is, with file and remedy
    }
)
LAYOUT = 2  # part of the cache's name: count up when the rows change for the same source


def read_portraits(source: str | Path, columns: Columns | None = None, require_target: bool = False) -> Dataset:
    """The portraits of `source` as a map-style table with the columns `FEATURES`; images are encoded.

    `source` is a folder, a glob or a single file of one of three formats:
      - `*.tar`: WebDataset shards, `KEY.png|jpg|jpeg|webp` next to `KEY.json` (the texts) or `KEY.txt` (the base text);
      - `*.parquet`: one row per portrait; the image is bytes, or a struct with `bytes` as `datasets` writes it;
      - `metadata.jsonl` or `metadata.csv` in a folder of images: `file_name` and the texts (phrases in CSV as JSON).
    `columns` renames, as in {"base_text": "caption"}; a column named there must exist in every row. Texts are stripped.
    The id defaults to KEY, SHARD/ROW or the file name.

    A portrait without image or caption, with texts of the wrong type or with an id that an earlier one has keeps its
    row, whose `problem` says so; ids are unique among the others. Raises `PortraitError` for a source or a file that
    cannot be read, with `require_target` also when a portrait has no target text.
    """
    columns = columns or {}
    if unknown := columns.keys() - set(NAMES):
        raise PortraitError(f"columns: {', '.join(sorted(unknown))} is none of ours. Rename {', '.join(NAMES)}.")
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
    if require_target:
        _require_target(table, source)
    return table


def decode_portrait(image: dict[str, Any]) -> Image.Image:
    """The picture of a row's `image`, upright and in 8-bit RGB, white where it is transparent.

    Raises `PortraitError` if it is corrupt or truncated.
    """
    try:
        with Image.open(image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])) as picture:
            return _rgb(ImageOps.exif_transpose(picture))
    except Exception as error:  # by format and fault Pillow raises OSError, SyntaxError, ValueError, struct.error, ...
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else error  # its own text is an address
        remedy = "Replace or remove this portrait, or raise max_bad_fraction."
        raise PortraitError(f"{image['path']}: the image cannot be decoded ({reason}).\n{remedy}") from error


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16-bit grey, which `convert` would clip; 16-bit colour is scaled by Pillow
        grey = np.asarray(picture).astype(np.float32) / 257
        picture = Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        opaque = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    return picture.convert("RGB")


def _find(source: Path) -> tuple[Path, ...]:
    """The files that make up the source, in order, all of one format."""
    if source.is_dir():
        found = sorted(source.iterdir())
    else:
        found = [source] if source.exists() else sorted(map(Path, glob.glob(str(source), recursive=True)))
        if not found:
            raise PortraitError(f"{source}: there is no such folder, file or glob (seen from {Path.cwd()}).")
    files = tuple(file.absolute() for file in found if format_of(file))
    if len(formats := sorted({format_of(file) for file in files})) > 1:
        raise PortraitError(f"{source}: mixes {' and '.join(formats)}.\nName one by a glob, such as {source}/*.tar.")
    if not files:
        if any(file.suffix.lower()[1:] in IMAGE_TYPES for file in found):
            raise PortraitError(f"{source}: has no captions.\nAdd metadata.jsonl: file_name and base_text per line.")
        raise PortraitError(f"{source}: holds no portraits; it needs files that end in {', '.join(FORMATS)}.")
    return files


def _fingerprint(files: tuple[Path, ...], columns: Columns) -> str:
    """Names the cache. The images of a folder are left out: they are read in place, so they cannot grow stale."""
    stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr((LAYOUT, sorted(columns.items()), stamps)).encode()).hexdigest()[:32]


def _require_target(table: Dataset, source: str | Path) -> None:
    target, problem = (table.data.column(name) for name in ("target_text", "problem"))
    row = pc.index(pc.and_(pc.equal(target, ""), pc.equal(problem, "")), True).as_py()
    if row >= 0:
        bare = f"portrait {table[row]['id']!r} has no target text, and this training needs one for each"
        raise PortraitError(f"{source}: {bare}.\nAdd them, or name their column: columns: {{target_text: ...}}.")


def _rows(files: tuple[Path, ...], columns: Columns) -> Iterator[dict[str, Any]]:
    """Every portrait of the source, checked."""
    row, taken = None, {}
    for file in files:
        for record in read_records(file, columns):
            row = _row(record, columns, taken)
            yield row
    if row is None:
        raise PortraitError(
            f"{', '.join(map(str, files[:3]))}: no portrait in any file.\nFill them, or check the source."
        )


def _row(record: Record, columns: Columns, taken: dict[str, str]) -> dict[str, Any]:
    """The record under our names; `taken` says where the good ids so far are."""
    given = record.fields.get(columns.get("id", "id"))
    name = record.key if given in (None, "") else str(given)
    row = {"image": record.image, "base_text": "", "target_text": "", "phrases": [], "id": name, "problem": ""}
    try:
        texts = _texts(record, columns)
        if name in taken:
            clash = f"the id {name!r} is taken by {taken[name]}"
            raise PortraitError(f"{record.where}: {clash}.\nMake ids unique, or name them: columns: {{id: ...}}.")
    except PortraitError as error:
        return row | {"problem": " ".join(str(error).splitlines())}
    taken[name] = record.where
    return row | texts


def _texts(record: Record, columns: Columns) -> dict[str, Any]:
    """The record's texts under our names. Raises `PortraitError` where something is missing or of the wrong type."""
    where, fields = record.where, record.fields
    if record.problem:
        raise PortraitError(record.problem)
    required = {columns.get(ours, ours) for ours in columns.keys() | {"base_text"} if ours != "image"}
    if missing := sorted(required - fields.keys()):
        raise PortraitError(
            f"{where}: has no {', '.join(missing)}; it has {', '.join(map(str, fields)) or 'no columns'}.\n"
            "Add it, or name the column that holds it, such as columns: {base_text: caption}."
        )
    if record.image is None:
        raise PortraitError(f"{where}: has no image.\nAdd it to the shard, or name its file: file_name.")
    base, target, phrases = (fields.get(columns.get(ours, ours)) for ours in ("base_text", "target_text", "phrases"))
    if not isinstance(base, str) or not base.strip():
        raise PortraitError(f"{where}: the caption is empty or not text.\nWrite one, or remove the portrait.")
    if not isinstance(target or "", str):
        raise PortraitError(f"{where}: the target text is not text.\nWrite one, or leave it out.")
    return {
        "base_text": base.strip(),
        "target_text": (target or "").strip(),
        "phrases": _phrases(where, phrases),
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
