from collections import Counter

import pytest
from torch.utils.data import DistributedSampler

from spf.portraits.sampler import PortraitSampler


def numbers(size: int = 20, seed: int = 0, rank: int = 0, world_size: int = 1, step: int = 1, start: int = 0) -> list:
    sampler = PortraitSampler(range(size), seed, rank, world_size, step, lambda: start)
    assert len(sampler) == len(list(sampler))
    return list(sampler)


def stream(size: int, world_size: int, step: int, passes: int, seed: int = 0) -> list[set[int]]:
    """What all ranks together see in each step of some passes; every pass starts where the one before ended."""
    steps = size // step
    taken = []
    for start in range(0, passes * steps * step, steps * step):
        ranks = [numbers(size, seed, rank, world_size, step, start) for rank in range(world_size)]
        shares = [range(k * step // world_size, (k + 1) * step // world_size) for k in range(steps)]
        taken += [{ranks[rank][place] for rank in range(world_size) for place in share} for share in shares]
    return taken


def test_an_epoch_is_every_portrait_once_in_shuffled_order():
    assert sorted(numbers()) == list(range(20))
    assert numbers() != list(range(20))


def test_order_is_a_pure_function_of_seed_and_epoch():
    first, second = numbers(), [number - 20 for number in numbers(start=20)]
    assert first == numbers() != second
    assert first != numbers(seed=1) != second  # torch's own sampler repeats epoch 1 of seed 0 as epoch 0 of seed 1
    assert sorted(second) == list(range(20))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [42, 43, 59, 83, 84])
def test_every_portrait_comes_once_per_epoch_on_any_number_of_ranks(world_size: int, size: int):
    taken = Counter(number for step in stream(size, world_size, 42, passes=7) for number in step)
    assert set(taken.values()) == {1}
    whole_epochs = len(taken) // size
    assert whole_epochs >= 3 and set(range(whole_epochs * size)) <= taken.keys()
    assert max(taken) < (whole_epochs + 1) * size


@pytest.mark.parametrize("world_size", [2, 3, 7])
@pytest.mark.parametrize("size", [42, 61, 100])
def test_a_step_sees_the_same_portraits_on_any_number_of_ranks(world_size: int, size: int):
    assert stream(size, world_size, 42, passes=3) == stream(size, 1, 42, passes=3)


@pytest.mark.parametrize("start", [6, 12, 17, 18, 20, 35])
def test_a_pass_starts_anywhere_in_the_stream(start: int):
    whole = numbers(step=4) + numbers(step=4, start=20) + numbers(step=4, start=40)
    assert numbers(step=4, start=start) == whole[start : start + 20]


def test_the_position_is_asked_at_every_pass():
    positions = iter([0, 10])
    sampler = PortraitSampler(range(10), position=lambda: next(positions))
    assert [number // 10 for number in (*sampler, *sampler)] == [0] * 10 + [1] * 10


def test_the_epoch_that_lightning_sets_changes_nothing():
    sampler = PortraitSampler(range(9))
    before = list(sampler)
    sampler.set_epoch(5)
    assert list(sampler) == before


def test_the_length_is_that_of_whole_steps():
    assert [len(PortraitSampler(range(20), 0, 0, 2, step)) for step in (2, 6, 8, 20, 22)] == [10, 9, 8, 10, 0]


def test_fewer_portraits_than_a_step_are_an_empty_share():
    assert numbers(2, rank=0, world_size=3, step=3) == numbers(2, rank=2, world_size=3, step=3) == []


def test_lightning_will_not_shard_it_again():
    assert isinstance(PortraitSampler(range(4)), DistributedSampler)
