"""Painted portraits on disk, in the WebDataset tar shards that any user's portraits may come in."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from spf.miniature.painter import paint
from spf.miniature.people import TARGETS, Person, base_text, caption, draw_people, target_text

BATCH = 32


def paint_portraits(
    out: Path = Path("runs/portraits"),
    count: int = 4000,
    studio: Literal["home", "away"] = "away",
    targets: tuple[str, ...] = ("glasses",),
    wordings: Literal["canonical", "varied"] = "canonical",
    resolution: int = 128,
    seed: int = 0,
    shard_size: int = 1000,
) -> Path:
    """Paint portraits into tar shards; a shard that is already there is not painted again.

    Args:
        out: folder of the shards.
        count: how many portraits.
        studio: home is what the base model knows; away has other crops, tilt, light and walls.
        targets: they take turns; none (``[]``) paints plain people.
        wordings: every attribute in canonical words, or several wordings, shuffled orders and subsets.
        resolution: in pixels.
        seed: who is painted.
        shard_size: portraits in a shard.

    Raises ValueError for an unknown target, FileExistsError where ``out`` holds something painted otherwise.
    """
    unknown = sorted(set(targets) - set(TARGETS))
    if unknown:
        raise ValueError(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    order = {"studio": studio, "targets": list(targets), "wordings": wordings, "resolution": resolution, "seed": seed,
             "shard_size": shard_size}
    plan = {out / f"portraits-{start:06d}-{min(start + shard_size, count):06d}.tar": start
            for start in range(0, count, shard_size)}
    _claim(out, order, list(plan))
    with tqdm(total=count, unit="portrait", desc=f"painting the {studio} studio") as bar:
        for shard, start in plan.items():
            size = min(shard_size, count - start)
            if not shard.exists():
                _write(shard, start, size, order)
            bar.update(size)
    return out


def _claim(out: Path, order: dict[str, Any], plan: list[Path]) -> None:
    """One folder holds one order: its file says which, and no shard lies there that is not in it."""
    others = sorted(set(out.glob("*.tar")) - set(plan))
    if others:
        raise FileExistsError(f"{others[0]} belongs to another count of portraits; give another folder or remove it")
    note = out / "painted.json"
    if note.exists() and json.loads(note.read_text()) != order:
        raise FileExistsError(f"{out} was painted with {note.read_text()}; give another folder or remove it")
    if not note.exists() and out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty and holds no painted portraits; give another folder")
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(order))


def _write(shard: Path, start: int, size: int, order: dict[str, Any]) -> None:
    partial = shard.with_suffix(".partial")
    with tarfile.open(partial, "w") as tar:
        for first in range(start, start + size, BATCH):
            count = min(BATCH, start + size - first)
            targets = tuple(order["targets"]) or (None,)
            people = draw_people(count, order["seed"], targets, order["studio"], start=first)
            images = (paint(people, order["resolution"]) * 255).round().byte().permute(0, 2, 3, 1).numpy()
            for index, (person, image) in enumerate(zip(people, images, strict=True), first):
                _add(tar, f"{index:06d}.png", _png(image))
                _add(tar, f"{index:06d}.json", json.dumps(_texts(person, index, order)).encode())
    os.replace(partial, shard)


def _texts(person: Person, index: int, order: dict[str, Any]) -> dict[str, str]:
    if order["wordings"] == "canonical":
        return {"base_text": base_text(person), "target_text": target_text(person.target)}
    rng = np.random.default_rng([order["seed"], index, 2])
    return {"base_text": caption(person, rng).text, "target_text": target_text(person.target)}


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", compress_level=3)
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # its time is 0: the same order gives the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
