from pathlib import Path

import pytest
import torch

from spf.backbones import Backbone
from spf.figures.asked import Asked
from spf.figures.attention import TargetWatch, attention, target_attention
from spf.notation import AttentionRecord
from spf.text import Prompt
from tests.figures.looking import places, read


def record(grid: tuple[int, int], query: torch.Tensor, keys: torch.Tensor) -> AttentionRecord:
    """One head; only what the image's softmax needs counts."""
    return AttentionRecord("", grid, keys[None, None], *[query[None, None]] * 3, keys[None, None])


def test_the_place_that_looks_at_the_target_has_the_greatest_share() -> None:
    keys = torch.eye(4) * 10  # tokens
    query = torch.zeros(9, 4)
    query[5] = keys[2]
    seen = target_attention([record((3, 3), query, keys)], torch.tensor([[False, False, True, False]]))
    assert seen.shape == (1, 3, 3) and seen.argmax() == 5
    assert seen.flatten()[5] > 0.999 and torch.allclose(seen.flatten()[:5], torch.tensor(0.25))


def test_the_shares_of_all_tokens_sum_to_one(backbone: Backbone) -> None:
    prompts = [Prompt("a woman in a brown jacket", "blonde hair"), Prompt("a man", "a hat")]
    full = backbone.condition(prompts)
    with torch.no_grad():
        seen = backbone.denoise(torch.randn(2, 4, 8, 8), torch.tensor([500, 100]), full, capture=True).attention
    rest = ~(full.base_tokens | full.target_tokens)
    parts = [target_attention(seen, tokens) for tokens in (full.base_tokens, full.target_tokens, rest)]
    assert parts[1].shape == (2, 8, 8) and parts[1].min() > 0
    assert torch.allclose(sum(parts), torch.ones(2, 8, 8), atol=1e-5)


def test_of_the_layers_those_of_side_16_are_shown() -> None:
    grids = [(32, 48), (16, 24), (8, 12)]
    layers = [record(grid, torch.randn(grid[0] * grid[1], 4), torch.eye(4)) for grid in grids]
    seen = target_attention(layers, torch.tensor([[True, False, False, False]]))
    assert seen.shape == (1, 16, 24)
    assert torch.equal(seen, target_attention(layers[1:2], torch.tensor([[True, False, False, False]])))


def test_watching_changes_no_portrait_and_sees_each_one(backbone: Backbone) -> None:
    asked = Asked.of("a woman", "a hat", 7, 5, 2, 4.0)  # more than one batch
    watch = TargetWatch()
    assert torch.equal(asked.by(backbone, watch), asked.by(backbone))
    maps = watch.maps(5)
    assert maps.shape == (5, 8, 8) and 0 < maps.min() and maps.max() < 1
    alone = TargetWatch()
    Asked.of("a woman", "a hat", 11, 1, 2, 4.0).by(backbone, alone)
    assert torch.allclose(alone.maps(1)[0], maps[4], atol=1e-6)


def test_the_page_shows_every_model_of_the_customisation(stage2: Path, tiny_sd15: Path, tmp_path: Path) -> None:
    page = read(attention("a woman", "a hat", str(stage2), count=1, steps=2, out=tmp_path / "page.png"))
    names = ["original", "original_target", "attention_original", "stage_1_target", "attention_stage_1",
             "stage_2_target", "attention_stage_2"]
    images = [read(tmp_path / "page" / f"000_seed7_{name}.png") for name in names]
    spots = [places(page, image / 255) for image in images]
    assert [found[0][1] for found in spots] == [6 + 70 * column for column in range(7)]
    assert len({image.numpy().tobytes() for image in images}) == 7


def test_without_a_target_there_is_nothing_to_watch(stage2: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="target text"):
        attention("a woman", " ", str(stage2), out=tmp_path / "page.png")
