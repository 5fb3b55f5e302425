"""Pairs -> rows of numbers, by one metric after the other; it knows nothing of the models that made the pairs.

Chunks of pairs are canonical: they follow from the order of the pairs alone, so no number of ranks, resume or cache
changes what a network sees in one batch. Each rank takes every W-th chunk.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from tqdm import tqdm

from spf.evaluation.encoding import Encoder, Pair
from spf.evaluation.metric import Metric
from spf.evaluation.store import Store

CHUNK = 16  # pairs in a batch
Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """Which part of the work is this process's."""

    rank: int = 0
    world_size: int = 1

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every ``world_size``-th item, from the ``rank``-th on."""
        return items[self.rank::self.world_size]


@dataclass
class Measured:
    """What one metric says of one share of the pairs."""

    rows: dict[str, dict[str, float]] = field(default_factory=dict)  # by id
    failures: dict[str, str] = field(default_factory=dict)  # by id: the pair could not be scored, and why
    whole: dict[str, float] = field(default_factory=dict)  # by column key, of all pairs of all shares


def measure(metric: Metric, pairs: Sequence[Pair], store: Store, share: Share = Share(), chunk: int = CHUNK,
            device: torch.device | str = "cpu", progress: bool = False) -> Measured:
    """Encode and score this share of the pairs; what is computed of all pairs together is summed over all ranks.

    A pair that cannot be read or scored is noted, and costs no other pair anything.
    """
    found, numbered = Measured(), list(enumerate(pairs))
    chunks = share.of([numbered[start:start + chunk] for start in range(0, len(numbered), chunk)])
    together = {key: one.to(device) for key, one in metric.whole(len(pairs)).items()}
    encoder = Encoder(metric, store)
    with exactly(), tqdm(total=sum(map(len, chunks)), unit="pair", desc=type(metric).__name__,
                         disable=not progress) as bar:
        for some in chunks:
            good, originals, customised = encoder.encode(some, found.failures)
            rows = metric.score(originals, customised, [pair.prompt for _, pair in good]) if good else []
            found.rows |= {pair.id: row for (_, pair), row in zip(good, rows, strict=True)}
            index = torch.tensor([place for place, _ in good], device=device)
            for one in together.values() if good else ():
                one.update(index, *(torch.stack([encoding[one.whole_of] for encoding in side]).to(device)
                                    for side in (originals, customised)))
            bar.update(len(some))
        values = {key: float(one.compute()) for key, one in together.items()}
    found.whole = {key: value for key, value in values.items() if math.isfinite(value)}  # no number of too few pairs
    return found


@contextmanager
def exactly() -> Iterator[None]:
    """No gradients and full float32: neither TF32 nor autocast moves a number."""
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = False
    try:
        with torch.no_grad(), torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        for flag, was in zip(flags, before, strict=True):
            flag.allow_tf32 = was
