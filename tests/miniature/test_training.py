from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spf.miniature.training import train


def fit(network: nn.Module, steps: int, checkpoint: Path, stop_at: int | None = None) -> list[int]:
    seen: list[int] = []

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        if step == stop_at:
            raise KeyboardInterrupt
        seen.append(step)
        x = torch.randn(16, 2, generator=torch.Generator().manual_seed(step))
        return (network(x) - x.sum(1, keepdim=True)).square().mean(), {}

    train("test", network, loss_at, steps, 0.1, checkpoint, every=5)
    return seen


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(2, 1)


def test_it_learns(tmp_path: Path) -> None:
    network = linear()
    fit(network, 200, tmp_path / "c.pt")
    assert torch.allclose(network.weight, torch.ones(1, 2), atol=0.05)


def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole, broken, resumed = linear(), linear(), linear()
    fit(whole, 20, tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        fit(broken, 20, tmp_path / "c.pt", stop_at=12)
    assert fit(resumed, 20, tmp_path / "c.pt") == list(range(10, 20))
    assert torch.equal(resumed.weight, whole.weight)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.pt", "whole.pt"]


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    fit(linear(), 10, tmp_path / "c.pt")
    again = linear()
    assert fit(again, 10, tmp_path / "c.pt") == []
    assert not torch.equal(again.weight, linear().weight)
