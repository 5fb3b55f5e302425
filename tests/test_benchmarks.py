"""Every benchmark ends with one line of JSON when hurried, and the shipped miniature is as good as it is said to be."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from spf.miniature.people import draw_people
from spf.notation import AttentionRecord
from tests.house import ROOT, run

BENCHMARKS = sorted(file.relative_to(ROOT) for file in (ROOT / "benchmarks").glob("*.py"))
# The report card's hard floors, some lowered for the few samples of a hurry: 16 make a share uncertain by 0.1.
FLOORS = {
    "vae_psnr": 27, "clip_target_accuracy": 0.85, "clip_phrase_accuracy": 0.8, "clip_pair_accuracy": 0.9,
    "reader_target_accuracy": 0.85, "identity_auc": 0.95, "part_miou": 0.8, "hair_colour": 0.65,
    "clothing_colour": 0.65, "background": 0.65, "phrase_auroc": 0.7, "gamma_spearman": 0.25}
MEASURED = ("pollution", "stage1_target_accuracy", "unconditional_drift", "modality_gap", "matched_cosine")


@pytest.mark.parametrize("script", BENCHMARKS, ids=str)
def test_a_benchmark_hurries_and_keeps_its_floors(script: Path, tmp_path: Path) -> None:
    result = run([sys.executable, str(script), "--quick", "--out", str(tmp_path)], cwd=ROOT)
    assert result.returncode == 0, result.stdout
    figures = json.loads(result.stdout.splitlines()[-1])
    assert {name: figures[name] for name in FLOORS if figures[name] < FLOORS[name]} == {}
    assert all(math.isfinite(figures[name]) and figures[name] > 0 for name in MEASURED)
    assert figures["weights_mb"] < 36
    assert (tmp_path / "pollution.png").is_file() and "| pollution |" in (tmp_path / "quick.md").read_text()


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


@pytest.mark.usefixtures("card")
def test_a_phrase_map_is_the_mean_attention_to_its_tokens() -> None:
    from card.preconditions import phrase_maps

    generator = torch.Generator().manual_seed(0)
    query, keys = torch.randn(1, 2, 4, 8, generator=generator), torch.randn(1, 2, 5, 8, generator=generator)
    weights = torch.tensor([[0, 0], [0.5, 0], [0.5, 0], [0, 1], [0, 0]])[None]
    maps = phrase_maps(AttentionRecord("layer", (2, 2), keys, query, query, query, keys), weights)
    attention = (query @ keys.transpose(-1, -2) / 8**0.5).softmax(-1).mean(1)  # (1,4,5)
    assert torch.allclose(maps[:, 0], attention[..., 1:3].mean(-1)) and torch.allclose(maps[:, 1], attention[..., 3])
