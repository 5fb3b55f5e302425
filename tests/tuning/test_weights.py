"""Which weights each architecture of Table 5 hands to the optimizer."""

from pathlib import Path

import pytest
from torch import nn

from spf.backbones import Backbone, load_backbone
from spf.tuning import TUNINGS, AdaLoRA, CrossAttention, Full, LoRA, ParallelAdapter
from spf.tuning.adapter import ParallelCrossAttention


def learning(backbone: Backbone) -> list[str]:
    return [name for name, weight in backbone.denoiser.named_parameters() if weight.requires_grad]


def same(some: list[nn.Parameter], others: list[nn.Parameter]) -> bool:
    return [id(weight) for weight in some] == [id(weight) for weight in others]


def test_full_is_every_weight_of_the_denoiser(backbone: Backbone) -> None:
    weights = list(backbone.denoiser.requires_grad_(False).parameters())
    assert same(Full().apply(backbone), weights) and all(weight.requires_grad for weight in weights)


def test_cross_attention_is_what_the_backbone_says(backbone: Backbone) -> None:
    returned = CrossAttention().apply(backbone)
    weights = dict(backbone.denoiser.named_parameters())
    assert learning(backbone) == backbone.attention_parameters()
    assert same(returned, [weights[name] for name in backbone.attention_parameters()])
    assert len(returned) == 16 * 5  # to_q, to_k, to_v, and to_out with its bias


def test_the_texts_side_is_its_keys_and_values(backbone: Backbone) -> None:
    CrossAttention(text_side=True).apply(backbone)
    assert {name.rsplit(".", 2)[-2] for name in learning(backbone)} == {"to_k", "to_v"}
    assert len(learning(backbone)) == 16 * 2 and set(learning(backbone)) < set(backbone.attention_parameters())


def test_of_joint_attention_both_sides_learn_or_the_texts_alone(tiny_sd35: Path) -> None:
    backbone = load_backbone(tiny_sd35)  # three blocks, the last of which drops its text; the first has dual attention
    CrossAttention().apply(backbone)
    both = learning(backbone)
    assert both == backbone.attention_parameters() and not any(".attn2." in name for name in both)
    CrossAttention(text_side=True).apply(backbone)
    sides = {name.split(".attn.")[1].split(".")[0] for name in both}
    text = {name.split(".attn.")[1].split(".")[0] for name in learning(backbone)}
    assert text == {"add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "norm_added_q", "norm_added_k"}
    assert sides - text == {"to_q", "to_k", "to_v", "to_out", "norm_q", "norm_k"}
    assert len([name for name in learning(backbone) if "to_add_out" in name]) == 2 * 2  # weight and bias


def test_an_adapter_is_two_projections_beside_every_layer(backbone: Backbone) -> None:
    returned = ParallelAdapter().apply(backbone)
    kinds = ("to_k_target.weight", "to_v_target.weight")
    assert learning(backbone) == [f"{layer}.processor.{kind}" for layer in sorted_layers(backbone) for kind in kinds]
    assert {id(weight) for weight in returned} == {
        id(weight) for weight in backbone.denoiser.parameters() if weight.requires_grad}


def sorted_layers(backbone: Backbone) -> list[str]:
    """In the order in which the denoiser registers them."""
    return [name for name, module in backbone.denoiser.named_modules() if name in backbone.projections()]


def test_an_adapters_scale_reaches_every_layer(backbone: Backbone) -> None:
    ParallelAdapter(scale=0.5).apply(backbone)
    added = [module for module in backbone.denoiser.modules() if isinstance(module, ParallelCrossAttention)]
    assert len(added) == 16 and {processor.scale for processor in added} == {0.5}


def test_an_adapter_needs_separate_cross_attention(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    joint = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    monkeypatch.setattr(backbone, "projections", lambda: {joint: {}})
    with pytest.raises(TypeError, match=r"attn1 attends to image and text together: a parallel adapter needs a UNet"):
        ParallelAdapter().apply(backbone)


def test_only_an_adapter_needs_more_than_an_ordinary_pipeline() -> None:
    assert {name for name, kind in TUNINGS.items() if not kind.exportable} == {"ParallelAdapter"}


def test_a_tuning_is_registered_by_its_name() -> None:
    assert TUNINGS == {"CrossAttention": CrossAttention, "Full": Full, "ParallelAdapter": ParallelAdapter,
                       "LoRA": LoRA, "AdaLoRA": AdaLoRA}
