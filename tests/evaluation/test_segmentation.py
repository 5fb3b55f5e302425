"""Seg-Cons by its closed forms, and masks that survive being kept."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from spf.evaluation.segmentation import (
    FastSegCons,
    SegCons,
    consistency,
    from_run_lengths,
    mask_iou,
    match,
    run_lengths,
    things,
)
from spf.text import Prompt

PROMPTS = [Prompt("a woman", "a hat")]


def rectangle(top: int, left: int, high: int, wide: int) -> Tensor:
    """One mask on 20 x 30 pixels."""
    mask = torch.zeros(20, 30, dtype=torch.bool)
    mask[top:top + high, left:left + wide] = True
    return mask


def random_masks(count: int, seed: int, size: tuple[int, int] = (37, 53)) -> Tensor:
    return torch.rand(count, *size, generator=torch.Generator().manual_seed(seed)) < 0.4


A, HALF_OVER_A, ELSEWHERE = rectangle(0, 0, 10, 10), rectangle(0, 5, 10, 10), rectangle(12, 20, 4, 4)
NONE = torch.zeros(0, 20, 30, dtype=torch.bool)


def test_rectangles_have_the_scores_that_geometry_gives_them() -> None:
    assert consistency(A[None], HALF_OVER_A[None]) == pytest.approx({  # 50 of 150 pixels in common
        "seg_cons": 100 / 3, "seg_cov": 100 / 3, "seg_recall": 100 / 3, "seg_empty": 0.0,
        "seg_masks_original": 1.0, "seg_masks_customised": 1.0}, abs=1e-12)
    lost = consistency(torch.stack([A, ELSEWHERE]), A[None])
    assert lost["seg_cons"] == pytest.approx(200 / 3, abs=1e-12) and lost["seg_recall"] == pytest.approx(50, abs=1e-12)
    assert lost["seg_cov"] == pytest.approx(100 * (100 / 116 + 1) / 2, abs=1e-12)
    assert consistency(A[None], torch.stack([A, A]))["seg_cons"] == pytest.approx(200 / 3, abs=1e-12)  # once only


def test_without_masks_there_is_nothing_to_say_or_nothing_in_common() -> None:
    assert consistency(NONE, NONE) == {"seg_empty": 1.0}
    gone, new = consistency(A[None], NONE), consistency(NONE, A[None])
    assert gone["seg_cons"] == new["seg_cons"] == gone["seg_cov"] == new["seg_cov"] == gone["seg_recall"] == 0
    assert "seg_recall" not in new and new["seg_masks_customised"] == 1


def test_neither_side_nor_order_matters() -> None:
    a, b = random_masks(5, 0), random_masks(7, 1)
    there, back = consistency(a, b), consistency(b, a)
    shuffled = consistency(a[torch.tensor([3, 1, 4, 0, 2])], b.flip(0))
    for key in ("seg_cons", "seg_cov"):
        assert there[key] == pytest.approx(back[key], abs=1e-12) == pytest.approx(shuffled[key], abs=1e-12)
    assert 0 < there["seg_cons"] < 100 == consistency(a, a.flip(0))["seg_cons"]


def test_the_table_of_iou_is_each_pair_alone() -> None:
    a, b = random_masks(4, 2), random_masks(3, 3)
    a[1] = False
    alone = [[np.logical_and(x, y).sum() / np.logical_or(x, y).sum() for y in b.numpy()] for x in a.numpy()]
    assert torch.equal(mask_iou(a, b), torch.tensor(alone, dtype=torch.float64))
    assert mask_iou(a[1:2], a[1:2]).item() == 0 and mask_iou(NONE, A[None]).shape == (0, 1)


def test_no_other_matching_has_a_larger_sum() -> None:
    greedy_fails = torch.tensor([[0.9, 0.8], [0.8, 0.0]], dtype=torch.float64)
    assert float(greedy_fails[match(greedy_fails)].sum()) == 1.6
    iou = torch.rand(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    best = max(float(iou[range(4), chosen].sum()) for chosen in permutations(range(6), 4))
    assert float(iou[match(iou)].sum()) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("masks", [
    NONE, torch.stack([A, HALF_OVER_A, rectangle(0, 0, 0, 0), rectangle(0, 0, 20, 30), ELSEWHERE]), random_masks(9, 5),
    random_masks(1, 6, (1, 1)), ~random_masks(3, 7, (64, 1))], ids=["none", "rectangles", "noise", "pixel", "column"])
def test_run_lengths_give_the_masks_back(masks: Tensor) -> None:
    kept = run_lengths(masks)
    assert {part.dtype for part in kept.values()} == {torch.int32} and len(kept["starts"]) == len(masks) + 1
    assert int(kept["counts"].sum()) == masks.numel() and torch.equal(from_run_lengths(kept), masks)


def test_specks_and_the_whole_image_are_no_things() -> None:
    masks = torch.zeros(4, 100, 100, dtype=torch.bool)
    masks.view(4, -1)[0, :9] = masks.view(4, -1)[1, :10] = masks.view(4, -1)[2, :9500] = True
    masks.view(4, -1)[3, :9501] = True
    assert torch.equal(things(masks), masks[1:3])


@pytest.mark.parametrize(("kind", "key"), [(SegCons, "seg_cons"), (FastSegCons, "seg_cons_fast")])
def test_the_metric_scores_what_its_maker_sees(kind: type[SegCons], key: str) -> None:
    metric = kind(lambda image: torch.stack([image[channel] > 127 for channel in range(3)]), {"network": "thresholds"})
    images = torch.zeros(2, 3, 20, 30, dtype=torch.uint8)
    images[0, 0], images[1, 1] = 255 * A, 255 * HALF_OVER_A  # two blank channels each are specks
    one, other = metric.encode(images, PROMPTS * 2, None)
    same, moved = metric.score([one, one], [one, other], PROMPTS * 2)
    assert same[key] == 100 and moved[key] == pytest.approx(100 / 3, abs=1e-12)
    assert metric.columns[0].key == key and metric.columns[1].key in same
    assert all(name.endswith(kind.suffix) for name in same)
    assert metric.describe()["masks"] == {"network": "thresholds"} and metric.same_size
