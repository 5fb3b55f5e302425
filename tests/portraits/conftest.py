"""An empty folder and one of ten portraits, with a cache of their own."""

import json
from pathlib import Path

import datasets
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for every test; `datasets` has read the environment by now, so it is set there."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "portraits"
    folder.mkdir()
    return folder


@pytest.fixture
def greys(source: Path) -> Path:
    """Ten portraits, taller than wide: portrait n is grey n, under a white top edge and over a white bottom edge."""
    rows = [
        {"file_name": f"{n}.png", "base_text": f"portrait {n}", "phrases": ["portrait"] * (n % 2)} for n in range(10)
    ]
    (source / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for n in range(10):
        canvas = Image.new("RGB", (40, 60), "white")
        canvas.paste((n, n, n), (0, 10, 40, 50))
        canvas.save(source / f"{n}.png")
    return source
