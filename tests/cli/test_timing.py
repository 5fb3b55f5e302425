"""Seconds of real steps and portraits, of which nothing stays."""

from pathlib import Path

import pytest

from spf.baselines import Storm
from spf.cli import timing
from spf.cli.left import Portraits, tasks
from spf.cli.timing import seconds_each
from spf.evaluation.portraits import Sampling
from tests.house import ROOT

SHORT = "--data.train_batch_size 2 --data.resolution 64 --trainer.accelerator cpu --trainer.precision 32"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is in this folder but what a timing leaves there."""
    (tmp_path / "here").mkdir()
    (tmp_path / "thrown_away").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("sys.argv", ["spf"])
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(timing, "STEPS", 2)


@pytest.mark.parametrize("experiment", ["stage1.yaml", "prior_preservation.yaml"])
def test_a_training_is_timed_before_its_portraits_start_and_priors_are_there(
        experiment: str, tiny_sd15: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = " ".join(f"-c {ROOT}/experiments/miniature/{name}" for name in dict.fromkeys(["stage1.yaml", experiment]))
    task, = tasks(f"spf fit {files} --model.base {tiny_sd15} {SHORT}")
    assert 0 < seconds_each(task.cost, tmp_path / "thrown_away") < 60
    assert not list((tmp_path / "here").iterdir()) and not (tmp_path / "cache").exists()
    assert {file.name for file in (tmp_path / "thrown_away").iterdir()} == {"portraits_6_64", "cache"}
    assert capsys.readouterr().out == ""


def test_a_training_that_ends_sooner_is_timed_all_the_same(tiny_sd15: Path, tmp_path: Path) -> None:
    task, = tasks(f"spf fit -c {ROOT}/experiments/miniature/stage1.yaml --model.base {tiny_sd15} {SHORT} "
                  "--trainer.max_steps 1 --data.global_batch_size 4")
    assert seconds_each(task.cost, tmp_path / "thrown_away") > 0


def test_a_portrait_is_timed_with_what_changes_it(tiny_sd15: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    made, make = [], timing.make_portraits

    def noted(*given: object) -> int:
        made.append(given)
        return make(*given)

    monkeypatch.setattr(timing, "make_portraits", noted)
    cost = Portraits(str(tiny_sd15), Sampling(steps=4), 3, "Storm", Storm())
    assert 0 < seconds_each(cost, tmp_path / "thrown_away") < 60
    assert [(len(given[1]), given[3].steps, given[4], given[5]) for given in made] == [
        (3, 1, 3, Storm()), (3, 2, 3, Storm())]
    assert not list((tmp_path / "thrown_away").iterdir())
