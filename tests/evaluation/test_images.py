"""Anyone's images: every kind becomes upright 8-bit RGB, exactly; damage is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spf.evaluation.images import PictureError, look_at, read_picture
from spf.evaluation.weights import file_hash

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 13
GREY = np.array([[0, 128, 255]], dtype=np.uint8)


def saved(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


def test_rgb_keeps_every_level(tmp_path: Path) -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert torch.equal(read_picture(saved(tmp_path / "a.png", Image.fromarray(every))),
                       torch.from_numpy(every).permute(2, 0, 1))


def test_grey_and_sixteen_bits_and_transparency(tmp_path: Path) -> None:
    clear = Image.fromarray(np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], dtype=np.uint8))
    palette = Image.new("P", (2, 1))
    palette.putdata([0, 1])
    palette.putpalette([10, 20, 30, 40, 50, 60])
    cases = {"grey": (Image.fromarray(GREY), [[0] * 3, [128] * 3, [255] * 3]),
             "deep": (Image.fromarray(GREY.astype(np.uint16) * 257), [[0] * 3, [128] * 3, [255] * 3]),
             "clear": (clear, [[10, 20, 30], [255] * 3]), "palette": (palette, [[10, 20, 30], [40, 50, 60]])}
    for name, (picture, expected) in cases.items():
        image = read_picture(saved(tmp_path / f"{name}.png", picture))
        assert image.dtype == torch.uint8 and image[:, 0].T.tolist() == expected, name


def test_what_lies_on_its_side_is_set_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the left
    file = saved(tmp_path / "a.png", Image.fromarray(RGB), exif=exif)
    assert look_at(file).size == (3, 2) == tuple(read_picture(file).shape[1:])
    assert look_at(saved(tmp_path / "b.png", Image.fromarray(RGB))).size == (2, 3)


def test_a_picture_is_known_by_its_bytes(tmp_path: Path) -> None:
    one, other = (saved(tmp_path / name, Image.fromarray(RGB)) for name in ("a.png", "b.png"))
    assert look_at(one).sha256 == look_at(other).sha256 == file_hash(one)
    saved(other, Image.fromarray(255 - RGB))
    assert look_at(one).sha256 != look_at(other).sha256


def test_damage_is_named_with_the_remedy(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.png", Image.fromarray(np.random.default_rng(0).integers(
        256, size=(32, 32, 3), dtype=np.uint8))).read_bytes()
    for name, content, seen_at_once in (("text.png", b"no picture", True), ("empty.png", b"", True),
                                        ("half.png", whole[:len(whole) // 2], False)):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(PictureError, match=f"{name} is no picture, or a damaged one: generate it or copy it again"):
            look_at(file) if seen_at_once else read_picture(file)
    with pytest.raises(PictureError, match=r"gone\.png is missing: generate it, or give the folder that holds it"):
        look_at(tmp_path / "gone.png")
