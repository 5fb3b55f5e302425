"""Laws: assertions that hold for everything registered. A new entry of a registry is tested by them as it is.

A backbone's laws take a small backbone and a prompt with base text, target text and at least one phrase.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

from spf.backbones import Backbone, load_backbone
from spf.notation import Conditions, Guidance
from spf.sampling import generate
from spf.text import Prompt

BackboneLaw = Callable[[Backbone, Prompt, Path], None]


def noisy(backbone: Backbone, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Some x_t (B,C,h,w) and t (B,)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, *backbone.latent_shape(), generator=generator), backbone.process.times(batch, generator)


def one_step_of_the_target_is_x0(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    x0, t = noisy(backbone)
    noise, process = torch.randn_like(x0), backbone.process
    estimate = process.one_step(process.target(x0, noise, t), process.noised(x0, noise, t), t)
    assert torch.allclose(estimate, x0, atol=1e-4)


def capture_changes_nothing(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    x_t, t = noisy(backbone)
    conditions = backbone.condition([prompt, prompt.base])
    with_capture = backbone.denoise(x_t, t, conditions, capture=True)
    without = backbone.denoise(x_t, t, conditions)
    assert torch.equal(with_capture.output, without.output)
    assert with_capture.attention and without.attention == ()


def records_have_the_shapes_of_the_legend(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    x_t, t = noisy(backbone)
    conditions = backbone.condition([prompt, prompt.base])
    for record in backbone.denoise(x_t, t, conditions, capture=True).attention:
        batch, heads, tokens, width = record.query.shape
        assert tokens == record.grid[0] * record.grid[1] and batch == len(x_t)
        assert record.key.shape == record.value.shape == record.query.shape
        assert record.text.shape == (batch, heads, conditions.sequence.shape[1], width)
        assert record.context_key.shape[:2] == (batch, heads) and record.context_key.shape[3] == width


def attention_to_everything_sums_to_one(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    x_t, t = noisy(backbone)
    for record in backbone.denoise(x_t, t, backbone.condition([prompt] * 2), capture=True).attention:
        batch, heads, keys, _ = record.context_key.shape
        identity = torch.eye(keys).expand(batch, heads, keys, keys)
        attention = functional.scaled_dot_product_attention(record.query, record.context_key, identity)  # (B,H,N,S)
        assert torch.allclose(attention.sum(-1), torch.ones(attention.shape[:-1]), atol=1e-5)


def base_tokens_stand_at_equal_places_in_both_paths(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    response, reference = backbone.condition([prompt]), backbone.condition([prompt.base])
    assert response.base_tokens.any()
    assert torch.equal(response.base_tokens, reference.base_tokens)
    assert torch.equal(response.phrase_weights, reference.phrase_weights)
    assert response.phrase_weights.any() and not response.phrase_weights[~response.base_tokens].any()
    assert not response.sequence.requires_grad


def prompts_do_not_see_each_other(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    alone, second = backbone.condition([prompt]), backbone.condition([Prompt(""), prompt])
    assert torch.allclose(alone.sequence[0], second.sequence[1], atol=1e-6)


def the_frozen_copy_shares_what_is_frozen_and_learns_nothing(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    reference = backbone.frozen_copy()
    assert reference.vae is backbone.vae and reference.encoders is backbone.encoders
    assert not any(weight.requires_grad for weight in reference.parameters()) and not reference.training
    assert any(weight.requires_grad for weight in backbone.denoiser.parameters())
    x_t, t = noisy(backbone)
    conditions = backbone.condition([prompt] * 2)
    before = reference.denoise(x_t, t, conditions).output
    assert torch.equal(before, backbone.denoise(x_t, t, conditions).output)
    with torch.no_grad():
        for weight in backbone.denoiser.parameters():
            weight.add_(0.01)
    assert torch.equal(before, reference.denoise(x_t, t, conditions).output)


def stage_two_trains_what_the_records_show(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    names = set(backbone.attention_parameters())
    weights = dict(backbone.denoiser.named_parameters())
    assert names and names < set(weights)
    x_t, t = noisy(backbone)
    attention = backbone.denoise(x_t, t, backbone.condition([prompt] * 2), capture=True).attention
    sum(record.query.square().sum() + record.text.square().sum() for record in attention).backward()
    read = {source.module + ".weight" for fields in backbone.projections().values() for source in fields.values()}
    assert read <= names and all(weights[name].grad is not None for name in read)


def images_and_latents_have_matching_shapes(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    image = backbone.decode(noisy(backbone)[0])
    shape = backbone.encode(image.clamp(0, 1)).shape[1:]
    assert shape == backbone.latent_shape(*image.shape[2:]) == backbone.latent_shape()


def a_saved_backbone_comes_back_bit_for_bit(backbone: Backbone, prompt: Prompt, folder: Path) -> None:
    backbone.save(folder / "saved")
    again, (x_t, t) = load_backbone(folder / "saved"), noisy(backbone)
    first, second = (one.denoise(x_t, t, one.condition([prompt] * 2)).output for one in (backbone, again))
    assert torch.equal(first, second)


BACKBONE_LAWS: tuple[BackboneLaw, ...] = (
    one_step_of_the_target_is_x0,
    capture_changes_nothing,
    records_have_the_shapes_of_the_legend,
    attention_to_everything_sums_to_one,
    base_tokens_stand_at_equal_places_in_both_paths,
    prompts_do_not_see_each_other,
    the_frozen_copy_shares_what_is_frozen_and_learns_nothing,
    stage_two_trains_what_the_records_show,
    images_and_latents_have_matching_shapes,
    a_saved_backbone_comes_back_bit_for_bit,
)


def neutral_guidance_changes_nothing(guidance: Guidance, backbone: Backbone, prompt: Prompt) -> None:
    """A guidance of strength zero gives the images of no guidance, bit for bit."""
    options = {"steps": 2, "chunk": 1, "progress": False}
    plain = generate(backbone, [prompt], [0], **options)
    assert torch.equal(plain, generate(backbone, [prompt], [0], guidance=guidance, **options))
    conditions = backbone.condition([prompt])
    assert isinstance(guidance.edit([prompt], conditions, backbone), Conditions)
