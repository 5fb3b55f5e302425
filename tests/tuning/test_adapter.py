"""The branch beside a layer's own attention: the target's tokens alone feed it."""

import copy
import logging
from collections.abc import Iterator

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from spf.backbones import Backbone
from spf.sampling import generate
from spf.text import Prompt
from spf.tuning import ParallelAdapter
from spf.tuning.adapter import ParallelCrossAttention

BATCH, PLACES, TOKENS, HEADS = 2, 6, 5, 2
TARGET = torch.tensor([[False, False, False, True, True], [False, False, True, False, False]])
NONE = torch.zeros_like(TARGET)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def layer() -> Attention:
    """A small cross-attention without an adapter."""
    return Attention(query_dim=8, cross_attention_dim=6, heads=HEADS, dim_head=4)


def adapted(layer: Attention, learnt: bool = True, scale: float = 1.0) -> Attention:
    """A copy of the layer with an adapter; ``learnt``: its values are no longer zero."""
    layer = copy.deepcopy(layer)
    layer.set_processor(ParallelCrossAttention(layer, scale))
    if learnt:
        nn.init.normal_(layer.processor.to_v_target.weight)
    return layer


def alone(layer: Attention) -> Attention:
    """The same layer, but that its own attention answers nothing: what comes out is the added branch."""
    nn.init.zeros_(layer.to_v.weight)
    return layer


def inputs(batch: int = BATCH) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, PLACES, 8), torch.randn(batch, TOKENS, 6)


def test_it_starts_with_the_layers_keys_and_no_values(layer: Attention) -> None:
    image, text = inputs()
    fresh = adapted(layer, learnt=False)
    assert torch.equal(fresh.processor.to_k_target.weight, layer.to_k.weight)
    assert fresh.processor.to_k_target.weight.data_ptr() != fresh.to_k.weight.data_ptr()
    assert torch.equal(fresh(image, text, ip_adapter_masks=TARGET), layer(image, text))


def test_it_adds_attention_to_the_targets_tokens(layer: Attention) -> None:
    image, text = inputs()
    scaled = adapted(layer, scale=0.5)
    processor, rows = scaled.processor, []
    for row in range(BATCH):
        seen = text[row, TARGET[row]]
        parts = (layer.to_q(image[row]), processor.to_k_target(seen), processor.to_v_target(seen))
        query, key, value = (part.unflatten(-1, (HEADS, 4)).transpose(0, 1) for part in parts)  # (H,*,D)
        rows.append(((query @ key.mT / 2).softmax(-1) @ value).transpose(0, 1).flatten(1))
    expected = layer(image, text) + 0.5 * torch.stack(rows) @ layer.to_out[0].weight.T
    assert torch.allclose(scaled(image, text, ip_adapter_masks=TARGET), expected, atol=1e-6)


def test_what_it_adds_does_not_see_base_tokens(layer: Attention) -> None:
    image, text = inputs()
    branch = alone(adapted(layer))
    before = branch(image, text, ip_adapter_masks=TARGET)
    others = torch.where(TARGET[..., None], text, torch.randn_like(text))
    assert torch.equal(branch(image, others, ip_adapter_masks=TARGET), before)
    theirs = torch.where(TARGET[..., None], torch.randn_like(text), text)
    assert not torch.allclose(branch(image, theirs, ip_adapter_masks=TARGET), before)


def test_without_a_target_it_adds_nothing_whatever_it_has_learnt(layer: Attention) -> None:
    image, text = inputs()
    assert torch.equal(adapted(layer)(image, text, ip_adapter_masks=NONE), layer(image, text))


def test_a_half_without_target_leaves_the_other_half_alone(layer: Attention) -> None:
    """As in classifier-free guidance."""
    image, text = inputs()
    learnt = adapted(layer)
    half = torch.stack([NONE[0], TARGET[1]])
    together = learnt(image, text, ip_adapter_masks=half)
    assert torch.allclose(together[0], layer(image, text)[0], atol=1e-6)
    assert torch.allclose(together[1], learnt(image, text, ip_adapter_masks=TARGET)[1], atol=1e-6)
    together.square().sum().backward()
    assert all(weight.grad.isfinite().all() and weight.grad.any() for weight in learnt.processor.parameters())


def test_keys_learn_once_values_do(layer: Attention) -> None:
    image, text = inputs()
    for learnt in (False, True):
        processor = (made := adapted(layer, learnt)).processor
        made(image, text, ip_adapter_masks=TARGET).square().sum().backward()
        assert processor.to_v_target.weight.grad.any()
        assert bool(processor.to_k_target.weight.grad.any()) is learnt


def test_a_single_target_token_takes_all_the_attention(layer: Attention) -> None:
    image, text = inputs()
    branch = alone(adapted(layer))
    one = torch.zeros_like(TARGET)
    one[:, 3] = True
    added = branch(image, text, ip_adapter_masks=one)
    assert torch.allclose(added, added[:, :1].expand_as(added), atol=1e-6)  # every place gets its value


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision(layer: Attention, precision: torch.dtype) -> None:
    image, text = inputs()
    learnt = adapted(layer)
    exact = learnt(image, text, ip_adapter_masks=TARGET)
    with torch.autocast("cpu", precision):
        cast = learnt(image, text, ip_adapter_masks=TARGET)
    assert cast.dtype == precision and torch.allclose(cast.float(), exact, atol=0.05)
    cast.float().square().sum().backward()
    assert all(weight.grad.isfinite().all() and weight.grad.any() for weight in learnt.processor.parameters())
    halved = adapted(layer.to(precision))
    assert halved.processor.to_k_target.weight.dtype == precision
    assert halved(image.to(precision), text.to(precision), ip_adapter_masks=TARGET).isfinite().all()


def test_a_deep_copy_has_its_own_adapter(layer: Attention) -> None:
    image, text = inputs()
    learnt = adapted(layer)
    copied = copy.deepcopy(learnt)
    before = copied(image, text, ip_adapter_masks=TARGET)
    assert torch.equal(before, learnt(image, text, ip_adapter_masks=TARGET))
    nn.init.normal_(learnt.processor.to_v_target.weight)
    assert torch.equal(copied(image, text, ip_adapter_masks=TARGET), before)
    assert not torch.allclose(learnt(image, text, ip_adapter_masks=TARGET), before)


def learnt(backbone: Backbone) -> Backbone:
    """With an adapter whose values are no longer zero."""
    for weight in ParallelAdapter().apply(backbone)[1::2]:
        nn.init.normal_(weight)
    return backbone


def denoised(backbone: Backbone, prompts: list[Prompt]) -> Tensor:
    x_t = torch.randn(1, *backbone.latent_shape(), generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    with torch.no_grad():
        return backbone.denoise(x_t, torch.tensor([500, 500]), backbone.condition(prompts)).output


def test_the_denoiser_changes_for_prompts_with_a_target_alone(backbone: Backbone, prompt: Prompt) -> None:
    before = denoised(backbone, [prompt, prompt.base])
    after = denoised(learnt(backbone), [prompt, prompt.base])
    assert torch.equal(after[1], before[1])
    assert not torch.allclose(after[0], before[0], atol=1e-3)


def test_the_frozen_copy_keeps_what_was_learnt(backbone: Backbone, prompt: Prompt) -> None:
    tuned = learnt(backbone.frozen_copy())
    copied = tuned.frozen_copy()
    assert torch.equal(denoised(copied, [prompt] * 2), denoised(tuned, [prompt] * 2))
    assert not any(weight.requires_grad for weight in copied.parameters())


def test_images_are_made_with_guidance(backbone: Backbone, prompt: Prompt) -> None:
    options = {"steps": 2, "chunk": 1, "guidance_scale": 7.5, "progress": False}
    original, tuned = backbone.frozen_copy(), learnt(backbone.frozen_copy())
    of_base, of_full = (generate(tuned, [one], [0], **options) for one in (prompt.base, prompt))
    assert of_full.isfinite().all()
    assert torch.equal(of_base, generate(original, [prompt.base], [0], **options))
    assert not torch.allclose(of_full, generate(original, [prompt], [0], **options), atol=1e-3)


class Heard(logging.Handler):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def diffusers_says() -> Iterator[list[str]]:
    """The warnings of diffusers, whose loggers do not propagate to pytest's."""
    heard, logger = Heard(), logging.getLogger("diffusers")
    level = logger.level
    logger.addHandler(heard)
    logger.setLevel(logging.WARNING)
    yield heard.messages
    logger.removeHandler(heard)
    logger.setLevel(level)


def test_no_layer_complains_of_masks_it_does_not_read(backbone: Backbone, prompt: Prompt,
                                                      diffusers_says: list[str]) -> None:
    denoised(backbone, [prompt, prompt.base])
    denoised(learnt(backbone), [prompt, prompt.base])
    assert diffusers_says == []


def test_the_complaint_would_be_heard(layer: Attention, diffusers_says: list[str]) -> None:
    layer(*inputs(), unknown=TARGET)
    assert len(diffusers_says) == 1 and "unknown" in diffusers_says[0]
