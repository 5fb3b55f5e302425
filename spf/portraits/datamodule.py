"""Hands portraits to Lightning: one row, one batch, and the data module around them."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import datasets
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from spf.portraits.reader import PortraitError, decode_portrait, read_portraits
from spf.portraits.sampler import PortraitSampler

OnBadImage = Literal["error", "replace"]
NEIGHBOURS = 10  # how far `replace` looks for a portrait that can be decoded


@dataclass
class PortraitBatch:
    """B portraits: `image` (B,3,R,R) float in [0,1], and lists of length B; target texts and phrases may be empty."""

    image: Tensor
    base_text: list[str]
    target_text: list[str]
    phrases: list[tuple[str, ...]]
    ids: list[str]

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
    return PortraitBatch(image=torch.stack([row["image"] for row in rows]), ids=[row["id"] for row in rows], **texts)


class Portraits(Dataset):
    """A table from `read_portraits` as training rows.

    A row is a dict: `image` (3,R,R) float in [0,1], the shorter side resized to R and the centre cut out; `base_text`,
    `target_text` and `id`: str; `phrases`: tuple of str, may be empty. A portrait that cannot be decoded raises
    `PortraitError`, or with `on_bad_image="replace"` the next good one takes its place, so that ranks stay in step.
    """

    def __init__(self, table: datasets.Dataset, resolution: int, on_bad_image: OnBadImage = "error") -> None:
        self.table = table
        self.reach = NEIGHBOURS if on_bad_image == "replace" else 0
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

    def __getitem__(self, index: int) -> dict[str, Any]:
        for neighbour in range(index, index + self.reach):
            try:
                return self._row(neighbour)
            except PortraitError as error:
                print(f"{str(error).splitlines()[0]} The next portrait takes its place.", flush=True)
        return self._row(index + self.reach)

    def _row(self, index: int) -> dict[str, Any]:
        row = self.table[index % len(self)]
        return row | {"image": self.crop(decode_portrait(row["image"])), "phrases": tuple(row["phrases"])}


class PortraitData(LightningDataModule):
    """Training portraits for both stages.

    Args:
        source: folder, glob or file of tar shards, parquet shards or images with metadata; see `read_portraits`.
        resolution: side of the square images, in pixels.
        train_batch_size: portraits per step and device.
        num_workers: processes per device that decode images.
        seed: of the order; an epoch's order depends on (seed, epoch) alone.
        columns: our column name -> the source's, as in `{base_text: caption}`.
        limit: use the first `limit` portraits only.
        require_target: refuse a source in which a portrait has no target text (else it is "").
        on_bad_image: stop at an image that cannot be decoded, or put the next portrait in its place and print a line.
    """

    def __init__(
        self,
        source: str,
        resolution: int = 512,
        train_batch_size: int = 8,
        num_workers: int = 4,
        seed: int = 0,
        columns: dict[str, str] | None = None,
        limit: int | None = None,
        require_target: bool = False,
        on_bad_image: OnBadImage = "error",
    ) -> None:
        super().__init__()
        self.source, self.columns, self.limit, self.require_target = source, columns, limit, require_target
        self.resolution, self.on_bad_image = resolution, on_bad_image
        self.train_batch_size, self.num_workers, self.seed = train_batch_size, num_workers, seed

    def prepare_data(self) -> None:
        """Builds the cached table on one process per node, while the others wait without a time limit."""
        read_portraits(self.source, self.columns, self.require_target)

    def setup(self, stage: str) -> None:
        table = read_portraits(self.source, self.columns, self.require_target)
        if self.limit is not None:
            table = table.select(range(min(self.limit, len(table))))
        self.portraits = Portraits(table, self.resolution, self.on_bad_image)

    def train_dataloader(self) -> DataLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if len(self.portraits) < self.train_batch_size * world_size:
            raise PortraitError(
                f"{self.source}: {len(self.portraits)} portraits are fewer than one step takes, train_batch_size "
                f"{self.train_batch_size} on {world_size} device(s).\nLower train_batch_size, or add portraits."
            )
        return DataLoader(
            self.portraits,
            batch_size=self.train_batch_size,
            sampler=PortraitSampler(self.portraits, self.seed, rank, world_size),
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            drop_last=True,
            persistent_workers=self.num_workers > 0,
        )
