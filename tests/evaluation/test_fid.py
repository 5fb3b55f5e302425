"""FID against torch-fidelity's, closed forms, and itself over any number of ranks and any size of chunk."""

import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from spf.evaluation.fid import FrechetDistance, frechet_distance
from tests.evaluation.ranks import over_ranks


def features(count: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Originals and customised: correlated as features are, and of different laws."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator) / width**0.5 + 2 * torch.eye(width)
    originals = torch.randn(count, width, generator=generator) @ mixing
    return originals, originals * 0.9 + torch.randn(count, width, generator=generator) + 0.3


def fid(originals: Tensor, customised: Tensor, chunk: int = 16) -> Tensor:
    return over_ranks([FrechetDistance(originals.shape[1])], originals, customised, chunk)


@pytest.mark.parametrize("count", [64, 2000])  # without and with full rank
def test_it_is_torch_fidelitys(count: int) -> None:
    sides = features(count, 192)
    expected = fid_statistics_to_metric(*map(fid_features_to_statistics, sides), verbose=False)
    torch.testing.assert_close(fid(*sides), torch.tensor(expected["frechet_inception_distance"], dtype=torch.float64),
                               rtol=1e-6, atol=0)


def test_fewer_pairs_than_features() -> None:
    sides = features(64, 192)
    centred = [side.double() - side.double().mean(0) for side in sides]
    shift = (sides[0].double().mean(0) - sides[1].double().mean(0)).square().sum()
    shared = torch.linalg.matrix_norm(centred[0] @ centred[1].T, "nuc")  # tr (C1 C2)^(1/2), without a root of rounding
    exact = shift + (sum(side.square().sum() for side in centred) - 2 * shared) / 63
    torch.testing.assert_close(fid(*sides), exact, rtol=1e-9, atol=0)
    assert abs(fid(sides[0], sides[0])) < 1e-9


@pytest.mark.parametrize("ranks", [2, 3, 7, 64])  # of 64 most have no pair
def test_ranks_change_nothing(ranks: int) -> None:
    sides = features(300, 24)
    sharded = over_ranks([FrechetDistance(24) for _ in range(ranks)], *sides)
    torch.testing.assert_close(sharded, fid(*sides), rtol=1e-9, atol=0)


def test_chunks_change_nothing() -> None:
    sides = features(1100, 8)
    found = torch.stack([fid(*sides, chunk) for chunk in (1, 64, 511, 512, 600, 1100)])
    torch.testing.assert_close(found, found[:1].expand(6), rtol=1e-9, atol=0)


def test_what_waits_is_not_lost() -> None:
    originals, customised = features(100, 8)
    metric = FrechetDistance(8)
    metric.update(torch.arange(60), originals[:60], customised[:60])
    half = metric.compute()
    metric.update(torch.arange(60, 100), originals[60:], customised[60:])
    torch.testing.assert_close(metric.compute(), fid(originals, customised), rtol=1e-9, atol=0)
    metric.reset()
    metric.update(torch.arange(60), originals[:60], customised[:60])
    torch.testing.assert_close(metric.compute(), half, rtol=1e-9, atol=0)


def test_equal_sets_and_a_shift() -> None:
    originals, _ = features(500, 192)
    shift = torch.linspace(-2, 3, 192)
    assert abs(fid(originals, originals)) < 1e-4
    torch.testing.assert_close(fid(originals, originals + shift), shift.double().square().sum(), rtol=1e-6, atol=1e-4)


def test_closed_form() -> None:
    one, other = torch.tensor([1.0, 4.0, 0.0]).double(), torch.tensor([9.0, 1.0, 25.0]).double()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())[0]
    mean = torch.tensor([1.0, -2.0, 0.5]).double()
    found = frechet_distance(mean, turn @ one.diag() @ turn.T, torch.zeros(3).double(), turn @ other.diag() @ turn.T)
    assert found.item() == pytest.approx(mean.square().sum().item() + 4 + 1 + 25)  # and of (sd - sd)^2


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_one_pair_has_no_covariance(count: int) -> None:
    assert fid(torch.ones(count, 4), torch.ones(count, 4)).isnan()
