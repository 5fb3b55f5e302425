"""KID against torchmetrics' and torch-fidelity's, and itself over any number of ranks."""

import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.image.kid import poly_mmd

from spf.evaluation.kid import KernelDistance, kernel_distance
from tests.evaluation.ranks import over_ranks

FEW = {"subsets": 5, "subset_size": 40}


@pytest.fixture
def sides() -> tuple[Tensor, Tensor]:
    """100 pairs of 12 features."""
    generator = torch.Generator().manual_seed(0)
    originals = torch.randn(100, 12, generator=generator)
    return originals, originals * 0.9 + torch.randn(100, 12, generator=generator) + 0.2


def kid(originals: Tensor, customised: Tensor, **options: int) -> Tensor:
    return over_ranks([KernelDistance(len(originals), originals.shape[1], **options)], originals, customised)


def torch_fidelitys(originals: Tensor, customised: Tensor, subsets: int, subset_size: int) -> Tensor:
    found = kid_features_to_metric(originals.double(), customised.double(), kid_subsets=subsets,
                                   kid_subset_size=subset_size, verbose=False)
    return torch.tensor(found["kernel_inception_distance_mean"], dtype=torch.float64)


def test_all_pairs(sides: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(kid(*sides), poly_mmd(*(side.double() for side in sides)), rtol=1e-9, atol=0)
    torch.testing.assert_close(kid(*sides), torch_fidelitys(*sides, 1, 100), rtol=1e-9, atol=0)


def test_subsets_are_torch_fidelitys(sides: tuple[Tensor, Tensor]) -> None:
    found = kid(*sides, **FEW)
    torch.testing.assert_close(found, torch_fidelitys(*sides, **FEW), rtol=1e-9, atol=0)
    assert found != kid(*sides) and found == kid(*sides, **FEW)


@pytest.mark.parametrize("ranks", [2, 3, 7, 64])
def test_ranks_change_nothing(ranks: int, sides: tuple[Tensor, Tensor]) -> None:
    assert over_ranks([KernelDistance(100, 12, **FEW) for _ in range(ranks)], *sides) == kid(*sides, **FEW)


def test_what_was_not_measured_is_left_out(sides: tuple[Tensor, Tensor]) -> None:
    whole, rows = KernelDistance(100, 12, **FEW), torch.arange(0, 100, 2)
    whole.update(rows.flip(0), *(side[rows.flip(0)] for side in sides))
    assert whole.compute() == kid(*(side[rows] for side in sides), **FEW)


def test_equal_laws_are_0_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    found = torch.stack([kernel_distance(*torch.randn(2, 50, 8, generator=generator).double()) for _ in range(200)])
    assert abs(found.mean()) < 3 * found.std() / 200**0.5 and found.min() < 0  # unbiased, so not clamped


def test_faults(sides: tuple[Tensor, Tensor]) -> None:
    assert kid(*(side[:1] for side in sides)).isnan()
    twice = KernelDistance(100, 12)
    for _ in range(2):
        twice.update(torch.tensor([7, 8]), *(side[7:9] for side in sides))
    with pytest.raises(ValueError, match="pair 7 was given more than once"):
        twice.compute()
