"""``spf doctor`` says of every file whether it is here, right, or how to get it."""

from dataclasses import replace
from pathlib import Path

import pytest

from spf.__main__ import main
from spf.evaluation.doctor import state
from spf.evaluation.registry import METRICS
from spf.evaluation.weights import Weights, file_hash

FILE = Weights("A network", "net.pth", "https://example.org/net.pth", "MIT", 1234)


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_every_file_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = METRICS["fid"].files[0]  # whose hash is published
    (tmp_path / planted.file).write_bytes(b"something else")
    unknown = next(one for entry in METRICS.values() for one in entry.files if not one.sha256)
    (tmp_path / unknown.file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / unknown.file).write_bytes(b"anything")
    main(["doctor", "--eval", "--weights", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == sum(len(entry.files) for entry in METRICS.values())
    assert {line.split()[0] for line in lines} == {name for name, entry in METRICS.items() if entry.files}
    wrong = [line for line in lines if "wrong hash: " in line]
    assert {line.split()[0] for line in wrong} == {"fid", "fid_clean"}
    assert all(f"{tmp_path / planted.file} is not {planted.sha256}; remove it, then curl" in line for line in wrong)
    present = [line for line in lines if "present: " in line]
    assert present and all(f"{tmp_path / unknown.file} (no hash is published)" in line for line in present)
    missing = [line for line in lines if "missing: " in line]
    assert len(wrong) + len(present) + len(missing) == len(lines)
    assert all(" MB, " in line and str(tmp_path) in line for line in missing)


def test_three_states(tmp_path: Path) -> None:
    assert state(FILE, tmp_path) == (f"missing: 1,234 MB, MIT; curl -L --create-dirs -o {tmp_path}/net.pth "
                                     "https://example.org/net.pth")
    (tmp_path / "net.pth").write_bytes(b"net")
    assert state(replace(FILE, sha256=file_hash(tmp_path / "net.pth")[:8]), tmp_path) == f"present: {tmp_path}/net.pth"
    assert state(replace(FILE, sha256="0123"), tmp_path).startswith(f"wrong hash: {tmp_path}/net.pth is not 0123")


def test_what_lies_elsewhere_or_was_converted_is_found(tmp_path: Path) -> None:
    moved = [one for entry in METRICS.values() for one in entry.files if one.also]
    assert {"buffalo_l/buffalo_l/det_10g.onnx", "MPS_overall_checkpoint.safetensors"} <= {one.also[0] for one in moved}
    for one in moved:
        file = tmp_path / one.also[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"any")
        said = state(one, tmp_path)
        assert (said.startswith("wrong hash: ") if one.sha256 else "present: " in said) and str(file) in said
