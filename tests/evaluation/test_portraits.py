"""Portraits on disk: only what is missing is made, the same bytes each time, whatever a trainer's settings."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spf.backbones import Backbone, load_backbone
from spf.evaluation.portraits import Request, Sampling, canonical_chunks, make_portraits, portrait_file
from spf.text import Prompt

QUICK = Sampling(steps=2)
REQUESTS = [Request(name, Prompt(f"a woman {name}"), seed) for seed, name in enumerate("abcde", 7)]


@pytest.fixture(scope="module")
def model(tiny_sd15: Path) -> Backbone:
    """To be read only."""
    return load_backbone(tiny_sd15)


@pytest.fixture(scope="module")
def made(model: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All five, in chunks of two."""
    return all_made(model, tmp_path_factory.mktemp("portraits"), 2)


def all_made(model: Backbone, folder: Path, size: int, sampling: Sampling = QUICK,
             requests: Sequence[Request] = REQUESTS) -> Path:
    for chunk in canonical_chunks(requests, size):
        assert make_portraits(model, chunk, folder, sampling, size) == len(chunk)
    return folder


def pixels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.iterdir())]).astype(int)


def test_chunks_follow_from_the_order_alone() -> None:
    assert canonical_chunks(REQUESTS, 2) == [REQUESTS[:2], REQUESTS[2:4], REQUESTS[4:]]
    assert canonical_chunks(REQUESTS[:3], 2)[0] == canonical_chunks(REQUESTS, 2)[0] and canonical_chunks([], 2) == []


def test_only_what_is_missing_is_made_and_it_is_the_same(model: Backbone, made: Path) -> None:
    files = {request.id: portrait_file(made, request) for request in REQUESTS}
    assert sorted(made.iterdir()) == sorted(files.values()), "nothing half written"
    before = {name: (file.read_bytes(), file.stat().st_mtime_ns) for name, file in files.items()}
    files["b"].unlink()
    assert [make_portraits(model, chunk, made, QUICK, 2) for chunk in canonical_chunks(REQUESTS, 2)] == [1, 0, 0]
    assert files["b"].read_bytes() == before["b"][0]
    assert all(file.stat().st_mtime_ns == before[name][1] for name, file in files.items() if name != "b")


def test_another_chunk_size_moves_hardly_a_pixel(tmp_path: Path) -> None:
    """Of a model that has learnt something: 0.02 % of one at a time beside two; larger ones are equal."""
    model = load_backbone("miniature")
    one, two = (pixels(all_made(model, tmp_path / str(size), size, requests=REQUESTS[:3])) for size in (1, 2))
    assert np.abs(one - two).max() <= 1 and (one != two).any(-1).mean() <= 1e-3


def test_the_test_set_says_the_precision(model: Backbone, made: Path, tmp_path: Path) -> None:
    with torch.autocast("cpu", torch.bfloat16):  # a trainer's
        all_made(model, tmp_path / "outer", 2)
    assert np.array_equal(pixels(tmp_path / "outer"), pixels(made))
    coarse = all_made(model, tmp_path / "coarse", 2, replace(QUICK, precision="bfloat16"))
    assert 0 < np.abs(pixels(coarse) - pixels(made)).mean() < 10


def test_what_is_no_portrait_is_not_kept(model: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spf.evaluation.portraits.generate", lambda *_, **__: torch.full((2, 3, 8, 8), torch.nan))
    with pytest.raises(ValueError, match="the portrait 'a' has values that are not finite: sample in float32"):
        make_portraits(model, REQUESTS[:2], tmp_path, QUICK, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "a\n", "a\0", "C:a"])
def test_an_id_that_names_no_file_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="names a file: use letters"):
        Request(name, Prompt("a woman"), 0)
