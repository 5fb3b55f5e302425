from pathlib import Path

import pytest
import torch

from spf.customised import load_customised
from spf.figures.asked import Asked
from spf.figures.continuous import captioned, continuous, level
from tests.figures.looking import places, read


def test_targets_replace_each_other_above_and_add_up_below(stage2: Path, tmp_path: Path) -> None:
    page = read(continuous("a woman", ["a hat", "glasses"], str(stage2), steps=2, out=tmp_path / "page.png"))
    original, customised = load_customised(stage2)
    asked = Asked.of("a woman", "", 7, 1, 2, 7.5)
    made = [asked.with_target(text).by(customised) for text in ("a hat", "glasses", "a hat, glasses")]
    first, hat, glasses, both = (places(page, images[0]) for images in (asked.by(original), *made))
    assert len(first) == len(hat) == 2 and len(glasses) == len(both) == 1  # the first addition is the first replacement
    (above, left), (below, also_left) = first
    assert left == also_left < hat[0][1] == hat[1][1] < glasses[0][1] == both[0][1]
    assert [y for y, _ in (*hat, *glasses, *both)] == [above, below, above, below]


def test_a_caption_leaves_the_image_and_long_ones_take_more_lines() -> None:
    image = torch.rand(3, 64, 64)
    short, long = captioned(image, "+ a hat"), captioned(image, "+ a hat, glasses, a striped scarf, a long gray beard")
    cells = (level([short, long]) * 255).round().byte()
    assert cells.shape[:2] == (2, 3) and cells.shape[2] == long.shape[1] > short.shape[1]
    assert [places(cell, image) for cell in cells] == [[(6, 6)], [(6, 6)]]
    assert (cells[0, :, short.shape[1]:] == 255).all()


def test_without_targets_there_is_no_figure(stage2: Path) -> None:
    with pytest.raises(ValueError, match="at least one target"):
        continuous("a woman", [], str(stage2))
