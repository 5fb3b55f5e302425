"""Writes portraits in every format that is read."""

import csv
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(kind: str = "PNG", colour: str = "red") -> bytes:
    """An encoded image, 24 wide and 32 high; "noise" is a colour too."""
    file = io.BytesIO()
    image = Image.effect_noise((24, 32), 50) if colour == "noise" else Image.new("RGB", (24, 32), colour)
    image.convert("RGB").save(file, kind)
    return file.getvalue()


def write_tar(file: Path, members: dict[str, bytes | str | dict]) -> Path:
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            content = json.dumps(content) if isinstance(content, dict) else content
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def write_parquet(file: Path, **columns: list) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


def write_folder(folder: Path, rows: list[dict], kind: str = "jsonl") -> Path:
    for row in rows:
        (folder / row["file_name"]).parent.mkdir(exist_ok=True)
        (folder / row["file_name"]).write_bytes(picture())
    with (folder / f"metadata.{kind}").open("w", newline="") as file:
        if kind == "jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            names = list(dict.fromkeys(name for row in rows for name in row))
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
    return folder / f"metadata.{kind}"
