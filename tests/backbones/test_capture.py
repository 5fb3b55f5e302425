"""Captured projections are the model's own, carry gradients, and are read in the forward pass only."""

import pytest
import torch
from peft import LoraConfig
from torch.nn import functional

from spf.backbones import Backbone
from spf.backbones.capture import Capture, check_gradients, token_grid
from spf.text import Prompt

LAYER = "up_blocks.2.attentions.0.transformer_blocks.0.attn2"


def inputs(backbone: Backbone, prompt: Prompt) -> tuple:
    x_t = torch.randn(2, *backbone.latent_shape(), generator=torch.Generator().manual_seed(0))
    return x_t, torch.tensor([10, 800]), backbone.condition([prompt, prompt.base])


def test_records_recompose_the_output_of_attention(backbone: Backbone, prompt: Prompt) -> None:
    attention, seen = backbone.denoiser.get_submodule(LAYER), {}
    attention.to_v.register_forward_hook(lambda module, args, output: seen.update(value=output))
    attention.register_forward_hook(lambda module, args, output: seen.update(output=output))
    prediction = backbone.denoise(*inputs(backbone, prompt), capture=True)
    record = next(record for record in prediction.attention if record.layer == LAYER)
    value = seen["value"].unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    recomposed = functional.scaled_dot_product_attention(record.query, record.context_key, value)
    recomposed = attention.to_out[0](recomposed.transpose(1, 2).flatten(2))
    assert torch.allclose(recomposed, seen["output"], atol=1e-6)


def test_hooks_live_only_while_open(backbone: Backbone, prompt: Prompt) -> None:
    def hooks() -> int:
        return sum(len(module._forward_hooks) for module in backbone.denoiser.modules())

    before = hooks()
    with backbone._capture.open():
        assert hooks() - before == 32  # to_q and to_k of 16 layers
    assert hooks() == before


def gradients(backbone: Backbone, prompt: Prompt) -> dict[str, torch.Tensor]:
    backbone.zero_grad()
    attention = backbone.denoise(*inputs(backbone, prompt), capture=True).attention
    sum(record.query.square().mean() + record.text.square().mean() for record in attention).backward()
    weights = backbone.denoiser.named_parameters()
    return {name: weight.grad.clone() for name, weight in weights if weight.grad is not None}


def test_gradient_checkpointing_changes_no_gradient(backbone: Backbone, prompt: Prompt) -> None:
    backbone.train()
    plain = gradients(backbone, prompt)
    backbone.enable_gradient_checkpointing()
    checkpointed = gradients(backbone, prompt)
    assert plain.keys() == checkpointed.keys() and plain
    assert all(torch.allclose(plain[name], checkpointed[name], atol=1e-6) for name in plain)


def test_reentrant_checkpointing_is_refused(backbone: Backbone, prompt: Prompt) -> None:
    def reentrant(module: torch.nn.Module, *args: torch.Tensor) -> torch.Tensor:
        return torch.utils.checkpoint.checkpoint(module.__call__, *args, use_reentrant=True)

    backbone.denoiser.enable_gradient_checkpointing(reentrant)
    x_t, t, conditions = inputs(backbone, prompt)
    with pytest.raises(RuntimeError, match="non-reentrant"):
        backbone.denoise(x_t.requires_grad_(), t, conditions, capture=True)


def test_frozen_or_ungraded_passes_need_no_gradient(backbone: Backbone, prompt: Prompt) -> None:
    with torch.no_grad():
        backbone.denoise(*inputs(backbone, prompt), capture=True)
    frozen = backbone.frozen_copy()
    assert not frozen.denoise(*inputs(backbone, prompt), capture=True).attention[0].query.requires_grad


def test_a_low_rank_projection_is_captured_as_the_model_sees_it(backbone: Backbone, prompt: Prompt) -> None:
    before = backbone.denoise(*inputs(backbone, prompt), capture=True).attention[0]
    backbone.denoiser.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    after = backbone.denoise(*inputs(backbone, prompt), capture=True).attention[0]
    assert after.query.shape == before.query.shape
    assert not torch.allclose(after.query, before.query)


def test_token_grid_halves_the_latent_grid() -> None:
    assert token_grid(64, (8, 8)) == (8, 8)
    assert token_grid(15, (9, 6)) == (5, 3)
    with pytest.raises(ValueError, match="no halving"):
        token_grid(10, (8, 8))


def test_an_absent_module_is_named(backbone: Backbone) -> None:
    layer, fields = next(iter(backbone.projections().items()))
    wrong = {layer: {"query": fields["query"]._replace(module="down_blocks.9.to_q")}}
    with pytest.raises(AttributeError, match="9"):
        Capture(backbone.denoiser, wrong)


def test_check_gradients_accepts_a_partly_trained_denoiser(backbone: Backbone, prompt: Prompt) -> None:
    backbone.denoiser.requires_grad_(False)
    backbone.denoiser.get_submodule(LAYER).to_q.requires_grad_(True)
    prediction = backbone.denoise(*inputs(backbone, prompt), capture=True)
    check_gradients(backbone.denoiser, prediction.attention)
    assert not prediction.attention[0].query.requires_grad
