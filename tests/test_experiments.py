"""Every experiment says on top what it reproduces and by which command, and that very command is understood."""

import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from spf.__main__ import main
from tests.house import ROOT, copy_checkout, run

EXPERIMENTS = sorted(file.relative_to(ROOT) for file in (ROOT / "experiments").rglob("*.y*ml"))
COMMAND = re.compile(r"\bspf (?P<arguments>(?:fit|test|triples) [^`\n]*)")
LABELS = ("Command:", "Hours:", "Expected:")
SOURCE = re.compile(r"Tables? \d|Fig\. \d|Sec\. \d|Eq\. \d|`make \w+`")

every_experiment = pytest.mark.parametrize("file", EXPERIMENTS, ids=str)


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the checkout, where commands are meant; Lightning warns when pytest's own arguments stand beside ours."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["spf"])


def header(file: Path) -> str:
    """The comment on top."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(lines[:end])


def arguments(file: Path) -> list[str]:
    """What the comment on top passes to spf."""
    return shlex.split(COMMAND.search(header(file))["arguments"])


def printed_config(command: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The whole configuration that a command line amounts to; raises SystemExit when it is not understood."""
    with pytest.raises(SystemExit) as stop:
        main([*command, "--print_config"])
    output = capsys.readouterr()
    if stop.value.code:
        raise SystemExit(output.err)
    return yaml.safe_load(output.out)


def leaves(config: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value with its dotted key as the command line spells it, classes by their short names."""
    for key, value in config.items():
        here = path if key == "init_args" else f"{path}.{key}".lstrip(".")
        if isinstance(value, dict):
            yield from leaves(value, here)
        else:
            yield here, value.rsplit(".", 1)[-1] if key == "class_path" else value


def one_of_each_shape() -> list[Path]:
    """The first file of all that have the same keys for the same verb."""
    shapes = {}
    for file in EXPERIMENTS:
        keys = (key for key, _ in leaves(yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))))
        shapes.setdefault((arguments(file)[0], *sorted(keys)), file)
    return list(shapes.values())


@every_experiment
def test_the_comment_on_top_says_what_it_is(file: Path) -> None:
    comment = header(file)
    assert [label for label in LABELS if label not in comment] == []
    assert SOURCE.search(comment), "which row, panel, section or verb it reproduces"
    assert {"-c", "--config"} & set(arguments(file)) and file.as_posix() in arguments(file)


@every_experiment
def test_its_command_is_understood(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = dict(leaves(yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))))
    meant = dict(leaves(printed_config(arguments(file), capsys)))
    from_the_file = said.keys() - {word.lstrip("-") for word in arguments(file)}
    assert {key: meant[key] for key in from_the_file} == {key: said[key] for key in from_the_file}


@pytest.mark.parametrize("file", [file for file in EXPERIMENTS if file.parent.name in ("ablations", "sweep")],
                         ids=str)
def test_every_ablation_differs_from_its_parent_in_one_key(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its parent is what its command lays it over; the options of another class come with it."""
    command = arguments(file)
    place = command.index(file.as_posix())
    assert command[place - 1] == "-c" and "-c" not in command[place:], "an ablation is laid over all others"
    theirs, ours = (dict(leaves(printed_config(some, capsys)))
                    for some in (command[:place - 1] + command[place + 1:], command))
    changed = {key for key in theirs.keys() | ours.keys() if theirs.get(key, "absent") != ours.get(key, "absent")}
    classes = [key.removesuffix("class_path") for key in changed if key.endswith(".class_path")]
    assert len({next(filter(key.startswith, classes), key) for key in changed}) == 1


@pytest.mark.parametrize("file", one_of_each_shape(), ids=str)
def test_a_misspelt_key_is_an_error(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, copy = yaml.safe_load((ROOT / file).read_text(encoding="utf-8")), tmp_path / "misspelt.yaml"
    command = [str(copy) if word == file.as_posix() else word for word in arguments(file)]
    for section in sections(config):
        key = list(section)[-1]
        section[key + "z"] = section.pop(key)
        copy.write_text(yaml.safe_dump(config))
        with pytest.raises(SystemExit, match=f"{key}z"):
            printed_config(command, capsys)
        section[key] = section.pop(key + "z")


def sections(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The configuration and every mapping in it."""
    yield config
    for value in list(config.values()):
        if isinstance(value, dict):
            yield from sections(value)


@pytest.mark.parametrize(("script", "given", "key"), [
    ("train", ["experiments/sd15/stage1.yaml", "--data.source", "two words"], "source"),
    ("evaluate", ["experiments/sd15/evaluate.yaml", "-c", "experiments/sd15/rows/ours.yaml", "--data.triples",
                  "two words"], "triples")])
def test_a_slurm_script_starts_an_experiment(script: str, given: list[str], key: str, tmp_path: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    command = ["bash", f"experiments/slurm/{script}.sbatch", *given]
    started = run(command, cwd=ROOT, PATH=f"{tmp_path}:/usr/bin:/bin", SLURM_NTASKS_PER_NODE="8", SLURM_NNODES="2")
    assert started.returncode == 0, started.stdout
    option, program, *command = started.stdout.splitlines()
    assert option == "--kill-on-bad-exit=1"  # a rank that fails alone would leave the others waiting
    config = printed_config(command, capsys)
    assert program.endswith("/spf") and config["data"][key] == "two words"
    assert (config["trainer"]["devices"], config["trainer"]["num_nodes"]) == ("8", 2)


ACTOR = """
verb=$1
for word; do
    case "$before" in -c|--config) last=$word;; --run) run=$word;; --model.result) file=$word;; esac
    before=$word
done
name=$(echo "$last" | sed 's/^experiments.//; s/.yaml$//')
case "$verb" in
portraits) file=runs/portraits/painted.json;;
triples) file=runs/$name/manifest.json;;
fit) file=${run:-runs/$name}/checkpoints/last.ckpt;;
test) file=${file:-$(echo "results/$name.json" | sed 's/.rows//')};;
*) exit 0;;
esac
echo "$verb $file"
mkdir -p "$(dirname "$file")"
touch "$file"
test "$file" != "$BREAKS"
"""
"""In the place of spf: makes what it would make, and is broken off after $BREAKS, which is there all the same."""


VERBS = ("portraits ", "triples ", "fit ", "test ")
PAINTED = "runs/portraits/painted.json"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., list[str]]:
    """What ``make VERB`` has done by ``ACTOR``, in a copy of the checkout: one line a training, test set or row."""
    home = copy_checkout(tmp_path / "home")
    (home / "actor.sh").write_text(ACTOR)
    (home / ".venv").mkdir()
    (home / ".venv" / ".installed").touch()  # set-up is taken for done, also by the make that make calls

    def made(*arguments: str, breaks: str = "") -> list[str]:
        done = run(["make", "-s", "SPF=sh actor.sh", *arguments], cwd=home, BREAKS=breaks)
        assert (done.returncode != 0) == bool(breaks), done.stdout
        return [line for line in done.stdout.splitlines() if line.startswith(VERBS)]

    made.home = home
    return made


def results_of(lines: list[str]) -> list[str]:
    """The rows that were measured."""
    return [Path(line).stem for line in lines if line.startswith("test ")]


def test_make_eval_runs_what_is_missing_outdated_or_was_broken_off(make: Callable[..., list[str]]) -> None:
    def touched(file: str) -> None:
        os.utime(make.home / file, (time.time() + 60,) * 2)

    stage1, stage2 = (f"runs/miniature/{stage}/checkpoints/last.ckpt" for stage in ("stage1", "stage2"))
    broken, healed = make("eval", breaks=stage2), make("eval")
    assert broken[-1] == healed[0] == f"fit {stage2}" and f"fit {stage1}" in broken and f"fit {stage1}" not in healed
    rows = sorted(file.stem for file in (ROOT / "experiments/miniature/rows").iterdir())
    assert sorted(results_of(broken + healed)) == rows
    fits = [line for line in broken + healed if line.startswith("fit")]
    assert len(fits) == len({*fits}) + 1  # once each, but for the one that was broken off
    assert make("eval") == []
    touched("experiments/miniature/rows/ours.yaml")
    assert make("eval") == ["test results/miniature/ours.json"]
    touched(stage1)  # trained anew
    assert "stage1" in results_of(make("eval"))


def test_a_painting_that_was_broken_off_is_taken_up(make: Callable[..., list[str]]) -> None:
    assert make("train-stage1", breaks=PAINTED) == [f"portraits {PAINTED}"]
    stage1 = "fit runs/miniature/stage1/checkpoints/last.ckpt"
    assert [make("train-stage1") for _ in range(2)] == [[f"portraits {PAINTED}", stage1], [stage1]]


def test_another_seed_has_its_own_runs_and_results(make: Callable[..., list[str]]) -> None:
    made = make("eval", "SEED=1", "ROWS=stage1 ours without_sfcm original")
    assert {*made} == {
        f"portraits {PAINTED}",
        "triples runs/miniature/triples/manifest.json",
        *(f"fit runs/miniature-seed1/{name}/checkpoints/last.ckpt" for name in ("stage1", "stage2", "without_sfcm")),
        *(f"test results/miniature-seed1/{name}.json" for name in ("stage1", "ours", "without_sfcm", "original"))}


def test_make_ablations_measures_ours_and_what_is_laid_over_it(make: Callable[..., list[str]]) -> None:
    folders = [ROOT / "experiments" / name for name in ("ablations", "miniature/sweep")]
    laid = {file.stem for folder in folders for file in folder.iterdir()}
    assert {*results_of(make("ablations"))} == {"ours"} | laid


@pytest.mark.parametrize("base", ["miniature", "sd15"])
def test_every_training_has_its_row(base: str) -> None:
    """And every row one that make knows how to train: the names of runs are those of experiments."""
    rows = (ROOT / "experiments" / base / "rows").glob("*.yaml")
    named = {Path(one["model"]["checkpoint"]).parts[2] for one in map(read, rows) if "checkpoint" in one["model"]}
    folders = [ROOT / "experiments" / base, ROOT / "experiments" / "ablations", ROOT / "experiments" / base / "sweep"]
    learn = {file.stem for folder in folders for file in folder.glob("*.yaml") if "model" in read(file) or
             "trainer" in read(file)} - {"evaluate", "pretrain"}
    assert learn - named == set() and named <= learn


def read(file: Path) -> dict[str, Any]:
    """A YAML file."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))
