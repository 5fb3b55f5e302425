"""What is left of commands, by what lies in their folders."""

import os
from pathlib import Path

import pytest
import torch

from spf.baselines import Storm
from spf.cli.left import MEASURING, Task, tasks
from spf.files import write_json
from spf.miniature.shards import paint_portraits
from tests.house import ROOT

STAGE1, STAGE2 = (f"spf fit -c {ROOT}/experiments/miniature/{stage}.yaml" for stage in ("stage1", "stage2"))
ABLATION = f"{STAGE2} -c {ROOT}/experiments/ablations/"
TRIPLES = f"spf triples --config {ROOT}/experiments/miniature/triples.yaml"
ROW = f"spf test -c {ROOT}/experiments/miniature/evaluate.yaml -c {ROOT}/experiments/miniature/rows/"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been run in this folder yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["spf"])


def found(*lines: str) -> list[Task]:
    return tasks("\n".join(lines))


def make(count: int, folder: str) -> None:
    Path(folder).mkdir(parents=True)
    for number in range(count):
        Path(folder, f"{number:06d}.png").touch()


def test_of_a_training_the_steps_after_its_checkpoint_are_left() -> None:
    assert [(task.name, task.left, task.turns) for task in found(STAGE1)] == [("runs/miniature/stage1", 500, 500)]
    folder = Path("runs/miniature/stage1/checkpoints")
    folder.mkdir(parents=True)
    torch.save({"global_step": 480}, folder / "last.ckpt")
    (folder / ".epoch=3.ckpt.partial").touch()
    assert found(STAGE1)[0].left == 20
    assert len(list(folder.iterdir())) == 2, "a plan removes nothing that a training may be writing"
    torch.save({"global_step": 500}, folder / "last.ckpt")
    assert found(STAGE1)[0].turns == 0


def test_what_costs_the_same_is_equal() -> None:
    first, faster, other_start, without_term, everywhere, stage1 = (task.cost for task in found(
        STAGE2, f"{STAGE2} --model.learning_rate 1 --model.objective.m_text 3 --run faster",
        f"{ABLATION}only_stage2.yaml --run only", f"{ABLATION}without_enhanced.yaml --run without",
        f"{ABLATION}without_sfcm.yaml --run everywhere", STAGE1))
    assert first == faster == other_start
    assert len({first, without_term, everywhere, stage1}) == 4


def test_a_length_in_epochs_is_that_of_its_portraits() -> None:
    epochs = f"{STAGE1} --trainer.max_steps -1 --trainer.max_epochs 3 --trainer.devices 1"
    with pytest.raises(ValueError, match="runs/portraits"):
        found(epochs)
    paint_portraits(Path("runs/portraits"), 40, resolution=16)
    assert found(epochs)[0].left == 3 * 2  # whole batches of 16
    assert found(f"{epochs} --trainer.accumulate_grad_batches 2 --data.limit 36")[0].left == 3 * 1


def test_of_a_test_set_the_portraits_that_are_not_there_are_left_in_whole_chunks() -> None:
    make(20, "runs/miniature/triples/originals")
    task, = found(TRIPLES)
    assert (task.name, task.left, task.turns, task.cost.base) == ("runs/miniature/triples", 80, 80, "miniature")
    assert (task.cost.chunk, task.cost.sampling.precision, task.cost.sampling.guidance_scale) == (16, "bfloat16", 4.0)


def test_a_row_is_as_long_as_the_test_set_that_an_earlier_command_makes() -> None:
    triples, row, limited = found(TRIPLES, f"{ROW}ours.yaml", f"{ROW}original.yaml --data.limit 10")
    assert (row.name, row.left, row.turns) == ("results/miniature/ours.json", 96, 96 + MEASURING * 96)
    assert (limited.left, limited.total) == (16, 10)
    assert row.cost == limited.cost == triples.cost


def test_an_absent_test_set_that_nothing_makes_is_an_error() -> None:
    with pytest.raises(ValueError, match="runs/miniature/triples holds no finished test set.*`spf triples --out"):
        found(f"{ROW}ours.yaml", TRIPLES)


def test_portraits_that_are_there_have_still_to_be_measured_unless_their_checkpoint_is_older() -> None:
    sampling = {"steps": 20, "guidance_scale": 4.0, "precision": "bfloat16"}
    write_json({"count": 96, "base": "miniature", "chunk": 16, "sampling": sampling},
               Path("runs/miniature/triples/manifest.json"))
    make(96, "runs/miniature/rows/ours/portraits")
    note = Path("runs/miniature/rows/ours/manifest.json")
    checkpoint = Path("runs/miniature/stage2/checkpoints/last.ckpt")
    checkpoint.parent.mkdir(parents=True)
    torch.save({"global_step": 150}, checkpoint)
    note.touch()
    row, = found(f"{ROW}ours.yaml")
    assert (row.left, row.turns) == (0, 96 * MEASURING)
    assert found(STAGE2, f"{ROW}ours.yaml")[1].left == 0, "there are no steps left that would change it"
    assert found(f"{STAGE2} --trainer.max_steps 200", f"{ROW}ours.yaml")[1].left == 96
    os.utime(checkpoint, (note.stat().st_mtime + 60,) * 2)
    assert found(f"{ROW}ours.yaml")[0].left == 96
    assert found(f"{ROW}ours.yaml --images runs")[0].left == 0


def test_a_guidance_has_its_own_cost() -> None:
    _, plain, storm, again = found(TRIPLES, f"{ROW}ours.yaml", f"{ROW}storm.yaml", f"{ROW}storm.yaml --model.result b")
    assert storm.cost == again.cost != plain.cost and storm.cost.guidance == Storm()
