"""From test triples to a result: nothing is made or encoded twice, and nothing is measured that is not what it says."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from PIL import Image

from spf.backbones import Backbone
from spf.evaluation import registry
from spf.evaluation.registry import Entry
from spf.evaluation.suite import PortraitEvaluation
from spf.evaluation.triple_data import TripleData
from spf.notation import Guidance
from spf.report.results import read_result
from spf.text import Prompt
from tests.evaluation.fakes import Apart, Blind, Brightness, learnt, six_triples, some_triples

Measured = tuple[dict[str, Any], dict[str, dict[str, Any]]]
QUICK = ["brightness", "apart"]


@pytest.fixture
def originals(tiny_sd15: Path) -> Path:
    """The six triples, to be read only."""
    return six_triples(tiny_sd15)


@pytest.fixture(scope="module")
def trained(tiny_sd15: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two trainings, to be read only."""
    folder = tmp_path_factory.mktemp("trained")
    return [learnt(tiny_sd15, folder / f"{seed}.ckpt", seed) for seed in range(2)]


@pytest.fixture
def checkpoint(trained: list[Path], tmp_path: Path) -> Path:
    """The first, where it may be trained anew."""
    return Path(shutil.copy(trained[0], tmp_path / "last.ckpt"))


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[Brightness]:
    """Metrics without networks, by name; those of kind Brightness are listed as they are loaded."""
    loaded: list[Brightness] = []

    def bright(folder: Path, device: torch.device) -> Brightness:
        loaded.append(Brightness())
        return loaded[-1]

    monkeypatch.setattr(registry, "METRICS", {
        "brightness": Entry(Brightness, None, bright), "apart": Entry(Apart, None, lambda *_: Apart()),
        "blind": Entry(Blind, None, None)})
    return loaded


def measured(originals: Path, run: Path, limit: int | None = None, **options: Any) -> Measured:
    """The result and the rows by their names, of one `spf test` in this process."""
    options = {"networks": "miniature", "metrics": QUICK, "features": None} | options
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
                      enable_checkpointing=False, use_distributed_sampler=False, default_root_dir=run)
    model = PortraitEvaluation(**{name: str(value) if isinstance(value, Path) else value
                                  for name, value in options.items()})
    trainer.test(model, TripleData(str(originals), limit=limit), verbose=False)
    file = Path(options.get("result", run / "result.json"))
    rows = [json.loads(line) for line in file.with_suffix(".rows.jsonl").read_text().splitlines()]
    assert len({row["sample"] for row in rows}) == len(rows)
    return json.loads(file.read_text()), {row["sample"]: row for row in rows}


def portraits(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_base_model_gives_the_originals_back_bit_for_bit(originals: Path, tmp_path: Path) -> None:
    result, rows = measured(originals, tmp_path, row="Original", reads="base_text",
                            metrics=["fid", "lpips", "id", "seg_cons", "hpsv2_1"])
    assert portraits(tmp_path / "portraits") == portraits(originals / "originals")
    means = {key: one["mean"] for key, one in result["summary"].items()}
    assert means["lpips"] == 0 and means["seg_cons"] == 100 and means["fid"] == pytest.approx(0, abs=1e-9)
    assert means["id"] == pytest.approx(1, abs=1e-6) and len(rows) == 6 and result["summary"]["id"]["n"] == 6
    assert all(row["original"] == row["customised"] for row in rows.values())
    assert result["absent"] == {"hpsv2_1": "HPSv2: the miniature networks have none for it"}
    read = read_result(tmp_path / "result.json")
    assert (read.row, read.test_set["count"], read.test_set["seeds"]) == ("Original", 6, [420_000, 420_005])
    assert read.manifest["metrics"].keys() == {"fid", "lpips", "id", "seg_cons"} and read.manifest["chunk"] == 2


def test_portraits_are_the_methods_own_and_made_once(originals: Path, tmp_path: Path, checkpoint: Path,
                                                     fakes: list[Brightness],
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    options = {"checkpoint": checkpoint, "features": tmp_path / "features"}
    result, rows = measured(originals, tmp_path / "run", **options)
    made = portraits(tmp_path / "run" / "portraits")
    assert made.keys() == portraits(originals / "originals").keys() and len(set(made.values())) == 6
    assert result["summary"]["apart"]["mean"] > 1
    assert (result["manifest"]["step"], result["manifest"]["samples"]) == (3, 48)
    assert fakes[-1].encoded == 12
    gone = tmp_path / "run" / "portraits" / "000002.png"
    gone.unlink()
    times = {file: file.stat().st_mtime_ns for file in gone.parent.iterdir()}
    again, other_rows = measured(originals, tmp_path / "run", **options)
    assert portraits(gone.parent) == made and all(file.stat().st_mtime_ns == time for file, time in times.items())
    assert again["summary"] == result["summary"] and other_rows == rows
    assert fakes[-1].encoded == 0, "nothing is encoded twice"
    # another method on the same originals, from another place
    here = shutil.copytree(originals, tmp_path / "elsewhere")
    measured(here, tmp_path / "second", features=tmp_path / "features")
    assert fakes[-1].encoded == 6, "only its own portraits are new"
    assert "not the model that was customised" not in capsys.readouterr().out


def test_a_run_holds_one_models_portraits(originals: Path, tmp_path: Path, trained: list[Path], checkpoint: Path,
                                          fakes: list[Brightness], capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = measured(originals, tmp_path / "run", checkpoint=checkpoint, limit=2)
    made = portraits(tmp_path / "run" / "portraits")
    for changed in ({"checkpoint": trained[1]}, {"checkpoint": None}, {"checkpoint": checkpoint, "reads": "base_text"}):
        with pytest.raises(ValueError, match="run holds portraits made with another .*: give another --run"):
            measured(originals, tmp_path / "run", limit=2, **changed)
    assert portraits(tmp_path / "run" / "portraits") == made
    shutil.copy(trained[1], checkpoint)  # trained anew
    second, _ = measured(originals, tmp_path / "run", checkpoint=checkpoint, limit=2)
    assert "another checkpoint_sha256 than that of these portraits: they are put aside" in capsys.readouterr().out
    assert portraits(tmp_path / "run" / "portraits.old") == made != portraits(tmp_path / "run" / "portraits")
    assert first["summary"] != second["summary"]


def test_what_failed_at_its_checkpoint_goes_on_with_a_better_one(trained: list[Path], originals: Path, tmp_path: Path,
                                                                 fakes: list[Brightness]) -> None:
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.write_bytes(b"half")
    with pytest.raises(ValueError, match="last.ckpt is damaged"):
        measured(originals, tmp_path / "run", checkpoint=checkpoint, limit=2)
    shutil.copy(trained[0], checkpoint)
    assert measured(originals, tmp_path / "run", checkpoint=checkpoint, limit=2)[0]["test_set"]["count"] == 2


class Nothing(Guidance):
    """Changes nothing; as most objects it prints its address."""

    def __init__(self, strength: float) -> None:
        self.strength, self._state = strength, object()

    def edits(self, text: Prompt) -> bool:
        """What has a target."""
        return bool(text.target_text)


def test_a_guidance_is_known_by_its_options(originals: Path, tmp_path: Path, fakes: list[Brightness]) -> None:
    for _ in range(2):
        measured(originals, tmp_path, guidance=Nothing(0.5), limit=2)
    with pytest.raises(ValueError, match="made with another guidance"):
        measured(originals, tmp_path, guidance=Nothing(0.6), limit=2)


def test_the_share_that_a_guidance_edits_is_told(originals: Path, tmp_path: Path, fakes: list[Brightness],
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    """A fact of the prompts: also where no portrait is left to be made."""
    for _ in range(2):
        result, _ = measured(originals, tmp_path / "full", guidance=Nothing(0.5), limit=2)
        assert result["manifest"]["edited"] == 1 and "edited" not in result["summary"]
        assert "Nothing has something to change in 100.0% of the prompts" in capsys.readouterr().out
    base = measured(originals, tmp_path / "base", guidance=Nothing(0.5), limit=2, reads="base_text")[0]
    assert base["manifest"]["edited"] == 0
    assert "edited" not in measured(originals, tmp_path / "plain", limit=2)[0]["manifest"]


def test_how_far_a_method_moves_the_portraits_is_told(originals: Path, tmp_path: Path, fakes: list[Brightness],
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    assert "pixel_change" not in measured(originals, tmp_path / "plain", limit=2)[0]["manifest"]
    neutral = tmp_path / "plain" / "portraits"
    moved = measured(originals, tmp_path / "moved", guidance=Nothing(0.5), neutral=str(neutral), limit=2)[0]
    assert moved["manifest"]["pixel_change"] == 0 and "by 0.0 of 255 on average" in capsys.readouterr().out
    first = neutral / "000000.png"
    Image.new("RGB", Image.open(first).size).save(first)
    again = measured(originals, tmp_path / "moved", guidance=Nothing(0.5), neutral=str(neutral), limit=2)[0]
    assert again["manifest"]["pixel_change"] > 0
    with pytest.raises(FileNotFoundError, match="lacks portraits of these triples: make that row first"):
        measured(originals, tmp_path / "other", neutral=str(neutral))


def test_anyones_images_are_measured_without_a_model(originals: Path, tmp_path: Path, fakes: list[Brightness],
                                                     monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("spf.evaluation.suite.load_backbone", None)
    (tmp_path / "theirs").mkdir()
    for file, kind in zip(sorted((originals / "originals").iterdir()), ("png", "jpg", "webp", "jpeg", "png", "txt"),
                          strict=True):
        Image.open(file).convert("L" if kind == "png" else "RGB").save(
            tmp_path / "theirs" / f"{file.stem}.{kind}", format="PNG" if kind == "txt" else None)
    Image.new("RGB", (32, 32)).save(tmp_path / "theirs" / "000004.png")
    result, rows = measured(originals, tmp_path / "run", images=tmp_path / "theirs")
    assert {key: one["n"] for key, one in result["summary"].items()} == {"brighter": 5, "apart": 4, "brightness": 5}
    assert len(rows) == 6 and not (tmp_path / "run" / "portraits").exists()
    assert result["failures"]["apart"]["count"] == 2 and result["failures"]["brighter"]["count"] == 1
    said = capsys.readouterr().out
    assert "apart: 2 of 6 pairs could not be measured; 000004: " in said and "32 x 32 pixels" in said
    assert "000005.png is missing: generate it, or give the folder that holds it" in said
    assert result["manifest"]["images"] == str(tmp_path / "theirs") and "checkpoint" not in result["manifest"]
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere: give that of the portraits"):
        measured(originals, tmp_path / "run", images=tmp_path / "nowhere")


def test_nothing_at_all_is_a_result_too(originals: Path, tmp_path: Path, fakes: list[Brightness]) -> None:
    (tmp_path / "empty").mkdir()
    result, rows = measured(originals, tmp_path / "run", images=tmp_path / "empty", metrics=["brightness", "blind"],
                            result=tmp_path / "results" / "ours.json")
    assert result["summary"] == {} and result["failures"]["brighter"]["count"] == 6 == len(rows)
    assert result["id"] == "ours" and result["absent"].keys() == {"brighter", "brightness"}
    assert read_result(tmp_path / "results" / "ours.json").summary == {}


def test_originals_of_another_model_are_spoken_of(originals: Path, tmp_path: Path, backbone: Backbone,
                                                  fakes: list[Brightness], capsys: pytest.CaptureFixture[str]) -> None:
    torch.nn.init.ones_(backbone.denoiser.conv_in.weight)
    backbone.save(tmp_path / "other")
    measured(originals, tmp_path / "run", base=tmp_path / "other", limit=2)
    assert "which is not the model that was customised" in capsys.readouterr().out


def test_processes_measure_together_or_not_at_all(originals: Path, tmp_path: Path, fakes: list[Brightness],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    kind = "lightning.pytorch.strategies.SingleDeviceStrategy.reduce_boolean_decision"
    monkeypatch.setattr(kind, lambda self, decision, all=True: False)  # another process lacks the weights
    result, rows = measured(originals, tmp_path, limit=2)
    assert result["summary"] == {} and len(rows) == 2 and fakes[-1].encoded == 0
    assert result["absent"]["apart"].endswith(": another process lacks the weights; put them where every machine sees "
                                              "them")


def test_who_reads_the_base_text_alone_is_not_judged_by_the_full_text() -> None:
    assert not {"hpsv2_1", "mps", "image_reward"} & set(PortraitEvaluation(reads="base_text").metrics)
    assert {"hpsv2_1", "mps", "image_reward", "fid"} <= set(PortraitEvaluation().metrics)


def test_a_new_test_set_in_the_same_place_is_made_anew(originals: Path, tmp_path: Path, tiny_sd15: Path,
                                                       fakes: list[Brightness]) -> None:
    measured(originals, tmp_path / "run", limit=2)
    made = portraits(tmp_path / "run" / "portraits")
    measured(some_triples(tiny_sd15, 2, 1), tmp_path / "run")
    assert portraits(tmp_path / "run" / "portraits.old") == made
