"""Table 2 as records."""

import pytest
import torch

from spf.notation import Conditions, Guidance, LowRank, Prediction, Tuning


def conditions(batch: int, phrases: int, pooled: bool = False) -> Conditions:
    return Conditions(
        sequence=torch.randn(batch, 5, 4),
        pooled=torch.randn(batch, 3) if pooled else None,
        base_tokens=torch.ones(batch, 5, dtype=torch.bool),
        target_tokens=torch.rand(batch, 5) < 0.5,
        phrase_weights=torch.rand(batch, 5, phrases),
    )


def test_followed_by_keeps_both_batches_and_widens_the_phrases() -> None:
    first, second = conditions(1, 1), conditions(2, 3)
    both = first.followed_by(second)
    assert torch.equal(both.sequence, torch.cat([first.sequence, second.sequence]))
    assert both.base_tokens.shape == (3, 5)
    assert torch.equal(both.target_tokens, torch.cat([first.target_tokens, second.target_tokens]))
    assert torch.equal(both.phrase_weights[:1, :, :1], first.phrase_weights)
    assert not both.phrase_weights[:1, :, 1:].any()
    assert torch.equal(both.phrase_weights[1:], second.phrase_weights)
    assert both.pooled is None


def test_followed_by_joins_sentence_features() -> None:
    first, second = conditions(1, 1, pooled=True), conditions(1, 1, pooled=True)
    assert torch.equal(first.followed_by(second).pooled, torch.cat([first.pooled, second.pooled]))


def test_to_moves_every_field() -> None:
    for pooled in (False, True):
        moved = conditions(1, 2, pooled).to("meta")
        assert all(value is None or value.is_meta for value in vars(moved).values())


def test_an_uncaptured_prediction_has_no_records() -> None:
    assert Prediction(torch.zeros(1)).attention == ()


def test_neutral_guidance_hands_everything_through() -> None:
    guidance, some = Guidance(), conditions(1, 1)
    output = torch.randn(1)
    assert guidance.edit([], some, None) is some
    assert guidance.adjust(torch.zeros(1), torch.zeros(1), lambda x_t, t: output) is output


def test_a_lora_changes_a_weight_by_up_times_down_at_its_scale() -> None:
    down, up = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    change = LowRank({"layer": (down, up)}, alpha=6).change("layer")
    assert torch.equal(change, torch.tensor([[3.0, 12.0, 3.0], [9.0, 30.0, 15.0]]))


def test_neutral_tuning_adds_nothing_to_the_loss_and_does_not_say_what_learns() -> None:
    tuning, backbone = Tuning(), torch.nn.Linear(1, 1)
    before = {name: weight.clone() for name, weight in backbone.state_dict().items()}
    assert tuning.penalty(backbone) == 0 and tuning.after_step(backbone, 1) is None and tuning.exportable
    assert tuning.begin(backbone, 10) is None and tuning.state(backbone) == {} and tuning.merge(backbone) is None
    assert all(torch.equal(weight, before[name]) for name, weight in backbone.state_dict().items())
    with pytest.raises(NotImplementedError):
        tuning.apply(backbone)
