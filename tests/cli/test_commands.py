"""Lines of a dry run, as make prints them."""

import pytest

from spf.cli.commands import commands, parsed
from tests.house import ROOT

DRY_RUN = r"""
make[1]: Entering directory '/home/someone's'
python3 -m venv .venv
.venv/bin/python -m spf portraits paint --out runs/portraits
.venv/bin/python -m spf fit -c a.yaml -c b.yaml --run 'two words'
touch runs/miniature/spf

echo 'spf: spf fit is next'
sh actor.sh fit -c a.yaml
nice -n 5 spf triples --config t.yaml && touch t; /opt/spf test \
	-c r.yaml -c s.yaml > log
make[1]: Leaving directory
"""


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["spf"])


def test_our_commands_are_found_among_others() -> None:
    assert list(commands(DRY_RUN)) == [
        ("fit", ["-c", "a.yaml", "-c", "b.yaml", "--run", "two words"]),
        ("triples", ["--config", "t.yaml"]),
        ("test", ["-c", "r.yaml", "-c", "s.yaml"])]


def test_a_line_that_no_shell_reads_is_named() -> None:
    with pytest.raises(ValueError, match="no shell reads .*: spf fit -c 'a.yaml"):
        list(commands("spf fit -c 'a.yaml"))


def test_later_files_lie_over_earlier_ones() -> None:
    config = parsed("fit", ["-c", "experiments/miniature/stage1.yaml", "-c", "experiments/miniature/lora.yaml"])
    assert (config.run, config.trainer.max_steps, config.model.init_args.tuning.init_args.rank) == (
        "runs/miniature/lora", 600, 32)


@pytest.mark.parametrize(("verb", "arguments", "reason"), [
    ("fit", ["-c", "experiments/miniature/stage1.yaml", "--model.learning_rat", "1"], "learning_rat"),
    ("test", ["-c", "nowhere.yaml"], "nowhere.yaml"),
    ("triples", ["--cuont", "4"], "--cuont")])
def test_a_misspelt_command_is_named(verb: str, arguments: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=f"not understood: spf {verb} {arguments[0]}") as caught:
        parsed(verb, arguments)
    assert reason in str(caught.value).partition("\n")[2]
