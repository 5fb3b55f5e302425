"""Many ranks in one process, for metrics whose states are sums."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from unittest.mock import patch

import torch
from torch import Tensor

from spf.evaluation.summed import SummedMetric


@contextmanager
def beside(others: Sequence[SummedMetric]) -> Iterator[None]:
    """A metric that synchronises here finds the sums of ``others`` on the other ranks; gathering is an error."""
    for other in others:
        other.settle()
    turn = count()

    def all_reduce(tensor: Tensor, op: object, group: object) -> None:
        place = next(turn)
        for other in others:
            tensor += [state for state in other.metric_state.values() if isinstance(state, Tensor)][place]

    with (patch("torch.distributed.is_initialized", lambda: True), patch("torch.distributed.all_reduce", all_reduce),
          patch("torch.distributed.all_gather", gathers), patch("torch.distributed.all_gather_into_tensor", gathers)):
        yield


def gathers(*arguments: object, **named: object) -> None:
    """No memory that grows with the ranks."""
    raise AssertionError("gathered")


def over_ranks(ranks: Sequence[SummedMetric], originals: Tensor, customised: Tensor, chunk: int = 16) -> Tensor:
    """What the first of these ranks computes, when the chunks of pairs are dealt out to all of them."""
    for turn, index in enumerate(torch.arange(len(originals)).split(chunk)):
        ranks[turn % len(ranks)].update(index, originals[index], customised[index])
    with beside(ranks[1:]):
        return ranks[0].compute()
