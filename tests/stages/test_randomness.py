import pytest
import torch

from spf.backbones.flow import RectifiedFlow
from spf.backbones.process import Diffusion, Process
from spf.stages.randomness import chosen, draw

PROCESS = Diffusion({"num_train_timesteps": 1000, "beta_schedule": "linear"})
FLOW = RectifiedFlow({"num_train_timesteps": 1000, "shift": 3.0})
SHAPE = (4, 8, 8)


@pytest.mark.parametrize("process", [PROCESS, FLOW])
def test_draws_depend_on_seed_epoch_and_id_alone(process: Process) -> None:
    both, reverse = (draw(process, SHAPE, ids, 0, [1, 1]) for ids in (["a", "b"], ["b", "a"]))
    assert torch.equal(both.noise[0], reverse.noise[1]) and both.t[0] == reverse.t[1] != both.t[1]
    for name, seed, epoch in (("a", 1, 1), ("a", 0, 2), ("c", 0, 1)):
        assert not torch.equal(draw(process, SHAPE, [name], seed, [epoch]).noise[0], both.noise[0])


def test_every_sample_is_drawn_in_its_own_epoch() -> None:
    mixed, alone = draw(PROCESS, SHAPE, ["a", "a"], 0, [0, 1]), draw(PROCESS, SHAPE, ["a"], 0, [1])
    assert torch.equal(mixed.noise[1], alone.noise[0]) and not torch.equal(mixed.noise[0], mixed.noise[1])


def test_draws_have_their_distributions() -> None:
    draws = draw(PROCESS, SHAPE, [str(i) for i in range(2000)], 0, [0] * 2000, caption_dropout=0.1)
    assert abs(draws.noise.mean()) < 0.01 and abs(draws.noise.std() - 1) < 0.01
    assert abs((draws.noise * draws.posterior).mean()) < 0.01
    assert draws.t.min() < 10 and draws.t.max() > 989 and abs(draws.t.float().mean() - 500) < 20
    assert 0.88 < sum(draws.keep_text) / 2000 < 0.92


def test_without_dropout_every_text_is_kept() -> None:
    assert all(draw(PROCESS, SHAPE, [str(i) for i in range(200)], 0, [0] * 200).keep_text)


def test_what_is_chosen_depends_on_seed_epoch_and_id_alone_and_spreads_evenly() -> None:
    ids = [str(i) for i in range(3000)]
    first = chosen(3, ids, 0, [0] * 3000)
    assert chosen(3, ids[::-1], 0, [0] * 3000) == first[::-1] and min(first) == 0 and max(first) == 2
    assert all(900 < first.count(one) < 1100 for one in range(3))
    for others in (chosen(3, ids, 1, [0] * 3000), chosen(3, ids, 0, [1] * 3000)):
        assert 900 < sum(a == b for a, b in zip(first, others, strict=True)) < 1100
