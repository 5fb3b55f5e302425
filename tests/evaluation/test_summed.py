"""Sums over ranks: added where they lie, in the same memory for any number of ranks, and taken back by unsync."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spf.evaluation.summed import SummedMetric
from tests.evaluation.ranks import beside


class Total(SummedMetric):
    """The sum of everything, some of which waits until it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("total", 1000)
        self.add_sum("count", dtype=torch.int64)
        self.add_state("held", [])

    def update(self, index: Tensor, originals: Tensor, customised: Tensor) -> None:
        self.held.append(originals)

    def settle(self) -> None:
        for row in self.held:
            self.total += row
            self.count += 1
        self.held = []

    def compute(self) -> Tensor:
        self.settle()
        return self.total.mean() / self.count


class Allocations(TorchDispatchMode):
    """Bytes of all storages that are made within."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **kwargs or {})
        known = {storage_of(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        self.bytes += sum(leaf.untyped_storage().nbytes() for leaf in tree_leaves(made)
                          if isinstance(leaf, Tensor) and storage_of(leaf) not in known)
        return made


def storage_of(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def total(*values: float) -> Total:
    metric = Total()
    for value in values:
        metric.update(torch.tensor([0]), torch.full((1000,), value), torch.empty(0))
    return metric


def test_alone() -> None:
    metric = total(1, 2, 6)
    assert metric.compute() == 3 and metric.total.dtype == torch.float64 and metric.total[0] == 9
    metric.reset()
    assert metric.total[0] == 0 and metric.held == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # nothing was updated since
        assert metric.compute().isnan()


def test_ranks_add_up_and_each_goes_on_with_its_own() -> None:
    metric, others = total(1, 3), [total(5), total(7, 9)]
    with beside(others):
        assert metric.compute() == 5
    metric.settle()
    assert metric.total[0] == 4 and metric.count == 2
    metric.update(torch.tensor([0]), torch.full((1000,), 11.0), torch.empty(0))
    with beside(others):
        assert metric.compute() == 6
    assert metric.compute() == 6  # kept until the next update


def test_memory_does_not_grow_with_the_ranks() -> None:
    spent, sizes = [], []
    for ranks in (1, 64):
        metric = total(1, 2)
        with beside([total(2)] * (ranks - 1)), Allocations() as made:
            metric.sync()
            spent.append(made.bytes)
        sizes.append({name: state.shape for name, state in metric.metric_state.items() if isinstance(state, Tensor)})
        assert metric.count == ranks + 1 and metric.total[0] == 2 * ranks + 1
        metric.unsync()
        assert metric.count == 0 and len(metric.held) == 2
    assert spent[0] == spent[1] > 0 and sizes[0] == sizes[1]


def two_processes(rank: int, folder: Path) -> None:
    """What each of the two runs."""
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    metric = total(*[(1, 2, 3), (10,)][rank])
    assert metric.compute() == 4
    assert metric.total[0] + sum(row[0] for row in metric.held) == (6, 10)[rank]
    (folder / str(rank)).touch()
    distributed.destroy_process_group()


def test_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.multiprocessing.spawn(two_processes, (tmp_path,), nprocs=2)
    assert (tmp_path / "0").exists() and (tmp_path / "1").exists()
