"""What is computed of all pairs together, from states that add up: every rank keeps its own pairs' part of each sum."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torchmetrics
from torch import Tensor, distributed


class SummedMetric(torchmetrics.Metric):
    """A torchmetrics metric whose tensor states are sums over pairs, added up between ranks where they lie.

    torchmetrics itself gathers every rank's state and stacks them, even to sum: a covariance of 2048 features over 64
    ranks takes 2 GiB so, and as much again for the stack. ``all_reduce`` in place takes the same on any number of
    ranks: the state and the copy from which ``unsync`` restores it. Without a process group nothing is exchanged.

    Lists of what waits to be added may stand beside the sums (``add_state(name, [])``): ``settle`` empties them.
    ``update(index, originals, customised)`` takes n pairs: (n,) int64, which of all the pairs they are, and the part
    ``whole_of`` of their encodings, (n,d) each. ``compute`` gives a scalar, on all ranks or on none.
    """

    full_state_update = False
    whole_of: ClassVar[str] = "features"

    def add_sum(self, name: str, *shape: int, dtype: torch.dtype = torch.float64) -> None:
        """A state ``name`` of this shape that begins at zero."""
        self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def settle(self) -> None:
        """Add to the sums what updates have put off; whoever reads a sum calls it first. Here: nothing."""

    def _sync_dist(self, dist_sync_fn: Callable[..., Any] | None = None, process_group: Any | None = None) -> None:
        """torchmetrics calls this with its copy of the states in hand, from which ``unsync`` goes back to them."""
        self.settle()
        for name, default in self._defaults.items():
            if isinstance(default, Tensor):
                distributed.all_reduce(getattr(self, name), op=distributed.ReduceOp.SUM,
                                       group=process_group or self.process_group)
