import io
from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from PIL import Image

from spf.portraits.batches import PortraitBatch, Portraits, collate
from spf.portraits.formats import PortraitError
from spf.portraits.reader import read_portraits
from tests.portraits.sources import picture, write_tar


def test_row_is_the_centre_of_the_portrait(greys: Path):
    row = Portraits(read_portraits(greys), resolution=20)[3]
    texts = [row[name] for name in ("base_text", "target_text", "phrases", "id")]
    assert texts == ["portrait 3", "", ("portrait",), "3.png"]
    assert row["image"].shape == (3, 20, 20) and row["image"].dtype == torch.float32
    assert row["image"][:, 10, 10].tolist() == pytest.approx([3 / 255] * 3)  # the resize keeps flat colours
    assert row["image"][:, 1:-1].max() < 0.5  # the white edges are cut off


@pytest.mark.parametrize("size", [(64, 20), (20, 64), (7, 9), (33, 33)])
def test_every_shape_of_image_fits(greys: Path, size: tuple[int, int]):
    file = io.BytesIO()
    Image.effect_noise(size, 200).save(file, "PNG")
    (greys / "0.png").write_bytes(file.getvalue())
    image = Portraits(read_portraits(greys), resolution=32)[0]["image"]
    assert image.shape == (3, 32, 32)
    assert 0 <= image.min() <= image.max() <= 1


def test_a_number_is_an_epoch_and_a_row(greys: Path):
    portraits = Portraits(read_portraits(greys), resolution=8)
    rows = [portraits[number] for number in (4, 14, 39)]
    assert [(row["epoch"], row["id"]) for row in rows] == [(0, "4.png"), (1, "4.png"), (3, "9.png")]


def test_the_next_good_portrait_stands_in_for_a_bad_image(greys: Path):
    for bad in ("3.png", "4.png", "9.png"):
        (greys / bad).write_bytes(b"junk")
    portraits = Portraits(read_portraits(greys), 8, allowed_bad=3)
    rows = [portraits[number] for number in (2, 3, 14, 19)]
    assert [(row["epoch"], row["id"]) for row in rows] == [(0, "2.png"), (0, "5.png"), (1, "5.png"), (1, "0.png")]
    assert [list(row["bad"]) for row in rows] == [[], [3, 4], [4], [9]]
    assert "3.png: the image cannot be decoded" in rows[1]["bad"][3] and "\n" not in rows[1]["bad"][3]
    assert collate(rows).bad == {3: rows[1]["bad"][3], 4: rows[1]["bad"][4], 9: rows[3]["bad"][9]}


def test_the_next_good_portrait_stands_in_for_one_without_caption_or_of_a_taken_id(greys: Path):
    members = {"a.png": picture(), "a.txt": "a", "b.png": picture(), "b.txt": " ", "c.txt": "c"}
    write_tar(greys / "0.tar", members)
    write_tar(greys / "1.tar", {"a.png": picture(colour="blue"), "a.txt": "again", "d.png": picture(), "d.txt": "d"})
    portraits = Portraits(read_portraits(greys / "*.tar"), 8, allowed_bad=3)
    assert [portraits[row]["id"] for row in range(5)] == ["a", "d", "d", "d", "d"]
    assert len(portraits) == 5  # the count is preserved


@pytest.mark.parametrize("allowed", [0, 1])
def test_more_bad_portraits_in_succession_than_allowed_are_an_error(greys: Path, allowed: int):
    for bad in ("3.png", "4.png")[: allowed + 1]:
        (greys / bad).write_bytes(b"junk")
    with pytest.raises(PortraitError, match="png: the image cannot be decoded.*\n.*max_bad_fraction"):
        Portraits(read_portraits(greys), 8, allowed)[3]


def test_batch_moves_and_keeps_its_texts():
    row = {"image": torch.rand(3, 8, 8), "base_text": "a", "target_text": "b", "phrases": ("c",), "id": "1"}
    batch = collate([row | {"epoch": 4, "bad": {7: "seven"}}])
    moved = move_data_to_device(batch, torch.device("meta"))  # what Lightning does with every batch
    assert isinstance(moved, PortraitBatch) and moved.image.is_meta
    assert (moved.base_text, moved.target_text, moved.phrases, moved.ids) == (["a"], ["b"], [("c",)], ["1"])
    assert (moved.epochs, moved.bad) == ([4], {7: "seven"})
    assert torch.equal(batch.to("cpu").image, batch.image)


def test_without_more_said_portraits_are_seen_for_the_first_time():
    assert PortraitBatch(torch.zeros(2, 3, 8, 8), ["a"] * 2, [""] * 2, [()] * 2, ["1", "2"]).epochs == [0, 0]
