"""Four small painted portraits as a batch and as a folder, for the stages."""

from pathlib import Path

import pytest
import torch

from spf.miniature.painter import paint
from spf.miniature.people import base_text, draw_people, target_text
from spf.miniature.shards import paint_portraits
from spf.portraits.datamodule import PortraitBatch


@pytest.fixture
def batch() -> PortraitBatch:
    people = draw_people(4, 0, ("glasses",), "away")
    return PortraitBatch(paint(people, 64), [base_text(p) for p in people], [target_text("glasses")] * 4, [()] * 4,
                         list("abcd"))


@pytest.fixture(scope="session")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_portraits(tmp_path_factory.mktemp("painted") / "portraits", 16, resolution=64)


@pytest.fixture(autouse=True)
def deterministic(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")
