"""Every experiment says on top what it reproduces and by which command, and that very command is understood."""

import os
import re
import shlex
import time
from collections.abc import Iterator
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


def leaves(config: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value with its dotted key as the command line spells it, classes by their short names."""
    for key, value in config.items():
        here = path if key == "init_args" else f"{path}.{key}".lstrip(".")
        if isinstance(value, dict):
            yield from leaves(value, here)
        else:
            yield here, value.rsplit(".", 1)[-1] if key == "class_path" else value


@every_experiment
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
case "$1" in
triples) file=runs/miniature/triples/manifest.json;;
fit) file=$(echo "$3" | sed 's/experiments\\(.*\\).yaml/runs\\1\\/checkpoints\\/last.ckpt/');;
test) file=$(echo "$5" | sed 's/experiments\\(.*\\)rows.\\(.*\\).yaml/results\\1\\2.json/');;
*) exit 0;;
esac
echo "$1 $file"
mkdir -p "$(dirname "$file")"
touch "$file"
test "$file" != "$BREAKS"
"""
"""In the place of spf: makes what it would make, and is broken off after $BREAKS, which is there all the same."""


def test_make_eval_runs_what_is_missing_outdated_or_was_broken_off(tmp_path: Path) -> None:
    home = copy_checkout(tmp_path / "home")
    (home / "actor.sh").write_text(ACTOR)
    (home / ".venv").mkdir()
    (home / ".venv" / ".installed").touch()  # set-up is taken for done, also by the make that make calls

    def said(breaks: str = "") -> list[str]:
        made = run(["make", "-s", "SPF=sh actor.sh", "eval"], cwd=home, BREAKS=breaks)
        assert (made.returncode != 0) == bool(breaks), made.stdout
        return [line for line in made.stdout.splitlines() if line.startswith(("triples ", "fit ", "test "))]

    def touched(file: str) -> None:
        os.utime(home / file, (time.time() + 60,) * 2)

    stage1, stage2 = (f"runs/miniature/{stage}/checkpoints/last.ckpt" for stage in ("stage1", "stage2"))
    broken, healed = said(breaks=stage2), said()
    assert broken[-1] == healed[0] == f"fit {stage2}" and f"fit {stage1}" in broken and f"fit {stage1}" not in healed
    rows = {f"test results/miniature/{file.stem}.json" for file in (home / "experiments/miniature/rows").iterdir()}
    measured = [line for line in broken + healed if line.startswith("test")]
    assert set(measured) == rows and len(measured) == len(rows)
    assert said() == []
    touched("experiments/miniature/rows/ours.yaml")
    assert said() == ["test results/miniature/ours.json"]
    touched(stage1)  # trained anew
    assert {f"test results/miniature/{row}.json" for row in ("standard_fine_tuning", "stage1_base_text")} <= {*said()}
