"""The localisation benchmark: its scores on maps drawn by hand, its rows, its readings, its paired intervals."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from spf.method.sfcm import control_map
from spf.notation import AttentionRecord, Conditions, Prediction
from tests.house import ROOT


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def row(*values: float) -> Tensor:
    return torch.tensor(values)[None, None]  # (1,1,w)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_auroc_of_hard_truth_counts_ordered_pairs() -> None:
    from localizing.scores import weighted_auroc

    truth = row(1, 0, 1, 0)
    assert weighted_auroc(row(0.9, 0.1, 0.8, 0.2), truth).item() == 1
    assert weighted_auroc(row(0.1, 0.9, 0.2, 0.8), truth).item() == 0
    assert weighted_auroc(row(0.9, 0.1, 0.3, 0.5), truth).item() == pytest.approx(3 / 4)  # 0.3 loses to 0.5
    assert weighted_auroc(row(0.9, 0.5, 0.5, 0.1), truth).item() == pytest.approx(3.5 / 4)  # a tie counts half
    assert weighted_auroc(row(0, 0, 0, 0), truth).item() == 0.5


def test_auroc_of_soft_truth_weighs_each_cell_on_both_sides() -> None:
    from localizing.scores import weighted_auroc

    # pairs of 1 and 0.5 inside with 0.5 and 1 outside; the middle cell meets itself: a tie of weight 0.5 * 0.5
    assert weighted_auroc(row(3, 2, 1), row(1, 0.5, 0)).item() == pytest.approx((0.5 + 1 + 0.25 / 2 + 0.5) / 2.25)
    assert weighted_auroc(row(2, 3, 1), row(1, 0.5, 0)).item() == pytest.approx((0 + 1 + 0.25 / 2 + 0.5) / 2.25)


def test_auroc_agrees_with_all_pairs() -> None:
    from localizing.scores import weighted_auroc

    maps, truth = (10 * uniform(3, 4, 4)).round(), uniform(3, 4, 4, seed=1)
    value, inside = maps.flatten(1), truth.flatten(1)
    wins = (1 + (value[:, :, None] - value[:, None]).sign()) / 2
    pairs = inside[:, :, None] * (1 - inside[:, None])
    assert torch.allclose(weighted_auroc(maps, truth), (wins * pairs).sum((1, 2)) / pairs.sum((1, 2)), atol=1e-6)
    assert weighted_auroc(maps, torch.ones(3, 4, 4)).tolist() == [0.5] * 3


def test_soft_iou_and_the_means_by_hand() -> None:
    from localizing.scores import mean_inside, mean_outside, soft_iou

    maps, truth = row(1, 0.5, 0, 0.5), row(1, 1, 0, 0)
    assert soft_iou(maps, truth).item() == pytest.approx(1.5 / 2.5)
    assert soft_iou(truth, truth).item() == 1
    assert mean_inside(maps, truth).item() == 0.75 and mean_outside(maps, truth).item() == 0.25
    assert mean_inside(row(1, 0), row(0.75, 0.25)).item() == 0.75  # a cell counts by its share


def test_intervals_are_paired() -> None:
    from localizing.report import gain
    from localizing.rows import SFCM, M
    from plane.standing import Sheet

    hard = uniform(4, 2, 60)  # portraits differ much, the rows only by a constant
    found = gain({M: hard, SFCM: hard + 0.01}, Sheet.draw(60), SFCM)
    assert all(number == pytest.approx(0.01, abs=1e-6) for number in found)
    other = gain({M: hard, SFCM: uniform(4, 2, 60, seed=1)}, Sheet.draw(60), SFCM)
    assert other.high - other.low > 0.05


def test_permutation_moves_every_gamma() -> None:
    from localizing.rows import permuted

    gamma = torch.arange(5.0).repeat(8, 1)
    moved = permuted(gamma)
    assert (moved != gamma).all() and torch.equal(moved.sort(1).values, gamma)
    assert len({tuple(values) for values in moved.tolist()}) == 4  # all turns but the idle one


def test_rows_of_a_perfect_observation_are_perfect() -> None:
    from localizing.readings import PRINTED
    from localizing.rows import SFCM, Gammas, M, control_maps
    from localizing.scenes import Observation, Scene
    from localizing.scores import weighted_auroc

    truth = torch.zeros(2, 4, 4)
    truth[:, :2, 1:3] = 1
    parts = torch.stack([truth, 1 - truth], 1)  # two phrases: the region's, and the rest's
    scene = Scene([], [], torch.empty(0), torch.empty(0), truth, parts)
    gamma = torch.tensor([[1.0, 0.0]]).expand(2, 2)
    seen = Observation(truth, parts, truth)
    maps = control_maps(PRINTED, seen, scene, Gammas(gamma, gamma))
    found = {name: weighted_auroc(values, truth).mean().item() for name, values in maps.items()}
    assert torch.allclose(scene.overlap, gamma)
    assert found[M] == found[SFCM] == found["oracle: both"] == found["oracle: the region"] == 1
    assert found["centre"] < 1 and found["gamma permuted over phrases"] <= 0.5


def test_every_row_is_smoothed_and_normalised_alike() -> None:
    from localizing.readings import METHOD
    from localizing.rows import Gammas, M, control_maps
    from localizing.scenes import Observation, Scene

    same, gamma = uniform(2, 4, 4), uniform(2, 3)
    scene = Scene([], [], torch.empty(0), torch.empty(0), uniform(2, 4, 4, seed=1), uniform(2, 3, 4, 4))
    maps = control_maps(METHOD, Observation(same, uniform(2, 3, 4, 4), same), scene, Gammas(gamma, gamma))
    assert torch.equal(maps[M], maps["target's own attention"])
    assert all(0 <= float(values.min()) and float(values.max()) <= 1 for values in maps.values())


def test_the_benchmark_reads_equation_7_as_the_method_does() -> None:
    from localizing.readings import METHOD

    layers = tuple(_record(side, seed) for seed, side in enumerate((8, 4)))
    weights = torch.zeros(2, 6, 3)
    weights[:, 1, 0] = weights[:, 2, 1] = weights[:, 3, 2] = 1
    target = torch.zeros(2, 6, dtype=torch.bool)
    target[:, 4] = True
    full = Conditions(torch.zeros(2, 6, 8), None, ~target, target, weights)
    reference, response = (Prediction(uniform(2, 4, 8, 8, seed=seed), layers) for seed in (5, 6))
    cosines = torch.tensor([[0.1, 0.3, -0.2], [0.0, 0.05, 0.4]])
    expected = control_map(reference, response, full, cosines)
    difference, attention = _raw(reference, response, weights)
    assert torch.allclose(METHOD.soft(difference), expected.soft_map, atol=1e-4)
    assert torch.allclose(METHOD.sfcm(difference, attention, cosines), expected.sfcm, atol=1e-4)


def _raw(reference: Prediction, response: Prediction, weights: Tensor) -> tuple[Tensor, Tensor]:
    from spf.method.response import mean_phrase_attention

    return ((reference.output - response.output).abs().mean(1),
            mean_phrase_attention(response.attention, weights, (8, 8)))


def _record(side: int, seed: int) -> AttentionRecord:
    image, text = 3 * uniform(2, 2, side * side, 4, seed=seed), 3 * uniform(2, 2, 6, 4, seed=seed + 2)
    return AttentionRecord("layer", (side, side), text, image, image, image, text)


def test_every_reading_stays_finite_and_differs_from_its_neighbour() -> None:
    from localizing.readings import CHANGES, METHOD, PRINTED, around

    difference, attention, gamma = uniform(2, 6, 6), uniform(2, 3, 6, 6), uniform(2, 3)
    for chosen in (METHOD, PRINTED):
        readings = around(chosen)
        assert len(readings) < len(CHANGES) and len({reading.name for reading in readings}) == len(readings)
        for reading in readings:
            assert reading.sfcm(difference, attention, gamma).isfinite().all()
            assert reading.sfcm(0 * difference, attention, 0 * gamma).isfinite().all()


def test_gamma_between_the_phrases_of_one_prompt() -> None:
    from localizing.readings import in_prompt, to_nearest

    gamma = torch.tensor([[0.2, 0.6, 0.4], [0.3, 0.3, 0.3], [0.0, 0.0, 0.0]])
    assert torch.allclose(in_prompt(gamma)[0], torch.tensor([0.0, 1.0, 0.5])) and torch.equal(in_prompt(gamma)[1:],
                                                                                            gamma[1:])
    assert torch.allclose(to_nearest(gamma), torch.tensor([[1 / 3, 1, 2 / 3], [1, 1, 1], [0, 0, 0]]))


def test_a_scene_knows_where_its_targets_are() -> None:
    from localizing.scenes import TARGETS, contextual_gamma, draw_scene, observe

    from spf.backbones import load_backbone

    backbone = load_backbone("miniature")
    scene = draw_scene(backbone, "fresh", 4)
    assert [person.target for person in scene.people] == list(TARGETS)
    assert scene.truth.shape == (4, 16, 16) and scene.parts.shape == (4, 5, 16, 16)
    assert scene.truth.flatten(1).amax(1).min() > 0.5 > scene.truth.mean()
    seen = observe(backbone, backbone, scene, 500)
    assert seen.attention.shape == scene.parts.shape and seen.target_attention.min() > 0
    assert torch.equal(seen.difference, observe(backbone, backbone, scene, 500).difference)
    assert contextual_gamma(backbone, scene.prompts).abs().max() <= 1 + 1e-5


def test_without_the_shipped_stage_1_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import localization

    monkeypatch.setattr(localization, "SHIPPED", tmp_path / "stage1.safetensors")
    with pytest.raises(SystemExit, match=r"stage1\.safetensors is absent: .*--ship") as stopped:
        localization.shipped(tmp_path)
    assert "\n" not in str(stopped.value)
