"""Portraits with their texts: `formats` knows tar shards, parquet shards and image folders, `reader` makes a table of
one row per portrait from them, `sampler` puts the rows into an endless order that the seed alone decides, `batches`
makes training rows of them, and `datamodule` hands these to Lightning. Complaints about the data are `PortraitError`s,
which name the file and the remedy; `problems` counts single bad portraits, for which others stand in."""

from spf.portraits.batches import PortraitBatch, Portraits, collate
from spf.portraits.datamodule import PortraitData
from spf.portraits.formats import PortraitError
from spf.portraits.reader import decode_portrait, read_portraits
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
