"""Portraits as training rows, and rows as a batch."""

from dataclasses import dataclass, field, replace
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from spf.portraits.formats import PortraitError
from spf.portraits.reader import decode_portrait


@dataclass
class PortraitBatch:
    """B portraits: `image` (B,3,R,R) float in [0,1], and lists of length B; target texts and phrases may be empty."""

    image: Tensor
    base_text: list[str]
    target_text: list[str]
    phrases: list[tuple[str, ...]]
    ids: list[str]
    epochs: list[int] = field(default_factory=list)  # how often each portrait was seen before; default: never
    bad: dict[int, str] = field(default_factory=dict)  # rows that others of this batch stand in for, and why

    def __post_init__(self) -> None:
        self.epochs = self.epochs or [0] * len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> "PortraitBatch":
        """The batch with its images on `device`.

        Non-blocking by default: Lightning passes the flag to bare tensors only, so that every step would wait for its
        copy. A copy to the host always waits: read too early it would be garbage.
        """
        non_blocking = non_blocking and torch.device(device).type != "cpu"
        return replace(self, image=self.image.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "PortraitBatch":
        """The batch with its images in page-locked memory, from which they travel to a GPU without a wait."""
        return replace(self, image=self.image.pin_memory())


def collate(rows: list[dict[str, Any]]) -> PortraitBatch:
    """Rows of `Portraits` as one batch."""
    texts = {column: [row[column] for row in rows] for column in ("base_text", "target_text", "phrases")}
    return PortraitBatch(
        image=torch.stack([row["image"] for row in rows]),
        ids=[row["id"] for row in rows],
        epochs=[row["epoch"] for row in rows],
        bad={place: text for row in rows for place, text in row["bad"].items()},
        **texts,
    )


class Portraits(Dataset):
    """A table from `read_portraits` as training rows, numbered `epoch * len(table) + index`.

    A row is a dict: `image` (3,R,R) float in [0,1], the shorter side resized to R and the centre cut out; `base_text`,
    `target_text` and `id`: str; `phrases`: tuple of str, may be empty; `epoch`: int. For a bad portrait the next good
    one stands in, so that ranks stay in step and all agree; `bad` then says which, by row, and why. More than
    `allowed_bad` of them in succession raise `PortraitError`.
    """

    def __init__(self, table: datasets.Dataset, resolution: int, allowed_bad: int = 0) -> None:
        self.table = table
        self.allowed_bad = allowed_bad
        self.crop = v2.Compose(
            [
                v2.PILToTensor(),
                v2.Resize(resolution, antialias=True),
                v2.CenterCrop(resolution),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, index = divmod(number, len(self))
        bad: dict[int, str] = {}
        while True:
            place = (index + len(bad)) % len(self)
            try:
                return self._row(place) | {"epoch": epoch, "bad": bad}
            except PortraitError as error:
                bad[place] = " ".join(str(error).splitlines())
                if len(bad) > self.allowed_bad:
                    raise

    def _row(self, index: int) -> dict[str, Any]:
        row = self.table[index]
        if row["problem"]:
            raise PortraitError(row["problem"])
        return row | {"image": self.crop(decode_portrait(row["image"])), "phrases": tuple(row["phrases"])}
