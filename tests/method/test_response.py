"""F and A are one fused call each; here the softmax is written out."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spf.method.response import mean_phrase_attention, phrase_attention, text_response
from spf.notation import AttentionRecord
from tests.method.records import random_record

BATCH, TOKENS = 2, 5


def explicit_response(record: AttentionRecord, keep: Tensor | None = None) -> Tensor:
    """Eq. 3 as it is printed, in float64."""
    text, key, value = record.text.double(), record.key.double(), record.value.double()
    attention = (text @ key.mT / text.shape[-1] ** 0.5).softmax(-1)  # (B,H,T,N)
    return (attention if keep is None else attention * keep[:, None, None].double()) @ value


def explicit_phrase_attention(record: AttentionRecord, phrase_weights: Tensor) -> Tensor:
    """Eq. 6 as it is printed, in float64: the text's columns of the whole softmax, weighted by phrase."""
    query, keys = record.query.double(), record.context_key.double()
    attention = (query @ keys.mT / query.shape[-1] ** 0.5).softmax(-1)  # (B,H,N,S)
    columns = attention[..., -phrase_weights.shape[1]:].mean(1)  # (B,N,T), text after image
    return (columns @ phrase_weights.double()).mT.unflatten(-1, record.grid)


@pytest.mark.parametrize("joint", [False, True])
def test_the_response_is_the_explicit_softmax_over_places(joint: bool) -> None:
    record, keep = random_record(joint=joint), torch.rand(BATCH, 12)
    assert torch.allclose(text_response(record).double(), explicit_response(record), atol=1e-6)
    assert torch.allclose(text_response(record, keep).double(), explicit_response(record, keep), atol=1e-6)
    assert torch.allclose(text_response(record, torch.ones_like(keep)), text_response(record), atol=1e-6)


def test_a_place_that_is_not_kept_loses_its_value_but_not_its_share_of_the_attention() -> None:
    text, key = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 4, 1)  # every place answers alike: a quarter each
    value = torch.tensor([4.0, 8.0, 12.0, 100.0]).view(1, 1, 4, 1)
    record = AttentionRecord("", (2, 2), text, key, value, value, text)
    keep = torch.tensor([[1.0, 1.0, 0.5, 0.0]])
    assert text_response(record, keep).item() == pytest.approx((4 + 8 + 6 + 0) / 4)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("phrases", [1, 3, 11])  # a head is 4 wide
def test_phrase_maps_are_the_columns_of_the_explicit_softmax(joint: bool, phrases: int) -> None:
    record, weights = random_record(joint=joint), torch.rand(BATCH, TOKENS, phrases)
    maps = phrase_attention(record, weights)
    assert maps.shape == (BATCH, phrases, 3, 4)
    assert torch.allclose(maps.double(), explicit_phrase_attention(record, weights), atol=1e-6)


def test_maps_of_all_tokens_sum_to_one() -> None:
    every_token = torch.eye(TOKENS).expand(BATCH, -1, -1)
    maps = phrase_attention(random_record(), every_token)
    assert torch.allclose(maps.sum(1), torch.ones(BATCH, 3, 4), atol=1e-6)


def test_in_a_joint_softmax_the_image_takes_its_part() -> None:
    record, every_token = random_record(joint=True), torch.eye(TOKENS).expand(BATCH, -1, -1)
    to_image = explicit_phrase_attention(record, torch.eye(12 + TOKENS).expand(BATCH, -1, -1))[:, :12].sum(1)
    assert (to_image > 0.1).all()
    assert torch.allclose(phrase_attention(record, every_token).sum(1).double(), 1 - to_image, atol=1e-6)


def test_layers_of_different_grids_count_alike() -> None:
    weights = torch.rand(BATCH, TOKENS, 2)
    coarse, fine = random_record(grid=(1, 1)), random_record(grid=(2, 2))
    expected = (phrase_attention(coarse, weights) + phrase_attention(fine, weights)) / 2  # one cell covers all four
    assert torch.allclose(mean_phrase_attention((coarse, fine), weights, (2, 2)), expected, atol=1e-6)
    one_column = mean_phrase_attention((random_record(grid=(4, 1)),), weights, (4, 2))
    assert torch.equal(one_column[..., 0], one_column[..., 1])


def test_a_coarser_layer_is_interpolated_between_its_cells() -> None:
    record, weights = random_record(grid=(1, 2)), torch.rand(BATCH, TOKENS, 1)
    left, right = phrase_attention(record, weights)[:, 0, 0].unbind(-1)
    expected = torch.stack([left, 0.75 * left + 0.25 * right, 0.25 * left + 0.75 * right, right], -1)
    assert torch.allclose(mean_phrase_attention((record,), weights, (1, 4))[:, 0, 0], expected, atol=1e-6)


def test_precision_is_single_under_autocast_too() -> None:
    record, weights, keep = random_record(), torch.rand(BATCH, TOKENS, 2), torch.rand(BATCH, 12)
    with torch.autocast("cpu", torch.bfloat16):
        response, attention = text_response(record, keep), mean_phrase_attention((record,), weights, (3, 4))
    assert response.dtype == attention.dtype == torch.float32
    assert torch.equal(response, text_response(record, keep))
    assert torch.equal(attention, mean_phrase_attention((record,), weights, (3, 4)))


def test_half_precision_records_are_computed_in_single() -> None:
    fields = {name: value.bfloat16() for name, value in vars(random_record()).items() if isinstance(value, Tensor)}
    record, weights = AttentionRecord(layer="", grid=(3, 4), **fields), torch.rand(BATCH, TOKENS, 2)
    maps = phrase_attention(record, weights).double()
    assert torch.allclose(text_response(record).double(), explicit_response(record), atol=1e-6)
    assert torch.allclose(maps, explicit_phrase_attention(record, weights), atol=1e-6)


def test_gradients_flow_through_the_response_as_through_the_explicit_softmax() -> None:
    record, keep = random_record(), torch.rand(BATCH, 12)
    asked = [field.requires_grad_() for field in (record.text, record.key, record.value)]
    seed = torch.randn(BATCH, 2, TOKENS, 4)
    fused = torch.autograd.grad((text_response(record, keep) * seed).sum(), asked)
    explicit = torch.autograd.grad((explicit_response(record, keep) * seed).sum(), asked)
    for one, other in zip(fused, explicit, strict=True):
        assert one.abs().sum() > 0 and functional.mse_loss(one, other) < 1e-12
