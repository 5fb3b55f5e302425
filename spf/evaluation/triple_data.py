"""The test triples as a Lightning DataModule: canonical chunks, dealt to the ranks."""

from collections.abc import Sequence

import torch
from jsonargparse.typing import PositiveInt
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from spf.evaluation.portraits import Request, canonical_chunks
from spf.evaluation.triples import Triples


class TripleData(LightningDataModule):
    """The test triples, in canonical chunks; no sample is repeated to even out the ranks.

    Args:
        triples: folder of a test set that `spf triples` has made.
        chunk: portraits made at a time; default: as the originals were, since another one changes their last bits.
        limit: use the first so many triples only.
    """

    def __init__(self, triples: str = "runs/triples", chunk: PositiveInt | None = None,
                 limit: PositiveInt | None = None) -> None:
        super().__init__()
        self.source, self.chunk, self.limit = triples, chunk, limit

    def setup(self, stage: str) -> None:
        self.triples = Triples.load(self.source, self.limit)
        self.chunk = self.chunk or self.triples.manifest["chunk"]

    def test_dataloader(self) -> DataLoader:
        rank, world = self.trainer.global_rank, self.trainer.world_size
        chunks = canonical_chunks(self.triples.requests, self.chunk)
        # all ranks have equally many turns, some with nothing to make: one without any would skip what all do together
        chunks += [()] * (-len(chunks) % world)
        return DataLoader(chunks[rank::world], batch_size=None, collate_fn=list)

    def transfer_batch_to_device(self, batch: Sequence[Request], device: torch.device,
                                 dataloader_idx: int) -> Sequence[Request]:
        """Requests are words and seeds: they stay."""
        return batch
