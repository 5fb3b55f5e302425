from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spf.pictures import labelled_grid, save_png, to_pil


def test_every_image_stands_in_its_place_untouched() -> None:
    images = torch.rand(2, 3, 3, 32, 32)
    page = labelled_grid(images, ("a", "b", "c"), ("first", "second"))
    exact = (images * 255).round() / 255
    for row in range(2):
        for column in range(3):
            x = 6 + column * 38
            band = page[:, :, x:x + 32].unfold(1, 32, 1).permute(1, 0, 3, 2)  # (places,3,32,32)
            assert (band - exact[row, column]).abs().amax((1, 2, 3)).min() < 1e-6


def test_labels_are_drawn_and_long_ones_wrapped() -> None:
    images = torch.ones(1, 2, 3, 64, 64)
    plain = labelled_grid(images)
    named = labelled_grid(images, ("left", "right"), ("a rather long caption that needs more than one line " * 2,))
    assert named.shape[1] > plain.shape[1] + 40 and named.shape[2] == plain.shape[2]
    assert named.min() < 0.3 and plain.min() == 1


def test_pictures_are_rounded_not_truncated() -> None:
    assert np.asarray(to_pil(torch.full((3, 1, 1), 0.999))).tolist() == [[[255, 255, 255]]]


def test_a_failed_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_png(torch.zeros(3, 4, 4), tmp_path / "new" / "a.png")
    monkeypatch.setattr(Image.Image, "save", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_png(torch.ones(3, 4, 4), path)
    assert Image.open(path).getextrema() == ((0, 0),) * 3
