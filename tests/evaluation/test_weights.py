"""Published weights: found in their folder or in the hub's cache, checked, missed in one line, read without running."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spf.evaluation.weights import Weights, WeightsAbsent, file_hash, fill, read_weights

FILE = Weights("A network", "net.pth", "https://example.org/net.pth", "MIT", 1234)
ZIPPED = replace(FILE, file="pack/net.onnx", source="https://example.org/releases/pack.zip")
HUB = replace(FILE, file="folder/model.safetensors", source="someone/network")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize(("weights", "command"), [
    (FILE, "curl -L --create-dirs -o models/net.pth https://example.org/net.pth"),
    (ZIPPED, "curl -L --create-dirs -o models/pack.zip https://example.org/releases/pack.zip && "
             "unzip models/pack.zip -d models/pack"),
    (HUB, "hf download someone/network model.safetensors --local-dir models/folder")])
def test_absence_is_one_line_that_says_what_to_do(weights: Weights, command: str) -> None:
    with pytest.raises(WeightsAbsent) as caught:
        weights.find(Path("models"))
    assert str(caught.value) == f"A network: models/{weights.file} is absent (1,234 MB, MIT); fetch it by `{command}`"
    assert isinstance(caught.value, FileNotFoundError)


def test_the_command_for_an_archive_puts_the_file_where_it_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"net")
    shutil.make_archive(str(tmp_path / "models" / "pack"), "zip", tmp_path, "net.onnx")
    _, archive, _, folder = ZIPPED.command(tmp_path / "models").partition("&& ")[2].split()  # unzip archive -d folder
    shutil.unpack_archive(archive, folder)
    assert ZIPPED.find(tmp_path / "models").read_bytes() == b"net"


def test_a_file_with_another_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"net")
    right = file_hash(tmp_path / "net.pth")
    for known in ("", right[:8], right):
        assert replace(FILE, sha256=known).find(tmp_path) == tmp_path / "net.pth"
    with pytest.raises(ValueError, match=f"net.pth is not the published A network: its SHA-256 is {right}, not 0123; "
                                         "remove it and fetch it again: curl"):
        replace(FILE, sha256="0123").find(tmp_path)


def test_a_file_in_the_hubs_cache_is_found(tmp_path: Path, cache: Path) -> None:
    snapshot = cache / "models--someone--network" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"net")
    (cache / "models--someone--network" / "refs").mkdir()
    (cache / "models--someone--network" / "refs" / "main").write_text("c0ffee")
    assert HUB.find(tmp_path / "models") == snapshot / "model.safetensors"
    (tmp_path / "models" / "folder").mkdir(parents=True)
    mine = tmp_path / "models" / "folder" / "model.safetensors"
    mine.write_bytes(b"mine")
    assert HUB.find(tmp_path / "models") == mine, "the folder comes first"
    assert FILE.local(tmp_path) is None


def test_a_hash_is_read_again_when_the_file_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert file_hash(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    time = file.stat().st_mtime_ns
    file.write_bytes(b"abd")
    os.utime(file, ns=(time, time + 1))
    assert file_hash(file).startswith("a52d159f")


class Malice:
    """Removes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.remove, (self.path,)


def test_weights_are_read_and_nothing_is_run(tmp_path: Path) -> None:
    weights = {"weight": torch.arange(3.0)}
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        assert torch.equal(read_weights(tmp_path / name)["weight"], weights["weight"])
    victim = tmp_path / "victim"
    victim.write_text("")
    torch.save({"weight": torch.zeros(1), "more": Malice(victim)}, tmp_path / "evil.pth")
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-1])
    (tmp_path / "half.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:100])
    for name, kind in (("evil.pth", "UnpicklingError"), ("half.safetensors", "SafetensorError"), ("half.pth", "")):
        with pytest.raises(ValueError, match=rf"{name} cannot be read as weights \({kind}.*\); fetch it again"):
            read_weights(tmp_path / name)
    assert victim.is_file()


def test_a_network_is_filled_whole_or_not_at_all() -> None:
    good = {"weight": torch.ones(2, 3, dtype=torch.float16), "bias": torch.zeros(2, dtype=torch.float16)}
    network = fill(nn.Linear(3, 2).train(), good, Path("net.pth"))
    assert not network.training and network.weight.dtype == torch.float32
    assert not any(weight.requires_grad for weight in network.parameters()) and (network.weight == 1).all()
    for bad, fault in (({"weight": good["weight"]}, r"Missing key.*bias"),
                       (good | {"other": good["bias"]}, r"Unexpected key.*other"),
                       (good | {"bias": torch.zeros(3)}, r"size mismatch for bias")):
        with pytest.raises(ValueError, match=f"net.pth does not fit Linear: {fault}.*; fetch it again") as caught:
            fill(nn.Linear(3, 2), bad, Path("net.pth"))
        assert "\n" not in str(caught.value)
