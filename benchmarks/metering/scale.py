"""FID and KID at the size of the paper's test set: seconds, and what the ranks of a machine hold and exchange."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import torch
from machine.memory import peak, resident
from torch import Tensor, nn
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from torchmetrics.image import FrechetInceptionDistance, KernelInceptionDistance

from spf.evaluation.fid import FrechetDistance
from spf.evaluation.kid import KernelDistance
from spf.evaluation.measuring import CHUNK
from spf.evaluation.summed import SummedMetric

COUNT, WIDTH = 5000, 2048
METRICS: dict[str, Callable[[int, int], SummedMetric]] = {
    "fid": lambda count, width: FrechetDistance(width), "kid": KernelDistance}


def features(count: int = COUNT, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    """Of pairs that differ a little: (count,width) twice."""
    draw = torch.Generator().manual_seed(0)
    one = torch.randn(count, width, generator=draw)
    return one, one + 0.2 * torch.randn(count, width, generator=draw) + 0.02


def by_suite(name: str, one: Tensor, other: Tensor, rank: int = 0, world: int = 1) -> SummedMetric:
    """The metric of one rank, fed with every ``world``-th chunk of the suite's size; not computed yet."""
    metric = METRICS[name](*one.shape)
    for index in torch.arange(len(one)).split(CHUNK)[rank::world]:
        metric.update(index, one[index], other[index])
    return metric


def by_package(name: str, one: Tensor, other: Tensor) -> float:
    """The same by torch-fidelity."""
    if name == "fid":
        statistics = map(fid_features_to_statistics, (one, other))
        return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]
    return float(kid_features_to_metric(one, other, verbose=False)[KEY_METRIC_KID_MEAN])


def by_torchmetrics(name: str, one: Tensor, other: Tensor) -> float:
    """The same by torchmetrics, which keeps all features for KID and draws other subsets."""
    kind = FrechetInceptionDistance if name == "fid" else KernelInceptionDistance
    metric = kind(feature=Given(one.shape[1]))
    for index in torch.arange(len(one)).split(CHUNK):
        metric.update(one[index], real=True)
        metric.update(other[index], real=False)
    found = metric.compute()
    return float(found if name == "fid" else found[0])


class Given(nn.Module):
    """Features for torchmetrics, as they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        """(B,width) as given."""
        return features


def suite_seconds(name: str, count: int = COUNT, width: int = WIDTH) -> tuple[float, float]:
    """Seconds from the features to the number, and the number."""
    one, other = features(count, width)
    since = time.perf_counter()
    value = float(by_suite(name, one, other).compute())
    return time.perf_counter() - since, value


def package_seconds(name: str, package: Callable[[str, Tensor, Tensor], float], count: int = COUNT,
                    width: int = WIDTH) -> tuple[float, float]:
    """The same of a package."""
    one, other = features(count, width)
    since = time.perf_counter()
    value = package(name, one, other)
    return time.perf_counter() - since, value


@dataclass(frozen=True)
class Exchange:
    """What the first of ``world`` ranks holds and sends until it knows the number."""

    world: int
    state: int  # bytes that lie in its states
    reduced: int  # bytes that it gives to all_reduce; nothing is gathered
    gib: float  # its greatest resident memory while synchronising and computing, less the features' and libraries'
    value: float


def exchange(name: str, world: int, count: int = COUNT, width: int = WIDTH) -> Exchange:
    """The first rank's, the others simulated by the sums of their states; in a fresh process."""
    one, other = features(count, width)
    others = _sums(METRICS[name](count, width))
    before = resident()  # what others have summed lies here on their behalf, on any number of ranks
    for rank in range(1, world):
        for total, part in zip(others, _sums(by_suite(name, one, other, rank, world)), strict=True):
            total += part
    gc.collect()  # the other ranks' metrics, which lie in cycles, are no memory of the first
    first = by_suite(name, one, other, 0, world)
    state = sum(value.nbytes for value in _sums(first))
    with _beside(others) as sent:
        value, gib = peak(lambda: float(first.compute()))
    return Exchange(world, state, sum(sent), gib - before, value)


def _sums(metric: SummedMetric) -> list[Tensor]:
    metric.settle()
    return [value for value in metric.metric_state.values() if isinstance(value, Tensor)]


@contextmanager
def _beside(others: list[Tensor]) -> Iterator[list[int]]:
    """Inside, ``all_reduce`` adds the others' sums and notes how many bytes it was given; gathering is an error."""
    sent: list[int] = []

    def all_reduce(tensor: Tensor, op: object, group: object) -> None:
        tensor += others[len(sent)]
        sent.append(tensor.nbytes)

    def gathers(*arguments: object, **named: object) -> None:
        raise AssertionError("gathered")

    with (patch("torch.distributed.is_initialized", lambda: True), patch("torch.distributed.all_reduce", all_reduce),
          patch("torch.distributed.all_gather", gathers), patch("torch.distributed.all_gather_into_tensor", gathers)):
        yield sent
