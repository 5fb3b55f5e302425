"""Every benchmark ends with one line of JSON when hurried, and the shipped miniature is as good as it is said to be."""

import json
import math
import sys
from pathlib import Path

import pytest

from spf.miniature.people import draw_people
from tests.house import ROOT, run

BENCHMARKS = sorted(file.relative_to(ROOT) for file in (ROOT / "benchmarks").glob("*.py"))
# Hard floors by script, some lowered for the few samples of a hurry: 16 make a share uncertain by 0.1. Times have none.
FLOORS = {"miniature": {
    "vae_psnr": 27, "clip_target_accuracy": 0.85, "clip_phrase_accuracy": 0.8, "clip_pair_accuracy": 0.9,
    "reader_target_accuracy": 0.85, "identity_auc": 0.95, "part_miou": 0.8, "hair_colour": 0.65,
    "clothing_colour": 0.65, "background": 0.65, "phrase_auroc": 0.7, "gamma_spearman": 0.25,
    "pollution": 0, "stage1_target_accuracy": 0, "unconditional_drift": 0, "modality_gap": 0, "matched_cosine": 0},
    "localization": {"auroc_soft_map": 0.75, "auroc_sfcm": 0.75, "auroc_gain": 0, "auroc_gain_low": -0.05,
                     "auroc_gain_high": 0, "auroc_permuted": 0.5},
    "purity": {"recovered_preservation": 0, "recovered_identity": -1, "accuracy_stage1": 0.6, "accuracy_stage2": 0.5},
    "step_time": {"stage2_over_stage1_plain": 0, "stage2_over_stage1": 0, "explicit_over_ours": 0,
                  "time_over_floor": 0},
    "metrics": {"suite_over_packages": 0, "second_method_speedup": 0, "fid_seconds": 0, "images_per_second": 0},
    "comparison": {"rows": 0, "orderings_total": 0, "orderings_held": -1, "budget_spread": 0.99},
    "fit": {"cases": 0, "worst_ratio": 0.99}}


@pytest.mark.parametrize("script", BENCHMARKS, ids=str)
def test_a_benchmark_hurries_and_keeps_its_floors(script: Path, tmp_path: Path) -> None:
    result = run([sys.executable, str(script), "--quick", "--out", str(tmp_path)], cwd=ROOT)
    assert result.returncode == 0, result.stdout
    figures, floors = json.loads(result.stdout.splitlines()[-1]), FLOORS[script.stem]
    assert floors.keys() <= figures.keys() and all(math.isfinite(figure) for figure in figures.values())
    assert {name: figures[name] for name, floor in floors.items() if figures[name] <= floor} == {}
    if script.stem == "miniature":
        assert (tmp_path / "pollution.png").is_file() and "| pollution |" in (tmp_path / "quick.md").read_text()
    if script.stem == "fit":
        assert figures["worst_ratio"] < 1.2


def test_all_shipped_weights_together_are_small() -> None:
    files = [file for folder in ("spf", "benchmarks") for file in (ROOT / folder).rglob("*.safetensors")]
    sizes = [file.stat().st_size for file in {file.resolve() for file in files}]  # some are links to others
    assert sum(sizes) < 36e6 and max(sizes) < 15 * 2**20


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.mark.usefixtures("card")
def test_pollution_is_none_for_the_same_people_and_whole_for_others() -> None:
    from card.pollution import UNNAMED, ratios

    people = draw_people(64, 0)
    assert set(ratios(people, people).values()) == {0.0}
    others = ratios(people, draw_people(64, 1))
    assert set(others) == set(UNNAMED) and all(0.2 < ratio < 1.3 for ratio in others.values())
    moved = ratios(people, draw_people(64, 1, studio="away"))
    assert moved["light"] > 1 > moved["jaw"] - 0.3 and moved["zoom"] > 1
