"""What the README tells a stranger to type is run, in the order of the page, in a copy of the checkout.

Commands on the miniature run for real, made short. What needs a network, a cluster, real weights or hours is only
parsed, by the command line itself. A kind of command that is not known here fails: add it, or leave it out of the page.
"""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spf.__main__ import main
from tests.house import ROOT, copy_checkout, run

SHORTER: dict[str, list[str]] = {
    "fit": ["--trainer.max_steps", "2", "--samples.steps", "2"],
    "generate": ["--count", "1", "--steps", "2"],
    "portraits paint": ["--count", "32"],
    "portraits world": [],
    "export": [],
    "triples": ["--count", "4", "--steps", "2"],
    "test": [],
    "figures qualitative": [],
    "figures attention": ["--count", "1", "--steps", "2"],
    "doctor": [],
}
"""What makes each verb of spf quick; a later option wins. A verb that is not here is only parsed."""
NOT_HERE = re.compile(r"sd15|sd35m|realistic|/path/to/", re.IGNORECASE)
"""What marks a command on base models or portraits that no test has."""
MAKE = ["make", "-o", ".venv/.installed", f"BIN={Path(sys.executable).parent}"]
"""make in the environment that runs the tests: set-up is taken for done."""


def shell_blocks(page: str) -> list[str]:
    """The fenced blocks a reader would paste into a shell."""
    fences = re.findall(r"^```([^\n`]*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert not {language for language, _ in fences} & {"sh", "shell", "console"}, "write ```bash"
    return [block for language, block in fences if language == "bash"]


def commands(page: str) -> list[str]:
    """One string for each command of the page's bash blocks, comments and continuations resolved."""
    lines = (line for block in shell_blocks(page) for line in block.replace("\\\n", " ").splitlines())
    return [shlex.join(words) for words in (shlex.split(line, comments=True) for line in lines) if words]


COMMANDS = [command for page in sorted(ROOT.glob("*.md")) for command in commands(page.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stranger stands: each command finds what the commands before it have made."""
    return copy_checkout(tmp_path_factory.mktemp("readme") / "checkout")


@pytest.fixture(autouse=True)
def standing_there(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    monkeypatch.setattr("sys.argv", ["spf"])
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", checkout / ".cache")


def try_out(command: str) -> None:
    """Run or parse one command; AssertionError when it fails or is of no known kind."""
    program, *arguments = shlex.split(command)
    assert program in KINDS, f"no known kind of command: {command}"
    KINDS[program](arguments)


def try_spf(arguments: list[str]) -> None:
    """Run the verb, shortened; parse it where it needs what is not here. In this process: to import takes seconds."""
    verb = next((verb for verb in SHORTER if " ".join(arguments).startswith(verb)), None)
    runs = verb is not None and not NOT_HERE.search(" ".join(arguments))
    try:
        main([*arguments, *(SHORTER[verb] if runs else ["--print_config"])])
    except SystemExit as stop:
        assert not stop.code, f"spf {shlex.join(arguments)}: {stop.code}"


def try_python(arguments: list[str]) -> None:
    """python -m spf is spf."""
    assert arguments[:2] == ["-m", "spf"], arguments
    try_spf(arguments[2:])


def try_make(arguments: list[str]) -> None:
    """The verbs that neither last nor nest are run: the demo quickly, trainings as far as their configuration."""
    (verb,) = (word for word in arguments if "=" not in word)
    added = ["QUICK=1"] if verb == "demo" else [] if verb in ("help", "lint") else ["--dry-run"]
    result = run([*MAKE, *arguments, *added], cwd=Path.cwd(), HF_DATASETS_CACHE=".cache")
    assert result.returncode == 0, result.stdout
    for line in result.stdout.splitlines() if added == ["--dry-run"] else []:
        if " -m spf " in line:
            try_spf([*shlex.split(line.split(" -m spf ")[1]), "--print_config"])


def try_sbatch(arguments: list[str]) -> None:
    """The script is there, and what it is given is an experiment that spf fit understands."""
    options = [word.endswith(".sbatch") for word in arguments].index(True)
    assert Path(arguments[options]).is_file()
    try_spf(["fit", "-c", *arguments[options + 1 :], "--print_config"])


def try_hf(arguments: list[str]) -> None:
    """Nothing is fetched; `hf download` takes one pattern an option, and further words for files, not for patterns."""
    options = [word for word in zip(arguments, arguments[1:], strict=False) if word[0].startswith("--")]
    patterns = [value for name, value in options if name in ("--include", "--exclude")]
    assert [name for name, _ in options if name not in ("--include", "--exclude", "--local-dir")] == []
    verb, source, *files = [word for word in arguments if word not in [part for option in options for part in option]]
    assert verb == "download" and source.count("/") == 1 and not (files and patterns) and "*" not in "".join(files)


def leave_out(arguments: list[str]) -> None:
    """Getting the sources or a base model, and going there."""


KINDS: dict[str, Callable[[list[str]], None]] = {
    "spf": try_spf,
    "python": try_python,
    "make": try_make,
    "sbatch": try_sbatch,
    "git": leave_out,
    "cd": leave_out,
    "hf": try_hf,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme(command: str) -> None:
    try_out(command)


def test_two_commands_are_enough() -> None:
    assert {"make demo", "make test"} <= set(commands((ROOT / "README.md").read_text(encoding="utf-8")))


def test_what_the_readme_points_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#\s]+)|(?:src|href)=\"([^\"#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    targets = [markdown or html for markdown, html in links if "://" not in markdown + html]
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_commands_are_read_as_a_shell_would() -> None:
    page = "```bash\nmake demo  # paints\n\nspf fit \\\n  -c a.yaml\n```\n```python\nmake = 1\n```\n"
    assert commands(page) == ["make demo", "spf fit -c a.yaml"]


@pytest.mark.parametrize("command", [
    "rm -rf runs",
    "python setup.py install",
    "make no-such-verb",
    "make train-stage1 BASE=sd15 ARGS='--trainer.device 8'",
    "hf download someone/model --include '*.json' '*.txt'",
    "spf no-such-verb",
    "spf generate 'a woman' --targt glasses",
    "spf fit -c experiments/sd15/stage1.yaml --model.learning_rat 1",
])
def test_a_command_that_is_wrong_fails(command: str) -> None:
    with pytest.raises(AssertionError):
        try_out(command)


@pytest.mark.parametrize("command", [
    "make help",
    "make test",
    "make tensorboard",
    "make miniature",
    "make train-stage1",
    "make train-stage1 BASE=sd15 ARGS='--trainer.devices 8'",
    "sbatch --nodes 2 experiments/slurm/train.sbatch experiments/sd15/stage1.yaml --data.source /path/to/portraits",
    "spf generate 'a woman' --base models/sd15 --target glasses",
])
def test_a_command_that_is_right_passes(command: str) -> None:
    try_out(command)
