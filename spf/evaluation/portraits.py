"""A model's portraits of a list of prompts and seeds, on disk: the same files for any number of ranks, resumable."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from spf.backbones import Backbone
from spf.files import read_json, write_json
from spf.notation import Guidance
from spf.pictures import save_png
from spf.sampling import CHUNK, generate
from spf.text import Prompt

SAFE_ID = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Sampling:
    """How portraits of a test set are made: the originals, and all that is compared with them."""

    steps: int = 20
    guidance_scale: float = 7.5
    scheduler: Literal["ddim", "base"] = "ddim"
    height: int | None = None  # pixels; None: the model's own
    width: int | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"


@dataclass(frozen=True)
class Request:
    """One portrait: its name, its prompt, its seed."""

    id: str
    prompt: Prompt
    seed: int

    def __post_init__(self) -> None:
        if not SAFE_ID.fullmatch(self.id):
            raise ValueError(f"the id {self.id!r} names a file: use letters, digits, '.', '_' and '-' alone")


def canonical_chunks(requests: Sequence[Request], size: int = CHUNK) -> list[Sequence[Request]]:
    """The batches in which portraits are made, by the order of the requests alone."""
    return [requests[start:start + size] for start in range(0, len(requests), size)]


def portrait_file(folder: Path, request: Request) -> Path:
    """Where a portrait lies."""
    return folder / f"{request.id}.png"


def make_portraits(backbone: Backbone, chunk: Sequence[Request], folder: Path, sampling: Sampling, size: int = CHUNK,
                   guidance: Guidance | None = None) -> int:
    """Generate those portraits of one canonical chunk that are not in ``folder``; returns how many.

    The whole chunk is generated where one is missing, since an image's last bits depend on its batch.

    Raises ValueError where the model gives values that are not finite.
    """
    missing = [request for request in chunk if not portrait_file(folder, request).is_file()]
    if not missing:
        return 0
    with _autocast(backbone, sampling):
        images = generate(
            backbone, [request.prompt for request in chunk], [request.seed for request in chunk], steps=sampling.steps,
            guidance_scale=sampling.guidance_scale, scheduler=sampling.scheduler, guidance=guidance,
            height=sampling.height, width=sampling.width, chunk=size, progress=False)
    for request, image in zip(chunk, images, strict=True):
        if not image.isfinite().all():
            raise ValueError(f"the portrait {request.id!r} has values that are not finite: sample in float32")
        if request in missing:
            save_png(image, portrait_file(folder, request))
    return len(missing)


def claim(note: Path, order: Mapping[str, Any], folder: Path) -> None:
    """``folder`` holds the portraits of one model, made in one way: that of the ``order``, kept in ``note``.

    Portraits of an older checkpoint or test set in the same place are put aside. Raises ValueError where anything else
    has changed.
    """
    before = read_json(note) if note.is_file() else order
    changed = [key for key in order if key not in ("row", "originals") and before.get(key) != order[key]]
    if changed and set(changed) <= {"checkpoint_sha256", "test_set", "sampling", "chunk"}:
        print(f"another {', '.join(changed)} than that of these portraits: they are put aside in {folder}.old")
        shutil.rmtree(f"{folder}.old", ignore_errors=True)
        if folder.is_dir():
            folder.rename(f"{folder}.old")
    elif changed:
        raise ValueError(f"{note.parent} holds portraits made with another {', '.join(changed)}: give another "
                         "--run, or remove it")
    write_json(order, note)


def _autocast(backbone: Backbone, sampling: Sampling) -> torch.autocast:
    """The precision that the test set says, whatever a trainer would have."""
    if sampling.precision == "float32":
        return torch.autocast(backbone.device.type, enabled=False)
    return torch.autocast(backbone.device.type, getattr(torch, sampling.precision))

