"""What LoRA adds, where, and that it comes off again."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spf.backbones import Backbone, load_backbone
from spf.tuning import LoRA
from spf.tuning.low_rank import added, projections
from tests.tuning.learnt import learnt

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"


def test_attention_has_four_projections_a_layer(backbone: Backbone) -> None:
    names = projections(backbone, "attention")
    assert len(names) == len(set(names)) == 2 * 16 * 4
    assert all(isinstance(backbone.denoiser.get_submodule(name), nn.Linear) for name in names)


def test_a_joint_layer_has_eight_of_both_sides(tiny_sd35: Path) -> None:
    backbone = load_backbone(tiny_sd35)  # three blocks: the last text goes nowhere, the first has another attention
    names = projections(backbone, "cross_attention")
    assert len(names) == len(set(names)) == 3 * 8 - 1
    assert set(projections(backbone, "attention")) - set(names) == {
        f"transformer_blocks.0.attn2.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")}
    assert all(isinstance(backbone.denoiser.get_submodule(name), nn.Linear) for name in names)


def test_cross_attention_is_what_stage_2_trains(backbone: Backbone) -> None:
    names = projections(backbone, "cross_attention")
    assert len(names) == 16 * 4 and set(names) < set(projections(backbone, "attention"))
    trained = {name.rpartition(".")[0] for name in backbone.attention_parameters()}
    assert set(names) == trained


@pytest.mark.parametrize("layers", ["attention", "cross_attention"])
def test_only_two_matrices_of_that_rank_learn_in_each(backbone: Backbone, layers: str) -> None:
    names = projections(backbone, layers)
    learning = LoRA(rank=3, layers=layers).apply(backbone)
    assert len(learning) == 2 * len(names) and {min(weight.shape) for weight in learning} == {3}
    assert added(backbone).keys() == set(names)


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1), (6, 2), (1, 1 / 3)])
def test_a_layer_adds_what_its_formula_says(backbone: Backbone, alpha: float | None, scale: float) -> None:
    plain = backbone.denoiser.get_submodule(LAYER)
    layer = learnt(LoRA(3, alpha), backbone).denoiser.get_submodule(LAYER)
    text = torch.randn(2, 5, 64)
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = plain(text) + scale * (text @ down.T @ up.T)
    assert torch.allclose(layer(text), expected, atol=1e-5) and not torch.allclose(layer(text), plain(text), atol=1e-3)


def test_down_starts_at_random_of_the_seed_and_up_at_zero(backbone: Backbone) -> None:
    again = backbone.frozen_copy()
    for model in (backbone, again):
        torch.manual_seed(3)
        LoRA(4).apply(model)
    weights, others = (list(added(model).values()) for model in (backbone, again))
    downs, same = (torch.cat([layer.lora_A["default"].weight.detach().flatten() for layer in layers])
                   for layers in (weights, others))
    assert abs(float(downs.std()) - 1 / 4) < 0.01
    assert not any(layer.lora_B["default"].weight.any() for layer in weights)
    assert torch.equal(downs, same)


def test_what_was_added_comes_off(backbone: Backbone) -> None:
    before = {name: value.clone() for name, value in backbone.denoiser.state_dict().items()}
    low_rank = LoRA(3, 5).merge(learnt(LoRA(3, 5), backbone))
    after = backbone.denoiser.state_dict()
    assert after.keys() == before.keys() and not added(backbone)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {f"{layer}.weight" for layer in low_rank.layers} and low_rank.alpha == 5
    down, up = low_rank.layers[LAYER]
    assert down.shape == (3, 64) and up.shape == (32, 3) and not down.requires_grad
    assert torch.allclose(after[f"{LAYER}.weight"] - before[f"{LAYER}.weight"], up @ down * 5 / 3, atol=1e-6)


def test_the_merged_weights_are_the_same_bits_everywhere(backbone: Backbone) -> None:
    """As IEEE 754 alone gives them, one rank after the other: a matrix product would not."""
    before = backbone.denoiser.get_submodule(LAYER).weight.detach().numpy().copy()
    down, up = (matrix.numpy() for matrix in LoRA(3, 5).merge(learnt(LoRA(3, 5), backbone)).layers[LAYER])
    scaled, change = up * np.float32(5 / 3), np.zeros_like(before)
    for rank in range(3):
        change = change + np.outer(scaled[:, rank], down[rank])
    assert np.array_equal(backbone.denoiser.get_submodule(LAYER).weight.detach().numpy(), before + change)


@pytest.mark.parametrize(("rank", "alpha"), [(0, None), (4, 0), (4, -math.pi)])
def test_what_is_not_positive_is_refused(rank: int, alpha: float | None) -> None:
    with pytest.raises(ValueError, match="positive rank and alpha"):
        LoRA(rank, alpha)
