import pytest
from torch.utils.data import DistributedSampler

from spf.portraits.sampler import PortraitSampler


def order(size: int = 20, seed: int = 0, epoch: int = 0, rank: int = 0, world_size: int = 1) -> list[int]:
    sampler = PortraitSampler(range(size), seed, rank, world_size)
    sampler.set_epoch(epoch)
    assert len(sampler) == len(list(sampler))
    return list(sampler)


def test_one_rank_sees_every_portrait_once_in_shuffled_order():
    assert sorted(order()) == list(range(20))
    assert order() != list(range(20))


def test_order_is_a_pure_function_of_seed_and_epoch():
    assert order(seed=3, epoch=5) == order(seed=3, epoch=5)
    assert order(epoch=0) != order(epoch=1)
    assert order(seed=0) != order(seed=1)
    assert order(seed=0, epoch=1) != order(seed=1, epoch=0)  # what torch's own sampler gets wrong


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("size", [6, 19, 20, 21])
def test_ranks_are_disjoint_and_equally_long(world_size: int, size: int):
    shares = [order(size, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(share) for share in shares} == {size // world_size}
    assert len(set(sum(shares, []))) == size // world_size * world_size


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_step_sees_the_same_portraits_for_any_number_of_ranks(world_size: int):
    alone, global_batch = order(24), 6
    shares = [order(24, rank=rank, world_size=world_size) for rank in range(world_size)]
    share = global_batch // world_size
    for step in range(24 // global_batch):
        together = sum((ranks[step * share : (step + 1) * share] for ranks in shares), [])
        assert set(together) == set(alone[step * global_batch : (step + 1) * global_batch])


def test_fewer_portraits_than_ranks_is_an_empty_share():
    assert order(2, rank=0, world_size=3) == order(2, rank=2, world_size=3) == []


def test_lightning_will_not_shard_it_again():
    assert isinstance(PortraitSampler(range(4)), DistributedSampler)
