"""The sum of a plan, its refusal, and one plan by real steps."""

import io
import tempfile
from pathlib import Path

import pytest

from spf.__main__ import main
from spf.cli import timing
from spf.cli.left import MEASURING, Portraits, Training
from spf.cli.plan import forecast
from tests.cli.test_left import ABLATION, ROW, STAGE1, STAGE2, TRIPLES

PLAN = "\n".join(["make[1]: Entering directory", STAGE1, STAGE2, "touch trained",
                  f"{ABLATION}only_stage2.yaml --run two", TRIPLES, f"{ROW}ours.yaml", f"{ROW}original.yaml"])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been run in this folder yet, and nothing is thrown away elsewhere."""
    for folder in ("home", "scratch"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setattr("sys.argv", ["spf"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))


class Asked:
    """A step in 2 s, a portrait in 1 s; and what it was asked for."""

    def __init__(self) -> None:
        self.costs = list[Training | Portraits]()

    def __call__(self, cost: Training | Portraits) -> float:
        self.costs.append(cost)
        return 2.0 if isinstance(cost, Training) else 1.0


def test_what_costs_the_same_is_timed_once_and_all_is_summed(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked()
    forecast(PLAN, asked, 6, 100, 1)
    assert len(asked.costs) == 3
    *lines, last = capsys.readouterr().out.splitlines()
    # steps of the trainings, 96 originals, 96 portraits of two rows made and measured, 6 starts
    seconds = 2 * (500 + 150 + 150) + 96 + 2 * 96 * (1 + MEASURING) + 6 * 6
    assert last == f"plan: 3 trainings, 1 test set, 2 rows: {seconds / 60:.0f} of 100 minutes"
    assert any(line.split() == ["runs/miniature/stage1", "500", "steps", "2.00", "s", "each", "16.8", "min"]
               for line in lines)


def test_a_plan_above_the_budget_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match='takes 33 minutes and the budget is 30: give BUDGET_MINUTES=34, .* ROWS=".*'
                                         "or more machines"):
        forecast(PLAN, Asked(), 6, 30, 1)
    assert "plan: 3 trainings" in capsys.readouterr().out


def test_jobs_share_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    forecast(PLAN, Asked(), 6, 30, 2)
    assert "33 of 30 minutes (2 at a time: 17, if the machine has room)" in capsys.readouterr().out


@pytest.mark.parametrize("dry_run", ["", "make: Nothing to be done for 'eval'.", "sh actor.sh fit -c a.yaml",
                                     f"{STAGE1} --trainer.max_steps 0"])
def test_nothing_left_is_one_line_and_times_nothing(dry_run: str, monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(dry_run))
    main(["plan"])
    assert capsys.readouterr().out == "plan: nothing is left to do\n"


def test_what_cannot_be_timed_is_named() -> None:
    def fails(cost: Training | Portraits) -> float:
        raise FileNotFoundError("there is no base")

    with pytest.raises(ValueError, match="runs/miniature/stage1 cannot be timed: there is no base"):
        forecast(STAGE1, fails, 0, 1, 1)


def test_a_misspelt_command_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{STAGE1} --model.learning_rat 1"))
    with pytest.raises(SystemExit, match="spf: the plan holds a command that is not understood: spf fit "):
        main(["plan"])


def test_the_miniature_is_planned_by_real_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    """Both stages, a test set and a row, before anything of them is there."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(timing, "STEPS", 2)
    short = "--data.train_batch_size 2 --trainer.max_steps 3"
    commands = [f"{STAGE1} {short}", f"{STAGE2} {short}", f"{TRIPLES} --count 2 --chunk 2",
                f"{ROW}ours.yaml --data.chunk 2"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(commands)))
    main(["plan", "--budget_minutes", "1000"])
    said = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in said if line.endswith(" min")}
    assert {name: row[1] for name, row in rows.items()} == {
        "runs/miniature/stage1": "3", "runs/miniature/stage2": "3", "runs/miniature/triples": "2",
        "results/miniature/ours.json": "2"}
    assert all(0 < float(row[3]) < 60 for row in rows.values())
    assert said[-1].startswith("plan: 2 trainings, 1 test set, 1 row: ")
    assert {file.name for file in tmp_path.rglob("*")} == {"scratch", "home"}, "nothing stays"
