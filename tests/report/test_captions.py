"""What a caption says."""

from pathlib import Path

from spf.report.captions import provenance, remedy, stand_ins
from spf.report.paper import TABLES
from spf.report.results import read_result, read_step_time
from tests.report.measured import result, step_time

MINIATURE = {"own": Path("results/miniature"), "mmdit": Path("results/miniature_mmdit")}
PAPERS = {"own": Path("results/sd15"), "mmdit": Path("results/sd35m")}


def test_pairs_seeds_commit_and_versions_are_said_once(tmp_path: Path) -> None:
    folder = tmp_path / "miniature"
    files = [result(folder, name, {}) for name in ("ours", "lora")]
    assert provenance([read_result(file) for file in files]) == [
        "miniature: N = 192 pairs; seeds 420000 to 420191; test set aaaaaaaaaaaa; lpips by alex; steps 20; "
        "commit abc1234; 2026-11-21; torch 2.14.0."]


def test_what_differs_is_listed_and_bases_stand_apart(tmp_path: Path) -> None:
    files = [result(tmp_path / "miniature", "ours", {}), result(tmp_path / "miniature_mmdit", "ours", {}),
             result(tmp_path / "miniature", "lora", {}, manifest={"commit": "def5678"})]
    own, mmdit = provenance([read_result(file) for file in files])
    assert "commit abc1234; commit def5678" in own and own.startswith("miniature: ")
    assert "def5678" not in mmdit and mmdit.startswith("miniature_mmdit: ")


def test_the_timing_names_its_device(tmp_path: Path) -> None:
    rows = read_step_time(step_time(tmp_path))
    assert provenance(list(rows.values())) == ["device 2 threads; batch 16; commit abc1234; 2026-11-21."]


def test_other_base_models_than_the_paper_s_are_named() -> None:
    assert stand_ins(TABLES[1], MINIATURE) == ["The paper's SD 1.5 is miniature here.",
                                               "The paper's SD 3.5-M is miniature_mmdit here."]
    assert len(stand_ins(TABLES[4], MINIATURE)) == 1 and stand_ins(TABLES[1], PAPERS) == []


def test_the_remedy_is_a_command() -> None:
    assert "`make eval BASE=miniature` fills results/miniature" in remedy(TABLES[1], MINIATURE)
    assert "`make eval BASE=sd35m`" in remedy(TABLES[4], PAPERS)
    assert "`python benchmarks/step_time.py --out results/sd15`" in remedy(TABLES[3], PAPERS)
