"""The order in which portraits are trained on: an endless stream that the seed alone decides."""

from collections.abc import Callable, Iterator, Sized
from itertools import groupby

import numpy as np
from torch.utils.data import DistributedSampler


class PortraitSampler(DistributedSampler):
    """Deals the stream of portraits out to the ranks in turn.

    The stream is epoch after epoch of all portraits, each epoch shuffled by (seed, epoch); nothing is dropped or
    padded. A step of all ranks together takes the next `samples_per_step` portraits of it, so that step k sees the same
    ones for any number of ranks. One pass of the sampler (Lightning's epoch) is as many whole steps as fit into an
    epoch of portraits; what is left over comes first in the next pass. It yields `epoch * len(portraits) + index`.

    Lightning leaves the order alone because this *is* a `DistributedSampler`; a sampler of any other type it would
    shard a second time, unless the trainer is told `use_distributed_sampler: false`. Its `set_epoch` changes nothing.

    Args:
        portraits: what is sampled.
        seed: of the shuffling.
        rank: whose share this is.
        world_size: how many ranks there are.
        samples_per_step: of all ranks together in one optimizer step; a multiple of `world_size`.
        position: where in the stream a pass starts; asked when it does.
    """

    def __init__(
        self,
        portraits: Sized,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        samples_per_step: int = 1,
        position: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(portraits, num_replicas=world_size, rank=rank, seed=seed, drop_last=True)
        self.samples_per_step, self.position = samples_per_step, position

    def __len__(self) -> int:
        """Of a whole pass also where it starts amidst: Lightning counts what came before an interruption itself."""
        return len(self.dataset) // self.samples_per_step * self.samples_per_step // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        size, start = len(self.dataset), self.position() + self.rank
        places = range(start, start + len(self) * self.num_replicas, self.num_replicas)
        for epoch, share in groupby(places, lambda place: place // size):
            # torch's own order draws from seed + epoch, so that epoch 1 of seed 0 would repeat epoch 0 of seed 1
            order = np.random.default_rng((self.seed, epoch)).permutation(size)
            yield from (epoch * size + int(order[place % size]) for place in share)
