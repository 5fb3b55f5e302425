"""Unit vectors in the plane: what enhancement asks for, drawn on paper."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spf.method.enhancement import direct_clip, enhanced, representation_bias

EAST, NORTH, WEST, SOUTH = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])[:, None]


def random_embeddings(batch: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    one_step, portrait, text = functional.normalize(torch.randn(3, batch, 8), dim=-1)
    return one_step, portrait, text


def test_the_bias_points_from_the_text_to_the_image() -> None:
    assert representation_bias(NORTH, EAST).tolist() == [[-1, 1]]


@pytest.mark.parametrize(("one_step", "cosine"), [(NORTH, 1.0), (WEST, 0.5**0.5), (SOUTH, 0.0)])
def test_enhanced_by_hand(one_step: Tensor, cosine: float) -> None:
    """The text in the east, the portrait in the north: the true bias points north-west."""
    assert enhanced(one_step, NORTH, EAST).tolist() == pytest.approx([1 - cosine], abs=1e-6)


@pytest.mark.parametrize(("one_step", "cosine"), [(EAST, 1.0), (NORTH, 0.0), (WEST, -1.0)])
def test_direct_clip_by_hand(one_step: Tensor, cosine: float) -> None:
    assert direct_clip(one_step, EAST).tolist() == pytest.approx([1 - cosine], abs=1e-6)


def test_the_portrait_itself_needs_no_enhancement_though_it_is_not_the_text() -> None:
    _, portrait, text = random_embeddings()
    assert torch.allclose(enhanced(portrait, portrait, text), torch.zeros(4), atol=1e-6)
    assert (direct_clip(portrait, text) > 0.1).all()


def test_each_sample_has_its_loss() -> None:
    one_step, portrait, text = random_embeddings()
    together = enhanced(one_step, portrait, text)
    assert together.shape == (4,)
    for row in range(4):
        assert torch.allclose(enhanced(one_step[row:][:1], portrait[row:][:1], text[row:][:1]), together[row:][:1])


def test_the_gradient_flows_into_the_one_step_image_alone() -> None:
    one_step, portrait, text = (embedding.requires_grad_() for embedding in random_embeddings())
    enhanced(one_step, portrait, text.detach()).sum().backward()
    assert one_step.grad.any() and portrait.grad is None and text.grad is None


def test_descending_brings_the_one_step_image_to_the_portrait() -> None:
    one_step, portrait, text = random_embeddings()
    one_step.requires_grad_()
    before = enhanced(one_step, portrait, text)
    before.sum().backward()
    moved = one_step.detach() - 1e-3 * one_step.grad
    assert (enhanced(moved, portrait, text) < before).all()


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 0.0])
def test_the_gradient_is_finite_where_image_portrait_and_text_all_but_coincide(distance: float) -> None:
    _, _, text = random_embeddings()
    portrait = text + distance * torch.randn_like(text)
    one_step = (text + distance * torch.randn_like(text)).requires_grad_()
    loss = enhanced(one_step, portrait, text)
    loss.sum().backward()
    assert loss.isfinite().all() and (0 <= loss).all() and (loss <= 2).all() and one_step.grad.isfinite().all()


def test_the_gradient_vanishes_at_the_portrait() -> None:
    _, portrait, text = random_embeddings()
    one_step = portrait.clone().requires_grad_()
    enhanced(one_step, portrait, text).sum().backward()
    assert one_step.grad.abs().max() < 1e-6
