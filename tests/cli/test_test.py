"""`spf test` by its command line: one process and two make the same files, and the same numbers of them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from spf.__main__ import main
from spf.report.results import differences, read_result
from tests.evaluation.fakes import learnt, some_triples
from tests.house import ROOT

PATIENCE = 500  # seconds until a start counts as hung
METRICS = "[fid, lpips, id, clip, mps]"


def command(originals: Path, run: Path, *more: str) -> list[str]:
    return ["test", "--run", str(run), "--model.networks", "miniature", "--data.triples", str(originals),
            "--model.features", str(run / "features"), "--trainer.accelerator", "cpu",
            "--trainer.enable_progress_bar", "false", *more]


@pytest.fixture(scope="module")
def originals(tiny_sd15: Path) -> Path:
    """Five chunks of portraits to be made, two chunks of pairs to be measured: unequal shares for two."""
    return some_triples(tiny_sd15, 17, 4)


@pytest.fixture(scope="module")
def runs(tiny_sd15: Path, originals: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same portraits made and measured by this process, and by two."""
    folder = tmp_path_factory.mktemp("runs")
    model = ("--model.checkpoint", str(learnt(tiny_sd15, folder / "last.ckpt")), "--model.metrics", METRICS)
    two = [sys.executable, "-m", "spf", *command(originals, folder / "two", *model, "--trainer.devices", "2",
                                                 "--trainer.strategy", "ddp")]
    threads = str(torch.get_num_threads())  # another number chooses other kernels
    with (folder / "log.txt").open("w") as log, pytest.MonkeyPatch.context() as patch:
        process = subprocess.Popen(two, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": threads}, stdout=log,
                                   stderr=subprocess.STDOUT)
        try:
            patch.setattr(sys, "argv", ["spf"])
            main(command(originals, folder / "one", *model, "--trainer.devices", "1"))
            assert process.wait(PATIENCE) == 0, (folder / "log.txt").read_text()
        finally:
            process.kill()
    return folder / "one", folder / "two"


def results(run: Path) -> tuple[dict[str, Any], str]:
    return json.loads((run / "result.json").read_text()), (run / "result.rows.jsonl").read_text()


def test_two_processes_make_the_files_of_one(runs: tuple[Path, Path]) -> None:
    one, two = ({file.name: file.read_bytes() for file in (run / "portraits").iterdir()} for run in runs)
    assert len(one) == 17 and one == two


def test_two_processes_measure_the_numbers_of_one(runs: tuple[Path, Path]) -> None:
    (one, rows), (two, other_rows) = map(results, runs)
    assert rows == other_rows and len(rows.splitlines()) == 17
    fid, other_fid = (result["summary"].pop("fid") for result in (one, two))
    assert fid["mean"] == pytest.approx(other_fid["mean"], rel=1e-9) and fid["mean"] > 1e-3 and fid["n"] == 17
    assert one["summary"] == two["summary"] and len(one["summary"]) > 10
    assert (one["manifest"].pop("world_size"), two["manifest"].pop("world_size")) == (1, 2)
    assert one["manifest"] == two["manifest"] and one["failures"] == {} == two["failures"]
    assert one["absent"].keys() == {"mps", "mps_raw", "mps_win", "mps_ratio"} == two["absent"].keys()
    shares = [(runs[1] / "rows" / f"rank{rank}.jsonl").read_text().splitlines() for rank in (0, 1)]
    assert [len(share) for share in shares] == [16, 1], "no pair is measured twice to even out the ranks"
    assert not list(differences([read_result(run / "result.json") for run in runs], one["summary"]))


def test_a_second_start_makes_and_encodes_nothing(runs: tuple[Path, Path], originals: Path,
                                                  monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["spf"])
    monkeypatch.setattr("spf.evaluation.suite.load_lineage", None)
    before = results(runs[0])
    kept = {file: file.stat().st_mtime_ns for name in ("features", "portraits") for file in (runs[0] / name).rglob("*")}
    main(command(originals, runs[0], "--model.checkpoint", str(runs[0].parent / "last.ckpt"),
                 "--model.metrics", METRICS, "--trainer.devices", "1"))
    assert results(runs[0]) == before and all(file.stat().st_mtime_ns == time for file, time in kept.items())
    assert "- MPS: the miniature networks have none for it" in capsys.readouterr().out


def test_a_folder_of_images_is_enough(originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["spf"])
    (tmp_path / "theirs").mkdir()
    for file in (originals / "originals").iterdir():
        Image.open(file).save(tmp_path / "theirs" / f"{file.stem}.jpg", quality=95)
    main(command(originals, tmp_path / "run", "--images", str(tmp_path / "theirs"), "--model.metrics", "[lpips]",
                 "--data.limit", "3",
                 "--model.row", "Theirs", "--model.result", str(tmp_path / "results" / "theirs.json")))
    read = read_result(tmp_path / "results" / "theirs.json")
    assert read.row == "Theirs" and read.id == "theirs" and list(read.columns) == ["lpips"]
    assert 0 < read.summary["lpips"].mean < 0.1 and read.summary["lpips"].n == 3


@pytest.mark.parametrize(("more", "reason"), [
    (("--model.metrics", "[ssim]"), "no metric 'ssim'; there are fid, "),
    (("--images", "nowhere"), "there is no folder nowhere"),
    (("--trainer.precision", "bf16-true"), "trainer.precision bf16-true has no say in a measurement"),
    (("--data.triples", "nowhere"), "nowhere holds no finished test set .* by `spf triples --out nowhere`")])
def test_a_mistake_is_one_line(originals: Path, tmp_path: Path, more: tuple[str, ...], reason: str,
                               monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["spf"])
    with pytest.raises(SystemExit) as caught:
        main(command(originals, tmp_path, *more))
    assert re.search(reason, str(caught.value) + capsys.readouterr().err)


def test_the_hparams_tab_has_what_a_row_chose_and_what_came_of_it(runs: tuple[Path, Path]) -> None:
    events = EventAccumulator(str(runs[0]), size_guidance={SCALARS: 0}).Reload()
    started = HParamsPluginData.FromString(
        events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content).session_start_info.hparams
    assert started["row"].string_value == "customised" and started["samples"].number_value == 48
    summary = results(runs[0])[0]["summary"]
    shown = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"] if tag in summary}
    assert {"fid", "lpips", "id", "clip_t"} <= shown.keys()
    assert all(value == pytest.approx(summary[tag]["mean"], rel=1e-5) for tag, value in shown.items())
