"""Which weights each architecture of Table 5 hands to the optimizer."""

import pytest
from torch import nn

from spf.backbones import Backbone
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
