"""The wheel, not only the editable install: built from the sources, unpacked far from them, and used."""

import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.house import ROOT, copy_checkout, run

PIP_WHEEL = ["-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
MINIATURE = """
from pathlib import Path

import spf
from spf.backbones import BASES, load_backbone

assert Path(spf.__file__).is_relative_to(Path({unpacked!r})), spf.__file__
assert Path(BASES["miniature"]).is_relative_to(Path({unpacked!r})), BASES["miniature"]
assert (Path(BASES["miniature"]) / "model_index.json").is_file()
backbone = load_backbone("miniature")
print("weights:", sum(weight.numel() for weight in backbone.denoiser.parameters()))
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel holds, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    built = run([sys.executable, *PIP_WHEEL, "-w", str(folder), "."], cwd=copy_checkout(folder / "sources"))
    assert built.returncode == 0, built.stdout
    (wheel,) = folder.glob("spf_portrait-*-py3-none-any.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def use(unpacked: Path, *arguments: str) -> str:
    """Run python where spf can only come from the wheel."""
    result = run([sys.executable, *arguments], cwd=unpacked.parent, PYTHONPATH=str(unpacked))
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_every_file_of_spf_is_in_the_wheel(unpacked: Path) -> None:
    sources = copied(ROOT / "spf")
    assert sources and copied(unpacked / "spf") == sources


def copied(package: Path) -> set[str]:
    """The files of a package by their paths in it, without what Python itself writes there."""
    files = {file.relative_to(package) for file in package.rglob("*") if file.is_file()}
    return {file.as_posix() for file in files if "__pycache__" not in file.parts}


def test_its_metadata_says_what_setup_cfg_says(unpacked: Path) -> None:
    (about,) = unpacked.glob("*.dist-info")
    metadata = (about / "METADATA").read_text(encoding="utf-8").splitlines()
    assert {"Name: spf-portrait", "Requires-Python: >=3.10", "License-Expression: Apache-2.0"} <= set(metadata)
    assert "spf = spf.__main__:main" in (about / "entry_points.txt").read_text()
    assert (about / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_command_line_answers(unpacked: Path) -> None:
    answer = use(unpacked, "-m", "spf", "--help")
    assert "usage: spf" in answer and all(verb in answer for verb in ("fit", "generate", "export", "portraits"))


def test_the_miniature_comes_with_it(unpacked: Path) -> None:
    answer = use(unpacked, "-c", MINIATURE.format(unpacked=str(unpacked)))
    assert int(answer.rsplit("weights:", 1)[1]) > 0
