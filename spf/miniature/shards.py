"""Painted portraits on disk, in the WebDataset tar shards that any user's portraits may come in."""

import io
import json
import os
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from spf.miniature.painter import paint
from spf.miniature.people import CLAIMS, TARGETS, Caption, Person, base_text, caption, draw_people, phrase, target_text

BATCH = 32
NOTE = "painted.json"


@dataclass(frozen=True)
class Order:
    """How a folder was painted, from which every one of its people and captions follows."""

    studio: Literal["home", "away"]
    targets: tuple[str, ...]
    wordings: Literal["canonical", "varied"]
    resolution: int
    seed: int
    shard_size: int

    @classmethod
    def of(cls, folder: str | Path) -> "Order":
        """The order by which ``folder`` was painted. Raises FileNotFoundError where it was not painted by us."""
        note = Path(folder) / NOTE
        if not note.is_file():
            raise FileNotFoundError(f"{note} is not there: only `spf portraits paint` makes portraits of known truth")
        fields = json.loads(note.read_text())
        return cls(**fields | {"targets": tuple(fields["targets"])})

    def people(self, start: int, count: int = 1) -> list[Person]:
        """``count`` people; the one at ``start`` has it for an id."""
        return draw_people(count, self.seed, self.targets or (None,), self.studio, start=start)

    def caption(self, person: Person, index: int) -> Caption:
        """What is said of the portrait ``index``, apart from the target."""
        if self.wordings == "varied":
            return caption(person, np.random.default_rng([self.seed, index, 2]))
        return Caption(tuple(phrase(person, name) for name in CLAIMS), tuple(CLAIMS),
                       np.append(person.labels()[:-1], -1))


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
    order = Order(studio, tuple(targets), wordings, resolution, seed, shard_size)
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


def _claim(out: Path, order: Order, plan: list[Path]) -> None:
    """One folder holds one order: its file says which, and no shard lies there that is not in it."""
    others = sorted(set(out.glob("*.tar")) - set(plan))
    if others:
        raise FileExistsError(f"{others[0]} belongs to another count of portraits; give another folder or remove it")
    note = out / NOTE
    if note.exists() and Order.of(out) != order:
        raise FileExistsError(f"{out} was painted with {note.read_text()}; give another folder or remove it")
    if not note.exists() and out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty and holds no painted portraits; give another folder")
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(asdict(order)))


def _write(shard: Path, start: int, size: int, order: Order) -> None:
    partial = shard.with_suffix(".partial")
    with tarfile.open(partial, "w") as tar:
        for first in range(start, start + size, BATCH):
            people = order.people(first, min(BATCH, start + size - first))
            images = (paint(people, order.resolution) * 255).round().byte().permute(0, 2, 3, 1).numpy()
            for index, (person, image) in enumerate(zip(people, images, strict=True), first):
                _add(tar, f"{index:06d}.png", _png(image))
                _add(tar, f"{index:06d}.json", json.dumps(_texts(person, index, order)).encode())
    os.replace(partial, shard)


def _texts(person: Person, index: int, order: Order) -> dict[str, str | list[str]]:
    said = order.caption(person, index)
    base = said.text if order.wordings == "varied" else base_text(person)
    return {"base_text": base, "target_text": target_text(person.target), "phrases": list(said.phrases)}


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", compress_level=3)
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # its time is 0: the same order gives the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
