"""L_M-text and L_M-fine on layers small enough for paper and pencil."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spf.method.alignment import fine_grained, text_consistent
from spf.notation import AttentionRecord
from tests.method.records import random_record

GRID = (2, 2)


def layer(queries: list[float], share: list[float] | None = None) -> AttentionRecord:
    """One head of width 1 on 2x2: the Q of four places, and what each of them has of every token's attention."""
    image = torch.tensor(queries).view(1, 1, 4, 1)
    answer = torch.zeros(1, 1, 4, 1) if share is None else torch.tensor(share).log().view(1, 1, 4, 1)
    return AttentionRecord("layer", GRID, torch.ones(1, 1, 3, 1), answer, image, image, torch.ones(1, 1, 3, 1))


REFERENCE, RESPONSE = layer([1.0, 2.0, 3.0, 4.0]), layer([1.0, 2.0, 3.0, 12.0])  # the last place is 8 off
SCALE = (1.0**2 + 2.0**2 + 3.0**2 + 4.0**2) / 4  # the reference's mean square
BASE = torch.tensor([[False, True, True]])


def paths(batch: int = 3, layers: int = 2) -> tuple[tuple[AttentionRecord, ...], ...]:
    """Both paths at random, on different grids."""
    grids = [(4, 4), (2, 2)][:layers]
    return tuple(tuple(random_record(batch, grid=grid) for grid in grids) for _ in range(2))


def base_tokens(batch: int = 3) -> Tensor:
    return torch.tensor([False, True, True, True, False]).expand(batch, -1)


FIELDS = ("text", "key", "value", "query", "context_key")


def rows(records: tuple[AttentionRecord, ...], row: slice) -> tuple[AttentionRecord, ...]:
    return tuple(replace(record, **{name: getattr(record, name)[row] for name in FIELDS}) for record in records)


def cast(record: AttentionRecord, precision: torch.dtype) -> AttentionRecord:
    return replace(record, **{name: getattr(record, name).to(precision) for name in FIELDS})


@pytest.mark.parametrize(("kept", "text", "fine"), [(1.0, 2.0**2, 8**2 / 4), (0.5, 1.0**2, 4**2 / 4), (0.0, 0.0, 0.0)])
def test_by_hand(kept: float, text: float, fine: float) -> None:
    keep = torch.tensor([[[1.0, 1.0], [1.0, kept]]])  # a token has a quarter of each place: F is 8 kept / 4 off
    assert text_consistent((REFERENCE,), (RESPONSE,), BASE, keep).tolist() == pytest.approx([text / SCALE])
    assert fine_grained((REFERENCE,), (RESPONSE,), keep).tolist() == pytest.approx([fine / SCALE])


def test_each_path_gathers_with_its_own_attention() -> None:
    reference = layer([0.0, 0.0, 0.0, 10.0], [0.1, 0.2, 0.3, 0.4])  # F = 4
    response = layer([0.0, 0.0, 0.0, 10.0], [0.2, 0.2, 0.5, 0.1])  # F = 1
    assert text_consistent((reference,), (response,), BASE, torch.ones(1, 2, 2)).item() == pytest.approx(3.0**2 / 25)
    assert fine_grained((reference,), (response,), torch.ones(1, 2, 2)).item() == 0


def test_a_finer_map_is_averaged_to_the_layers_grid() -> None:
    keep = torch.ones(1, 4, 4)
    keep[0, 2:, 2:] = torch.tensor([[0.0, 0.0], [0.0, 1.0]])  # a quarter is left of the last place
    assert fine_grained((REFERENCE,), (RESPONSE,), keep).item() == pytest.approx((8 / 4) ** 2 / 4 / SCALE)
    assert text_consistent((REFERENCE,), (RESPONSE,), BASE, keep).item() == pytest.approx((8 / 4 / 4) ** 2 / SCALE)


def test_keeping_everything_is_the_plain_alignment() -> None:
    reference, response = paths()
    everything, base = torch.ones(3, 4, 4), base_tokens()
    text, fine = torch.zeros(2, 3)
    for one, other in zip(reference, response, strict=True):
        # Eq. 3 and 4 as they are printed, the norm as a mean over that of the original
        seen = [(r.text @ r.key.mT / r.text.shape[-1] ** 0.5).softmax(-1) @ r.value for r in (one, other)]
        gap = (seen[0] - seen[1])[:, :, 1:4]  # the base tokens
        text = text + gap.square().mean((1, 2, 3)) / one.value.square().mean((1, 2, 3))
        fine = fine + (one.query - other.query).square().mean((1, 2, 3)) / one.query.square().mean((1, 2, 3))
    assert torch.allclose(text_consistent(reference, response, base, everything), text, atol=1e-6)
    assert torch.allclose(fine_grained(reference, response, everything), fine, atol=1e-6)


def test_keeping_nothing_aligns_nothing() -> None:
    reference, response = paths()
    assert text_consistent(reference, response, base_tokens(), torch.zeros(3, 4, 4)).tolist() == [0] * 3
    assert fine_grained(reference, response, torch.zeros(3, 4, 4)).tolist() == [0] * 3


def test_identical_paths_are_aligned() -> None:
    reference, _ = paths()
    keep = torch.rand(3, 4, 4)
    assert text_consistent(reference, reference, base_tokens(), keep).tolist() == [0] * 3
    assert fine_grained(reference, reference, keep).tolist() == [0] * 3


def test_only_base_tokens_matter() -> None:
    reference, response = paths(layers=1)
    keep, base = torch.rand(3, 4, 4), base_tokens()
    before = text_consistent(reference, response, base, keep)
    others = response[0].text.clone()
    others[:, :, [0, 4]] += 1
    assert torch.equal(text_consistent(reference, (replace(response[0], text=others),), base, keep), before)
    theirs = response[0].text.clone()
    theirs[:, :, 2] += 1
    assert not torch.allclose(text_consistent(reference, (replace(response[0], text=theirs),), base, keep), before)


def test_without_base_tokens_there_is_no_text_to_align() -> None:
    reference, response = paths()
    base = base_tokens().clone()
    base[1] = False
    loss = text_consistent(reference, response, base, torch.ones(3, 4, 4))
    assert loss[1] == 0 and loss[0] > 0 and loss[2] > 0


def test_a_sample_does_not_see_the_others() -> None:
    reference, response = paths()
    base, keep = base_tokens().clone(), torch.rand(3, 4, 4)
    base[0, 2] = False  # of another number of tokens
    text, fine = text_consistent(reference, response, base, keep), fine_grained(reference, response, keep)
    for row in (slice(0, 1), slice(1, 2), slice(2, 3)):
        alone = rows(reference, row), rows(response, row)
        assert torch.allclose(text_consistent(*alone, base[row], keep[row]), text[row], atol=1e-6)
        assert torch.allclose(fine_grained(*alone, keep[row]), fine[row], atol=1e-6)


def test_layers_add_up() -> None:
    reference, response = paths()
    keep, base = torch.rand(3, 4, 4), base_tokens()
    layers = list(zip(reference, response, strict=True))
    text = sum(text_consistent((one,), (other,), base, keep) for one, other in layers)
    fine = sum(fine_grained((one,), (other,), keep) for one, other in layers)
    assert torch.allclose(text_consistent(reference, response, base, keep), text)
    assert torch.allclose(fine_grained(reference, response, keep), fine)


def test_the_unit_of_the_features_does_not_matter() -> None:
    reference, response = paths()
    keep, base = torch.rand(3, 4, 4), base_tokens()
    tenfold = tuple(tuple(replace(record, value=10 * record.value, query=10 * record.query) for record in path)
                    for path in (reference, response))
    assert torch.allclose(text_consistent(*tenfold, base, keep), text_consistent(reference, response, base, keep))
    assert torch.allclose(fine_grained(*tenfold, keep), fine_grained(reference, response, keep))


def test_paths_of_unequal_depth_are_refused() -> None:
    reference, response = paths()
    with pytest.raises(ValueError, match="shorter"):
        text_consistent(reference, response[:1], base_tokens(), torch.ones(3, 4, 4))
    with pytest.raises(ValueError, match="shorter"):
        fine_grained(reference, response[:1], torch.ones(3, 4, 4))


def test_the_gradient_of_the_fine_alignment_reaches_only_what_is_kept() -> None:
    (reference,), (response,) = paths(layers=1)
    keep = torch.rand(3, 4, 4)
    keep[:, 1:3, :2] = 0
    response.query.requires_grad_()
    fine_grained((reference,), (response,), keep).sum().backward()
    reached = response.query.grad.abs().amax((1, 3)).unflatten(-1, (4, 4)) > 0
    assert response.query.grad.isfinite().all() and torch.equal(reached, keep > 0)


def test_the_gradient_of_the_text_alignment_reaches_values_only_where_they_are_kept() -> None:
    (reference,), (response,) = paths(layers=1)
    keep = torch.rand(3, 4, 4)
    keep[:, 1:3, :2] = 0
    for field in (response.text, response.key, response.value):
        field.requires_grad_()
    text_consistent((reference,), (response,), base_tokens(), keep).sum().backward()
    reached = response.value.grad.abs().amax((1, 3)).unflatten(-1, (4, 4)) > 0
    assert torch.equal(reached, keep > 0)
    assert (response.text.grad.abs().amax((1, 3)) > 0).tolist() == base_tokens().tolist()
    assert response.key.grad.isfinite().all() and response.key.grad.any()


def test_half_precision_records_are_compared_in_single() -> None:
    halved = [(cast(layers[0], torch.bfloat16),) for layers in paths(layers=1)]
    exact = [(cast(layers[0], torch.float32),) for layers in halved]
    keep, base = torch.rand(3, 4, 4), base_tokens()
    with torch.autocast("cpu", torch.bfloat16):
        text, fine = text_consistent(*halved, base, keep), fine_grained(*halved, keep)
    assert text.dtype == fine.dtype == torch.float32
    assert torch.equal(text, text_consistent(*exact, base, keep))
    assert torch.equal(fine, fine_grained(*exact, keep))
