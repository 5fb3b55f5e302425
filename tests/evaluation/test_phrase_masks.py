"""Masks of phrases by a SAM in miniature: those of the library, written where a training reads them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from spf.baselines.masks import FolderMasks, mask_file
from spf.evaluation import phrase_masks
from spf.evaluation.phrase_masks import boxed, mask_portraits, read_boxes
from spf.evaluation.sam import SamMasks
from spf.evaluation.weights import WeightsAbsent
from spf.portraits.reader import decode_portrait, read_portraits
from spf.text import Prompt
from tests.evaluation.test_sam import tiny_sam
from tests.portraits.sources import write_folder

BOXES = {"one": {"a woman": [[2, 2, 20, 30]], "target": [[0, 0, 8, 8], [10, 10, 24, 32]]},
         "two": {"a man": [[1, 1, 9, 9]]}}


@pytest.fixture(scope="module")
def sam() -> Sam:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tiny_sam().requires_grad_(False)


@pytest.fixture
def source(tmp_path: Path, sam: Sam, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three portraits, and the small SAM in the place of a published one."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(phrase_masks, "load", lambda *_: (SamMasks(sam), {}))
    (tmp_path / "portraits").mkdir()
    rows = [{"file_name": f"{name}.png", "id": name, "base_text": "a woman"} for name in ("one", "two", "three")]
    return write_folder(tmp_path / "portraits", rows)


def written(file: Path, boxes: object) -> Path:
    file.write_text(json.dumps(boxes))
    return file


def test_a_mask_is_what_the_library_sees_in_any_of_the_boxes(sam: Sam) -> None:
    predictor, image = SamPredictor(sam), np.random.default_rng(0).integers(0, 255, (32, 24, 3), np.uint8)
    predictor.set_image(image)
    alone = [predictor.predict(box=np.array(box), multimask_output=False)[0][0] for box in BOXES["one"]["target"]]
    assert np.array_equal(boxed(predictor, BOXES["one"]["target"]).numpy(), alone[0] | alone[1])
    assert alone[0].any() and not np.array_equal(*alone)


def test_masks_lie_where_a_training_reads_them(source: Path, sam: Sam, tmp_path: Path) -> None:
    out = mask_portraits(source, written(tmp_path / "boxes.json", BOXES), tmp_path / "masks")
    files = sorted(file.relative_to(out).as_posix() for file in out.rglob("*.png"))
    assert files == ["one/a_woman.png", "one/target.png", "two/a_man.png"]
    predictor = SamPredictor(sam)
    predictor.set_image(np.array(decode_portrait(read_portraits(source)[0]["image"])))
    seen = boxed(predictor, BOXES["one"]["a woman"])
    masks = FolderMasks(out).of("one", Prompt("a woman", "a hat", ("a woman",)))
    assert masks.shape == (2, 64, 64) and bool(masks[0].any()) == bool(seen[4:-4].any())


def test_what_is_there_is_not_made_again(source: Path, tmp_path: Path) -> None:
    boxes, out = written(tmp_path / "boxes.json", BOXES), tmp_path / "masks"
    kept = mask_file(out, "one", "a woman")
    kept.parent.mkdir(parents=True)
    kept.write_text("by hand")
    mask_portraits(source, boxes, out)
    assert kept.read_text() == "by hand" and mask_file(out, "one", "target").is_file()


def test_what_cannot_be_made_is_named(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = written(tmp_path / "boxes.json", {"four": {"a": [[0, 0, 1, 1]]}})
    with pytest.raises(ValueError, match="has boxes of 'four', which is no portrait of"):
        mask_portraits(source, boxes, tmp_path / "masks")
    monkeypatch.undo()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    with pytest.raises(WeightsAbsent, match="SAM ViT-B: .* is absent"):
        mask_portraits(source, written(boxes, BOXES), tmp_path / "masks", "vit_b", tmp_path)


@pytest.mark.parametrize("boxes", [[], [[0, 0, 1]], [[3, 0, 1, 1]], [[0, 0, "1", 1]], "all", [[0, 5, 1, 5]]])
def test_boxes_are_checked(boxes: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'a hat' of 'one' has no boxes as"):
        read_boxes(written(tmp_path / "boxes.json", {"one": {"a hat": boxes}}))


@pytest.mark.parametrize("content", [[], {"one": []}])
def test_a_file_of_another_kind_is_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is to be \{id: \{phrase: "):
        read_boxes(written(tmp_path / "boxes.json", content))
