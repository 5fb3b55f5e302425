"""The order in which portraits are trained on."""

from collections.abc import Iterator, Sized

import numpy as np
from torch.utils.data import DistributedSampler


class PortraitSampler(DistributedSampler):
    """Shuffles portraits by (seed, epoch) alone and deals them out to the ranks in turn.

    The ranks' shares are disjoint and equally long: the last `len(portraits) % world_size` portraits of an epoch sit
    out. Step k of all ranks together sees the same portraits for any number of ranks, if the global batch is the same.
    Lightning calls `set_epoch`, and leaves the order alone because this *is* a `DistributedSampler`; a sampler of any
    other type it would shard a second time, unless the trainer is told `use_distributed_sampler: false`.

    A resume in mid-epoch starts `__iter__` further on; it belongs here, and is not built yet.
    """

    def __init__(self, portraits: Sized, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(portraits, num_replicas=world_size, rank=rank, seed=seed, drop_last=True)

    def __iter__(self) -> Iterator[int]:
        # torch's own order draws from seed + epoch, so that epoch 1 of seed 0 would repeat epoch 0 of seed 1.
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.dataset))
        return iter(order[self.rank : self.total_size : self.num_replicas].tolist())
