from pathlib import Path

import pytest
import torch

from spf.backbones import Backbone
from spf.figures.asked import Asked, base_texts, set_page
from spf.sampling import generate
from spf.text import Prompt
from tests.figures.looking import places, read


def test_every_base_text_gets_its_portraits_and_every_portrait_its_seed(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("# people\na woman\n\n  a man  \n")
    asked = Asked.of(str(tmp_path / "texts.txt"), "a hat", 5, 2, 3, 4.0)
    assert asked.prompts == [Prompt("a woman", "a hat")] * 2 + [Prompt("a man", "a hat")] * 2
    assert asked.seeds == [5, 6, 7, 8]
    assert asked.base.prompts[0] == Prompt("a woman") and asked.base.seeds == asked.seeds
    assert asked.with_target("glasses").prompts[3] == Prompt("a man", "glasses")


def test_a_file_of_comments_asks_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("# nobody\n")
    with pytest.raises(ValueError, match="no base text"):
        base_texts(str(tmp_path / "texts.txt"))


def test_portraits_are_those_of_spf_generate(backbone: Backbone) -> None:
    asked = Asked.of("a woman", "a hat", 7, 1, 2, 5.0)
    expected = generate(backbone, [Prompt("a woman", "a hat")], [7], steps=2, guidance_scale=5.0)
    assert torch.equal(asked.by(backbone), expected)
    assert not torch.equal(asked.base.by(backbone), expected)


def test_a_page_has_its_columns_in_their_order_and_its_images_beside_it(tmp_path: Path) -> None:
    asked = Asked.of("a woman", "", 3, 2, 1, 1.0)
    left, right = torch.rand(2, 2, 3, 32, 32)
    page = read(set_page({"left one": left, "right": right}, asked, tmp_path / "page.png", "title"))
    spots = [[places(page, image) for image in column] for column in (left, right)]
    assert all(len(found) == 1 for column in spots for found in column)
    (((y0, x0),), ((y1, x1),)), (((y2, x2),), ((y3, x3),)) = spots
    assert x0 == x1 < x2 == x3 and y0 == y2 < y1 == y3
    assert sorted(file.name for file in (tmp_path / "page").iterdir()) == [
        "000_seed3_left_one.png", "000_seed3_right.png", "001_seed4_left_one.png", "001_seed4_right.png"]
    assert places(read(tmp_path / "page" / "001_seed4_right.png"), right[1]) == [(0, 0)]
