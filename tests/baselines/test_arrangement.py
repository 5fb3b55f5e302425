"""STORM's cost: maps and sides by hand, transport against POT."""

import math
from typing import Literal

import ot
import pytest
import torch
from torch import Tensor

from spf.baselines.arrangement import (
    REGULARISATION,
    Arrangement,
    adjective_cost,
    arrangement_cost,
    centroid,
    distribution,
    side,
    token_maps,
    transport_plan,
)
from tests.method.records import attending, random_record

FIRST, SECOND, ADJECTIVE = 1, 2, 3  # tokens


def blob(row: float, column: float, height: int = 16, width: int = 16) -> Tensor:
    """(h,w), positive, greatest there."""
    rows, columns = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return (-((rows - row) ** 2 + (columns - column) ** 2) / 8).exp() + 1e-3


def maps(*tokens: Tensor) -> Tensor:
    """(T,h,w): a start mark, these tokens, a last one."""
    return torch.stack([torch.zeros_like(tokens[0]), *tokens, torch.zeros_like(tokens[0])])


def random_distribution(seed: int, cells: int) -> Tensor:
    return torch.rand(cells, generator=torch.Generator().manual_seed(seed)).double().add(0.1).softmax(0)


def test_the_share_of_each_token_by_hand() -> None:
    near, far = torch.rand(2, 1, 4, 5) + 0.1  # (1,N,T)
    records = [attending(one / one.sum(-1, keepdim=True), (2, 2)) for one in (near, far)]
    coarse = random_record(1, tokens=5, grid=(1, 1))
    mean = sum(one / one.sum(-1, keepdim=True) for one in (near, far)) / 2
    expected = (100 * mean[0, :, 1:4]).softmax(-1).T.reshape(3, 2, 2)
    found = token_maps([coarse, *records])
    assert found.shape == (1, 5, 2, 2) and torch.allclose(found[0, 1:4], expected, atol=1e-4)
    assert not found[0, [0, 4]].any(), "the start mark and the last token take no part"


@pytest.mark.parametrize(("grids", "read"), [
    (((64, 64), (32, 32), (16, 16), (8, 8)), (16, 16)), (((8, 8), (4, 4)), (8, 8)), (((48, 32), (24, 16)), (24, 16)),
    (((32, 32), (8, 8)), (32, 32))])
def test_the_layers_nearest_16_x_16_are_read(grids: tuple[tuple[int, int], ...], read: tuple[int, int]) -> None:
    assert token_maps([random_record(1, grid=grid) for grid in grids]).shape[-2:] == read


def test_a_distribution_is_blurred_by_a_gaussian_that_mirrors_the_edge() -> None:
    point = torch.zeros(4, 4)
    point[0, 0] = 2.0
    edge = [math.exp(-(distance**2) / (2 * 0.5**2)) for distance in (-1, 0, 1)]
    line = torch.tensor([edge[1], edge[2], 0, 0]) / sum(edge)  # mirrored about the edge's own cell: it comes once
    expected = line.outer(line)
    assert torch.allclose(distribution(point, blur=True), expected / expected.sum(), atol=1e-6)
    assert torch.equal(distribution(point, blur=False), point / 2)


def test_a_centroid() -> None:
    where = torch.zeros(3, 5)
    where[2, 4] = where[0, 4] = where[1, 1] = where[1, 3] = 0.25
    assert float(centroid(where, "x")) == 3 and float(centroid(where, "y")) == 1


def test_without_a_direction_the_cost_is_what_the_nouns_share() -> None:
    one, other = blob(5, 5), blob(8, 8)
    a, b = (distribution(token, blur=True) for token in (one, other))
    cost = arrangement_cost(maps(one, other), Arrangement((FIRST, SECOND)), 3.0)
    assert float(cost) == pytest.approx(2 * float((a * b).sum()), rel=1e-5)
    apart = arrangement_cost(maps(blob(2, 2), blob(13, 13)), Arrangement((FIRST, SECOND)), 3.0)
    assert float(apart) < float(cost) / 10


def test_a_side_by_hand() -> None:
    where = torch.zeros(2, 3)
    where[:, 1] = 0.5  # the centroid's x is 1
    weight = 1 + 99 * (1 - math.exp(-0.4 * 5))
    before, after = side(where, "x", -1, 5.0), side(where, "x", 1, 5.0)
    assert torch.allclose(before[:, [0, 2]], torch.tensor([1 / weight, weight]).expand(2, -1), rtol=1e-4)
    assert torch.allclose(after[:, [0, 2]], torch.tensor([weight, 1 / weight]).expand(2, -1), rtol=1e-4)
    assert torch.allclose(side(where.mT, "y", -1, 5.0), before.mT)


@pytest.mark.parametrize(("axis", "first", "second"), [("x", (8, 3), (8, 12)), ("y", (3, 8), (12, 8))])
def test_the_right_order_costs_less(axis: Literal["x", "y"], first: tuple[int, int], second: tuple[int, int]) -> None:
    wanted = Arrangement((FIRST, SECOND), axis=axis)
    right, wrong = (arrangement_cost(maps(blob(*a), blob(*b)), wanted, 10.0)
                    for a, b in ((first, second), (second, first)))
    assert float(right) < float(wrong) / 10


def test_as_released_what_is_above_is_judged_from_left_to_right() -> None:
    wanted = Arrangement((FIRST, SECOND), axis="y")
    amid, aside = (maps(blob(3, column), blob(12, column)) for column in (8, 14))

    def cost(tokens: Tensor, strict_repo: bool) -> float:
        return float(arrangement_cost(tokens, wanted, 10.0, strict_repo))

    assert cost(aside, False) < 2 * cost(amid, False)
    assert cost(aside, True) > 4 * cost(amid, True), "the heights of the nouns are taken for columns"
    with pytest.raises(ValueError, match="strict_repo knows square portraits alone, not a grid of"):
        arrangement_cost(maps(blob(2, 2, 4, 6), blob(1, 1, 4, 6)), wanted, 10.0, strict_repo=True)


@pytest.mark.parametrize("cells", [9, 40])
def test_the_plan_is_pots(cells: int) -> None:
    source, target = random_distribution(0, cells), random_distribution(1, cells)
    cost = torch.rand(cells, cells, generator=torch.Generator().manual_seed(2)).double()
    plan = transport_plan(source, target, cost)
    theirs = ot.sinkhorn(source.numpy(), target.numpy(), cost.numpy(), REGULARISATION, numItermax=10_000, stopThr=1e-12)
    assert torch.allclose(plan, torch.from_numpy(theirs), atol=1e-6)
    assert torch.allclose(plan.sum(1), source, atol=1e-6) and torch.allclose(plan.sum(0), target, atol=1e-6)


def test_a_cost_of_the_source_alone_leaves_the_target_no_say() -> None:
    """Why the released disc is not here: the plan is the product, its cost the mean of the cells' costs."""
    source, cost = random_distribution(0, 25), torch.rand(25, 1).double().expand(-1, 25)
    for seed in (1, 2):
        target = random_distribution(seed, 25)
        plan = transport_plan(source, target, cost)
        assert torch.allclose(plan, source.outer(target), atol=1e-6)
        assert float((plan * cost).sum()) == pytest.approx(float((source * cost[:, 0]).sum()), rel=1e-5)


def test_an_adjective_costs_what_pot_says() -> None:
    noun, adjective = distribution(blob(2, 2, 6, 6), blur=False), distribution(blob(4, 3, 6, 6), blur=False)
    a, b = noun.flatten().double(), adjective.flatten().double()
    cells = torch.arange(36).double()
    cost = 0.5 * (cells[:, None] - cells).abs() + 0.5 * (a[:, None] - b).abs()
    cost /= cost.max()
    theirs = ot.sinkhorn2(a.numpy(), b.numpy(), cost.numpy(), REGULARISATION, numItermax=10_000, stopThr=1e-12)
    assert float(adjective_cost(noun, adjective)) == pytest.approx(float(theirs), rel=1e-3)
    assert float(adjective_cost(noun, noun)) < float(adjective_cost(noun, adjective))


def test_adjectives_count_from_the_seventh_step_as_a_mean() -> None:
    tokens = maps(blob(5, 5), blob(8, 8), blob(12, 3))
    plain, one, two = (Arrangement((FIRST, SECOND), adjectives) for adjectives in (
        (None, None), (ADJECTIVE, None), (ADJECTIVE, ADJECTIVE)))
    assert arrangement_cost(tokens, one, 6.9) == arrangement_cost(tokens, plain, 6.9)
    a, b = (distribution(tokens[token], blur=True) for token in (FIRST, SECOND))
    costs = [float(adjective_cost(noun, distribution(tokens[ADJECTIVE], blur=False))) for noun in (a, b)]
    base = float(arrangement_cost(tokens, plain, 7.0))
    assert float(arrangement_cost(tokens, one, 7.0)) == pytest.approx(base + costs[0], rel=1e-5)
    assert float(arrangement_cost(tokens, two, 7.0)) == pytest.approx(base + sum(costs) / 2, rel=1e-5)


@pytest.mark.parametrize("axis", [None, "x", "y"])
def test_the_gradient_is_finite(axis: Literal["x", "y"] | None) -> None:
    tokens = maps(blob(5, 5), blob(5, 5), blob(12, 3)).requires_grad_()
    arrangement_cost(tokens, Arrangement((FIRST, SECOND), (ADJECTIVE, None), axis), 20.0).backward()
    assert tokens.grad.isfinite().all() and tokens.grad[[FIRST, SECOND, ADJECTIVE]].flatten(1).any(1).all()
