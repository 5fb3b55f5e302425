"""The SFCM on grids small enough for paper and pencil."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spf.method.sfcm import (
    SFCM_SPREAD,
    SOFT_SPREAD,
    ControlMap,
    control_map,
    over_mean,
    relative,
    smoothed,
    soft_map,
)
from spf.notation import Conditions, Prediction
from tests.method.records import attending, random_record

# one differing corner of 16, smoothed on 2x2: each axis turns (a, b) into (3a + b, a + 3b) / 4
CORNER = torch.tensor([[16.0, 0.0], [0.0, 0.0]])
SMOOTHED_CORNER = torch.tensor([[9.0, 3.0], [3.0, 1.0]])


def conditions(phrase_weights: Tensor, targeted: bool = True) -> Conditions:
    """The first token begins the text, one for each phrase follows, the last is the target's."""
    batch, tokens, _ = phrase_weights.shape
    target = torch.zeros(batch, tokens, dtype=torch.bool)
    target[:, -1] = targeted
    return Conditions(torch.zeros(batch, tokens, 1), None, ~target, target, phrase_weights)


def one_token_each(phrases: int) -> Tensor:
    """(1,P+2,P): phrase i is token i + 1."""
    return functional.pad(torch.eye(phrases), (0, 0, 1, 1))[None]


def by_hand() -> tuple[Prediction, Prediction, Conditions, Tensor]:
    """Paths that differ in one corner; two phrases, of which the second is half as near to the target as the first."""
    first = torch.tensor([0.75, 0.5, 0.5, 0.25])  # its part of what a place gives to the phrases, a fifth in all
    attention = torch.stack([torch.full((4,), 0.7), 0.2 * first, 0.2 * (1 - first), torch.full((4,), 0.1)], -1)
    output = torch.stack([CORNER, -CORNER])[None]  # two channels, |difference| 16 in each
    response = Prediction(output, (attending(attention[None], (2, 2)),))
    return Prediction(torch.zeros_like(output)), response, conditions(one_token_each(2)), torch.tensor([[0.5, 0.25]])


def at_random(batch: int = 3) -> tuple[Prediction, Prediction, Conditions, Tensor]:
    """Two layers, four tokens, two phrases, an 8x8 latent."""
    layers = tuple(random_record(batch, tokens=4, grid=grid) for grid in ((4, 4), (2, 2)))
    reference, response = torch.randn(2, batch, 4, 8, 8)
    weights = one_token_each(2).expand(batch, -1, -1)
    return Prediction(reference), Prediction(response, layers), conditions(weights), torch.rand(batch, 2)


def sample(row: int, of: tuple[Prediction, Prediction, Conditions, Tensor]) -> ControlMap:
    """The map of one sample made alone."""
    def alone(value: Tensor) -> Tensor:
        return value[row:row + 1]

    reference, response, full, similarity = of
    layers = tuple(replace(record, **{name: alone(value) for name, value in vars(record).items()
                                      if isinstance(value, Tensor)}) for record in response.attention)
    rows = {name: alone(value) for name, value in vars(full).items() if value is not None}
    return control_map(Prediction(alone(reference.output)), Prediction(alone(response.output), layers),
                       replace(full, **rows), alone(similarity))


def test_smoothing_spreads_a_cell_over_its_neighbours_and_loses_nothing() -> None:
    single = torch.zeros(1, 4, 4)
    single[0, 1, 1] = 16
    expected = torch.tensor([[1.0, 2, 1, 0], [2, 4, 2, 0], [1, 2, 1, 0], [0, 0, 0, 0]])
    assert torch.equal(smoothed(single)[0], expected)
    assert torch.equal(smoothed(CORNER[None])[0], SMOOTHED_CORNER)
    assert torch.allclose(smoothed(torch.full((1, 3, 5), 0.3)), torch.full((1, 3, 5), 0.3))


def test_a_map_is_one_at_a_multiple_of_its_own_mean() -> None:
    maps = torch.tensor([[[0.0, 1.0], [2.0, 5.0]], [[4.0, 4.0], [4.0, 4.0]]])  # of means 2 and 4
    expected = torch.tensor([[[0.0, 0.25], [0.5, 1.25]], [[0.5, 0.5], [0.5, 0.5]]])
    assert torch.allclose(over_mean(maps, 2.0), expected)
    assert not over_mean(torch.zeros(1, 2, 2), 2.0).any()


def test_soft_map_is_the_mean_difference_over_channels() -> None:
    # 32 in a corner of one channel and -16 in the opposite corner of the other: 16 and 8 in the mean
    reference, response = torch.zeros(1, 2, 2, 2), torch.stack([2 * CORNER, -CORNER.flip(0, 1)])[None]
    expected = torch.tensor([[9 + 0.5, 3 + 1.5], [3 + 1.5, 1 + 4.5]]) / (SOFT_SPREAD * 6)  # of mean 6
    assert torch.allclose(soft_map(reference, response)[0], expected)
    assert torch.equal(soft_map(response, reference), soft_map(reference, response))


def test_similarity_is_relative_to_the_nearest_phrase_of_the_prompt() -> None:
    similarity = torch.tensor([[0.4, 0.2, -0.1], [0.05, 0.0, 0.1], [-0.3, -0.2, 0.0]])
    assert torch.allclose(relative(similarity), torch.tensor([[1.0, 0.5, 0.0], [0.5, 0.0, 1.0], [0.0, 0.0, 0.0]]))


def test_control_map_by_hand() -> None:
    made = control_map(*by_hand())
    share = torch.tensor([[[0.75, 0.5], [0.5, 0.25]], [[0.25, 0.5], [0.5, 0.75]]])
    soft = SMOOTHED_CORNER / (SOFT_SPREAD * 4)
    left = (soft - torch.tensor([[0.125, 0.25], [0.25, 0.375]])).clamp(min=0)  # half of what the second phrase claims
    assert torch.allclose(made.phrase_attention[0], share, atol=1e-6)
    assert torch.allclose(made.phrase_similarity, torch.tensor([[1.0, 0.5]]))
    assert torch.allclose(made.soft_map[0], soft)
    assert torch.allclose(made.sfcm[0], (left / (SFCM_SPREAD * left.mean())).clamp(max=1), atol=1e-6)
    assert made.sfcm[0, 0, 0] == made.sfcm.max() and made.sfcm[0, 1, 1] == made.sfcm.min()


def test_what_a_far_phrase_alone_claims_is_not_the_targets() -> None:
    reference, response, full, _ = by_hand()
    attention = torch.tensor([[0.01, 0.97, 0.01, 0.01]]).expand(4, -1)  # the first phrase has nearly everything
    response = replace(response, attention=(attending(attention[None], (2, 2)),))
    assert control_map(reference, response, full, torch.tensor([[0.0, 1.0]])).sfcm[0, 1].max() == 0
    assert control_map(reference, response, full, torch.tensor([[1.0, 0.0]])).sfcm[0, 1].min() > 0


def test_a_phrase_as_near_as_can_be_excludes_nothing() -> None:
    reference, response, full, _ = by_hand()
    expected = over_mean(soft_map(reference.output, response.output), SFCM_SPREAD).clamp(max=1)
    assert torch.allclose(control_map(reference, response, full, torch.tensor([[0.3, 0.3]])).sfcm, expected)
    no_phrase = replace(full, phrase_weights=torch.zeros(1, 4, 1))
    assert torch.allclose(control_map(reference, response, no_phrase, torch.zeros(1, 1)).sfcm, expected)


def test_an_outlier_is_full_and_no_more() -> None:
    reference, response, full, similarity = at_random(1)
    output = reference.output.clone()
    output[..., 3, 3] += 100
    sfcm = control_map(reference, replace(response, output=output), full, similarity).sfcm
    assert sfcm[0, 3, 3] == sfcm.max() == 1 and not sfcm[0, 5:].any()


def test_padded_phrases_change_nothing() -> None:
    reference, response, full, similarity = at_random()
    padded = replace(full, phrase_weights=functional.pad(full.phrase_weights, (0, 3)))
    one = control_map(reference, response, full, similarity)
    other = control_map(reference, response, padded, functional.pad(similarity, (0, 3)))
    assert torch.allclose(one.sfcm, other.sfcm, atol=1e-6)
    assert not other.phrase_attention[:, 2:].any() and not other.phrase_similarity[:, 2:].any()


def test_everything_but_the_soft_map_lies_between_zero_and_one() -> None:
    made = control_map(*at_random(8))
    assert (made.soft_map >= 0).all() and torch.allclose(made.soft_map.mean((1, 2)), torch.tensor(1 / SOFT_SPREAD))
    for value in (made.phrase_attention, made.phrase_similarity, made.sfcm):
        assert (value >= 0).all() and (value <= 1 + 1e-6).all()
    assert torch.allclose(made.phrase_attention.sum(1), torch.ones(8, 8, 8), atol=1e-5)
    assert 0 < made.sfcm.mean() < 1


def test_no_target_text_no_map() -> None:
    reference, response, full, similarity = at_random()
    full.target_tokens[1] = False
    sfcm = control_map(reference, response, full, similarity).sfcm
    assert not sfcm[1].any() and sfcm[0].any() and sfcm[2].any()


def test_identical_paths_have_no_map() -> None:
    reference, response, full, similarity = at_random()
    made = control_map(replace(response, attention=()), response, full, similarity)
    assert not made.soft_map.any() and not made.sfcm.any()


def test_rounding_is_not_blown_up_into_a_soft_map() -> None:
    output = torch.zeros(1, 4, 8, 8)
    assert soft_map(output, output + 1e-8 * torch.randn_like(output)).max() < 0.05


def test_rounding_is_not_blown_up_into_a_control_map() -> None:
    reference, response, full, _ = at_random()
    rounded = replace(response, output=reference.output + 1e-6 * torch.randn(reference.output.shape))
    everything_near = torch.ones(full.phrase_weights.shape[0], full.phrase_weights.shape[2])
    assert control_map(reference, rounded, full, everything_near).sfcm.max() < 0.01


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_the_scale_of_the_outputs_does_not_matter(scale: float) -> None:
    reference, response, full, similarity = at_random()
    larger = [replace(path, output=scale * path.output) for path in (reference, response)]
    expected = control_map(reference, response, full, similarity)
    assert torch.allclose(control_map(*larger, full, similarity).sfcm, expected.sfcm, atol=1e-5)


def test_a_sample_does_not_see_the_others() -> None:
    batch = at_random()
    together = control_map(*batch)
    for row in range(3):
        for name, value in vars(sample(row, batch)).items():
            assert torch.allclose(value[0], getattr(together, name)[row], atol=1e-6), name


def test_nothing_carries_a_gradient() -> None:
    reference, response, full, similarity = at_random()
    for value in (reference.output, response.output, similarity, full.phrase_weights, *(
            field for record in response.attention for field in (record.query, record.context_key))):
        value.requires_grad_()
    assert not any(value.requires_grad for value in vars(control_map(reference, response, full, similarity)).values())
    assert not soft_map(reference.output, response.output).requires_grad


def test_half_precision_outputs_are_compared_in_single() -> None:
    reference, response = torch.randn(2, 1, 4, 8, 8).bfloat16()
    assert torch.equal(soft_map(reference, response), soft_map(reference.float(), response.float()))
