"""The test set: made once and resumed, one to a folder, checked whenever it is loaded."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from spf.__main__ import main
from spf.backbones import load_backbone
from spf.customised import weights_hash
from spf.evaluation.portraits import Sampling
from spf.evaluation.triples import MANIFEST, ORIGINALS, ROWS, Triples
from spf.evaluation.weights import file_hash
from tests.evaluation.fakes import six_triples

FIRST = f"{ORIGINALS}/000000.png"


@pytest.fixture
def copied(tiny_sd15: Path, tmp_path: Path) -> Path:
    """A test set to be harmed."""
    return Path(shutil.copytree(six_triples(tiny_sd15), tmp_path / "six"))


def again(base: Path, out: Path, **changed: object) -> None:
    options = {"base": base, "count": 6, "out": out, "steps": 2, "chunk": 2, "devices": 1} | changed
    main(["triples", *(f"--{key}={value}" for key, value in options.items())])


def test_a_test_set_says_how_it_was_made(tiny_sd15: Path) -> None:
    loaded = Triples.load(six_triples(tiny_sd15))
    about = loaded.manifest
    assert (about["count"], about["seeds"], about["chunk"]) == (6, [420_000, 420_005], 2)
    assert about["base_sha256"] == weights_hash(load_backbone(tiny_sd15).denoiser) and about["versions"]
    assert loaded.sampling == Sampling(steps=2) and about["sampling"] == asdict(loaded.sampling)
    assert [request.seed for request in loaded.requests] == list(range(420_000, 420_006))
    assert all(loaded.original(request).is_file() and request.prompt.phrases for request in loaded.requests)
    assert {request.prompt.target_text for request in loaded.requests} == {"wearing round glasses"}
    rows = [json.loads(line) for line in (loaded.folder / ROWS).read_text().splitlines()]
    assert rows[0]["file_name"] == FIRST and rows[0]["sha256"] == file_hash(loaded.folder / FIRST)
    assert len({row["sha256"] for row in rows}) == 6
    assert Triples.load(loaded.folder, 2).requests == loaded.requests[:2]


def test_the_same_command_makes_what_is_missing(tiny_sd15: Path, copied: Path) -> None:
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in copied.glob(f"{ORIGINALS}/*")}
    gone = [copied / ORIGINALS / "000003.png", copied / FIRST]
    for file in (*gone, copied / MANIFEST):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no finished test set .*by `spf triples --out .*/six`"):
        Triples.load(copied)
    again(tiny_sd15, copied)
    for file, (content, time) in before.items():
        assert file.read_bytes() == content and (file in gone or file.stat().st_mtime_ns == time)
    assert Triples.load(copied).manifest["sha256"] == Triples.load(six_triples(tiny_sd15)).manifest["sha256"]
    assert {file.name for file in copied.iterdir()} == {ORIGINALS, ROWS, MANIFEST, "order.json"}


@pytest.mark.parametrize("changed", [{"targets": "[hat]"}, {"chunk": 3}])
def test_a_folder_holds_one_test_set(tiny_sd15: Path, copied: Path, changed: dict[str, object]) -> None:
    with pytest.raises(SystemExit, match="six holds a test set that was made otherwise; give another --out"):
        again(tiny_sd15, copied, **changed)
    Triples.load(copied)


def test_a_folder_of_something_else_is_left_alone(tiny_sd15: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(SystemExit, match="is not empty and holds no test set; give another --out"):
        again(tiny_sd15, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_was_changed_is_refused(copied: Path) -> None:
    other = (copied / ORIGINALS / "000001.png").read_bytes()
    harms = ((FIRST, other, "000000.png is missing or not the one that was made; remove"),
             (ROWS, (copied / ROWS).read_bytes().replace(b"glasses", b"a hat"), f"{ROWS} was changed since"),
             (MANIFEST, b'{"sha256": ', f"{MANIFEST} is damaged"))
    for name, content, reason in harms:
        kept = (copied / name).read_bytes()
        (copied / name).write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            Triples.load(copied)
        (copied / name).write_bytes(kept)
    (copied / ORIGINALS / "000005.png").unlink()
    with pytest.raises(ValueError, match="000005.png is missing"):
        Triples.load(copied)
    assert len(Triples.load(copied, 5).requests) == 5, "what is not used need not be there"


def test_no_number_that_is_none_is_taken(tiny_sd15: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        again(tiny_sd15, tmp_path / "new", count=0)
    assert "count" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="the painted world has no target wings"):
        again(tiny_sd15, tmp_path / "new", targets="[wings]")
    assert not (tmp_path / "new").exists()
