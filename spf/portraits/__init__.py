"""Portraits with their texts: `reader` turns tar shards, parquet shards or an image folder into a table of one row per
portrait, `sampler` puts the rows into an order that the seed and the epoch alone decide, and `datamodule` hands them to
Lightning in batches. Complaints about the data are `PortraitError`s, which name the file and the remedy."""

from spf.portraits.datamodule import PortraitBatch, PortraitData, Portraits, collate
from spf.portraits.reader import PortraitError, decode_portrait, read_portraits
from spf.portraits.sampler import PortraitSampler

__all__ = [
    "PortraitBatch",
    "PortraitData",
    "PortraitError",
    "PortraitSampler",
    "Portraits",
    "collate",
    "decode_portrait",
    "read_portraits",
]
