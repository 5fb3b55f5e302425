"""The pixel change of portraits beside those at neutral strength, in 8-bit steps."""

from pathlib import Path

import pytest
import torch

from spf.evaluation.images import PictureError
from spf.evaluation.pixel_change import mean_pixel_change
from spf.pictures import save_png


def portraits(folder: Path, *levels: int, size: int = 8) -> Path:
    for number, level in enumerate(levels):
        save_png(torch.full((3, size, size), level / 255), folder / f"{number}.png")
    return folder


def test_it_is_the_mean_over_all_pixels(tmp_path: Path) -> None:
    neutral = portraits(tmp_path / "neutral", 10, 100, 7)
    one = portraits(tmp_path / "one", 13, 95)
    assert mean_pixel_change(one, neutral, ["0.png", "1.png"]) == pytest.approx((3 + 5) / 2)
    assert mean_pixel_change(neutral, neutral, ["0.png"]) == 0


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    neutral, names = portraits(tmp_path / "neutral", 10, 100), ["0.png", "1.png"]
    with pytest.raises(PictureError, match=r"one/1\.png is missing"):
        mean_pixel_change(portraits(tmp_path / "one", 10), neutral, names)
    with pytest.raises(PictureError, match="not of one size"):
        mean_pixel_change(portraits(tmp_path / "large", 10, 100, size=9), neutral, names)
