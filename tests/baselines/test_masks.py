"""Masks of phrases: from a folder of PNGs, and from the painter, who knows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spf.baselines.masks import (
    SIDE,
    FolderMasks,
    PaintedMasks,
    mask_file,
    phrase_masks,
    read_mask,
    shares_supervised,
)
from spf.miniature.painter import response_region
from spf.miniature.shards import paint_portraits
from spf.portraits.datamodule import PortraitBatch, PortraitData
from spf.text import Prompt, phrases
from tests.portraits.sources import write_folder

PROMPT = Prompt("A woman in a brown jacket, with a curtain background", "blonde hair",
                ("A woman", "a brown jacket", "a curtain background"))


@pytest.fixture(autouse=True)
def caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


def write_mask(file: Path, white: tuple[slice, slice], size: tuple[int, int] = (128, 128), level: int = 255) -> None:
    """White in one place, black elsewhere; ``size`` is height and width."""
    grey = np.zeros(size, np.uint8)
    grey[white] = level
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(file)


LEFT, TOP = (slice(None), slice(0, 64)), (slice(0, 64), slice(None))


def test_a_folder_holds_masks_by_phrase_or_number(tmp_path: Path) -> None:
    write_mask(tmp_path / "000007" / "a_woman.png", LEFT)
    write_mask(tmp_path / "000007" / "2.png", TOP)
    write_mask(tmp_path / "000007" / "target.png", LEFT, level=1)
    woman, jacket, curtain, hair = FolderMasks(tmp_path).of("000007", PROMPT)
    assert woman[:, :32].eq(1).all() and not woman[:, 32:].any()
    assert not jacket.any() and curtain[:32].eq(1).all() and not curtain[32:].any()
    assert torch.equal(hair, woman)  # over its brightest, as masks of 0 and 1 are also kept
    assert not FolderMasks(tmp_path).of("another", PROMPT).any()


def test_a_phrase_names_its_file() -> None:
    assert mask_file(Path("m"), "shard/3", "A Brown  jacket's").as_posix() == "m/shard/3/a_brown_jacket_s.png"


def test_the_square_in_the_middle_is_read_as_of_the_portraits(tmp_path: Path) -> None:
    write_mask(tmp_path / "wide.png", (slice(None), slice(64, 96)), (64, 192))
    wide = read_mask(tmp_path / "wide.png")
    assert wide.shape == (SIDE, SIDE) and wide[:, :32].eq(1).all() and not wide[:, 32:].any()
    write_mask(tmp_path / "speck.png", (slice(300, 301), slice(0, 1)), (512, 512))
    assert read_mask(tmp_path / "speck.png").nonzero().tolist() == [[300 // 8, 0]]  # nothing is lost
    write_mask(tmp_path / "black.png", (slice(0), slice(0)))
    assert not read_mask(tmp_path / "black.png").any()


def test_what_is_not_there_or_no_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder of masks .*spf portraits masks"):
        FolderMasks(tmp_path / "nowhere")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "target.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"1/target\.png cannot be read as a mask"):
        FolderMasks(tmp_path).of("1", Prompt("a woman", "a hat"))


def test_a_batch_is_padded_between_phrases_and_target(tmp_path: Path) -> None:
    for name, white in (("a_woman", LEFT), ("target", TOP)):
        write_mask(tmp_path / "1" / f"{name}.png", white)
    prompts = [PROMPT, Prompt("a woman", "a hat", ("a woman",)), Prompt("")]
    batch = FolderMasks(tmp_path).batch(["1", "1", "1"], prompts, 3)
    assert batch.shape == (3, 4, SIDE, SIDE)
    assert batch.flatten(2).any(2).tolist() == [[True, False, False, True]] * 2 + [[False] * 3 + [True]]
    assert torch.equal(batch[0], batch[1])


@pytest.mark.parametrize("wordings", ["canonical", "varied"])
def test_the_painter_knows_every_phrase_and_the_target(wordings: str, tmp_path: Path) -> None:
    source = paint_portraits(tmp_path / "p", 6, wordings=wordings)
    data = PortraitData(str(source), 128, 6, num_workers=0)
    data.setup("fit")
    batch: PortraitBatch = next(iter(data.train_dataloader()))
    masks = phrase_masks("painted", str(source))
    assert isinstance(masks, PaintedMasks)
    for name, base, target, said in zip(batch.ids, batch.base_text, batch.target_text, batch.phrases, strict=True):
        found = masks.of(name, Prompt(base, target, said))
        assert found.shape == (len(said) + 1, SIDE, SIDE) and found.flatten(1).any(1).all()
        truth = response_region(masks.order.people(int(name)))[0]
        inside = torch.nn.functional.interpolate(truth[None, None], (SIDE, SIDE), mode="area")[0, 0]
        assert found[-1][inside > 0.5].all() and not found[-1][inside == 0].any()
    assert shares_supervised(masks, data.portraits.table).samples == 1.0


def test_painted_phrases_are_where_they_are_true(tmp_path: Path) -> None:
    source = paint_portraits(tmp_path / "p", 2)
    masks = PaintedMasks(source)
    person = masks.order.people(1)[0]
    caption = masks.order.caption(person, 1)
    prompt = Prompt(caption.text, "", caption.phrases)
    by_name = dict(zip(caption.names, masks.of("000001", prompt), strict=False))
    assert phrases(prompt) == caption.phrases
    assert by_name["setting"][0, 0] == 1 and by_name["clothing"][-1].mean() > 0.5
    overlap = by_name["clothing"] * by_name["hair"]  # cells at the edge of both, which both touch
    assert overlap.sum() < 0.1 * by_name["hair"].sum()
    strange = Prompt("a cat", "a hat", ("a cat",))
    assert masks.of("000001", strange).flatten(1).any(1).tolist() == [False, True]


def test_portraits_that_we_did_not_paint_have_no_painter(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="only `spf portraits paint` makes portraits of known truth"):
        phrase_masks("painted", str(tmp_path))


def test_the_share_supervised_is_said_and_none_is_an_error(tmp_path: Path) -> None:
    rows = [{"file_name": f"{i}.png", "base_text": "a woman", "phrases": ["a woman"], "target_text": "a hat" * (i % 2),
             "id": str(i)} for i in range(4)]
    data = PortraitData(str(write_folder(tmp_path / "portraits", rows)), 16, 2, num_workers=0)
    data.setup("fit")
    for name in ("0", "1", "2"):
        write_mask(tmp_path / "masks" / name / "a_woman.png", LEFT)
    write_mask(tmp_path / "masks" / "0" / "target.png", LEFT)  # of no target text, so it does not count
    masks = phrase_masks(str(tmp_path / "masks"), data.source)
    shares = shares_supervised(masks, data.portraits.table)
    assert (shares.samples, shares.phrases, shares.portraits) == (0.75, 0.5, 4)
    assert str(shares) == ("75% of samples are supervised, 50% of phrases and targets have a mask (4 portraits looked "
                           "at)")
    assert shares_supervised(masks, data.portraits.table, 2).samples == 1.0
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"none of the first 4 portraits has a mask .* model\.masks"):
        shares_supervised(phrase_masks(str(tmp_path / "empty"), data.source), data.portraits.table)
