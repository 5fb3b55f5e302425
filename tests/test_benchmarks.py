"""Every benchmark ends with one line of JSON when hurried, and the shipped miniature is as good as it is said to be."""

import json
import sys
from pathlib import Path

import pytest

from tests.house import ROOT, run

BENCHMARKS = sorted(file.relative_to(ROOT) for file in (ROOT / "benchmarks").glob("*.py"))
# The shares are of 16 samples: floors well below what 64 of them show (benchmarks/reports).
FLOORS = {"vae_psnr": 29.0, "clip_target_accuracy": 0.45, "hair_colour": 0.5, "clothing_colour": 0.4, "background": 0.7}


@pytest.mark.parametrize("script", BENCHMARKS, ids=str)
def test_a_benchmark_hurries_and_keeps_its_floors(script: Path, tmp_path: Path) -> None:
    result = run([sys.executable, str(script), "--quick", "--out", str(tmp_path)], cwd=ROOT)
    assert result.returncode == 0, result.stdout
    figures = json.loads(result.stdout.splitlines()[-1])
    assert {name: figures[name] for name in FLOORS if figures[name] < FLOORS[name]} == {}
    assert figures["weights_mb"] < 36
