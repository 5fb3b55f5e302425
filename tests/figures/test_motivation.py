from pathlib import Path

import pytest
import torch

from spf.backbones import Backbone
from spf.customised import load_customised
from spf.figures.asked import Asked
from spf.figures.motivation import motivation
from tests.figures.conftest import checkpoint
from tests.figures.looking import places, read


def test_original_vanilla_ours_and_the_map_stand_in_this_order(stage2: Path, vanilla: Path, tmp_path: Path) -> None:
    page = read(motivation("a woman in a red shirt", "a hat", str(stage2), str(vanilla), count=1, steps=2,
                           out=tmp_path / "page.png"))
    names = ("original", "vanilla_alignment", "ours", "SFCM")
    images = [read(tmp_path / "page" / f"000_seed7_{name}.png") / 255 for name in names]
    assert [places(page, image)[0][1] for image in images] == [6, 76, 146, 216]
    original, over_aligned = load_customised(vanilla)
    asked = Asked.of("a woman in a red shirt", "a hat", 7, 1, 2, 7.5)
    for made, image in ((asked.base.by(original), images[0]), (asked.by(over_aligned), images[1])):
        assert (made[0] - image).abs().max() < 1 / 255
    assert images[3].std() > 0.02  # a map, not a flat colour


def test_models_of_two_originals_are_not_compared(stage1: Path, backbone: Backbone, tmp_path: Path) -> None:
    torch.nn.init.ones_(backbone.denoiser.conv_in.weight)
    backbone.save(tmp_path / "base")
    other = checkpoint(tmp_path / "base", tmp_path / "other.ckpt", 4, base=str(tmp_path / "base"))
    with pytest.raises(ValueError, match="different originals"):
        motivation("a woman", "a hat", str(stage1), str(other))


def test_the_map_needs_a_clip(stage1: Path) -> None:
    with pytest.raises(ValueError, match="not of stage 2.*--clip"):
        motivation("a woman", "a hat", str(stage1), str(stage1))
