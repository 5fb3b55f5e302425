import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn
from torch.nn import functional as F

from spf.evaluation.hps import PADDED, Hps, HpsV20, pad
from spf.evaluation.open_clips import OpenClip, PublishedClip
from spf.text import Prompt
from tests.evaluation.clips import SIZE, TINY, noise, tiny_network
from tests.evaluation.published import read_manifest

PROMPTS = [Prompt("a woman", "a hat"), Prompt("a man", "with a beard"), Prompt("a girl")]
MEAN, STD = (torch.tensor(numbers).view(3, 1, 1) for numbers in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))


def specified(image: Tensor, size: int) -> Tensor:
    """HPS's preprocessing of one image (3,H,W), step by step."""
    pixels = image.permute(1, 2, 0).contiguous().permute(2, 0, 1).contiguous().float() / 255
    longest = max(pixels.shape[1:])
    height, width = (round(side * size / longest) for side in pixels.shape[1:])
    if longest != size:
        pixels = F.interpolate(pixels[None], (height, width), mode="bicubic", antialias=True)[0]
    canvas = torch.zeros(3, size, size)
    top, left = (size - height) // 2, (size - width) // 2
    canvas[:, top:top + height, left:left + width] = pixels
    return (canvas - MEAN) / STD


@pytest.mark.parametrize("shape", [(512, 512), (768, 512), (224, 224), (100, 150), (224, 151)])
def test_preprocessing_is_what_is_specified(shape: tuple[int, int]) -> None:
    images = noise(2, 3, *shape)
    wanted = torch.stack([specified(image, 224) for image in images])
    assert torch.equal(pad(images, 224), wanted)
    assert torch.equal(pad(images.to(memory_format=torch.channels_last), 224), wanted)


def test_what_is_around_the_image_is_black_and_overshoot_stays() -> None:
    white = torch.full((1, 3, 300, 201), 255, dtype=torch.uint8)
    white[..., 100:] = 0
    prepared = pad(white, 224)[0]  # 150 wide: 37 columns at its left and right
    black = (-MEAN / STD).expand(3, 224, 37)
    assert torch.equal(prepared[..., :37], black) and torch.equal(prepared[..., -37:], black)
    assert (prepared * STD + MEAN).max() > 1.01
    odd = pad(white[..., :200], 224)[0]  # 149 wide: the odd column is at its right
    assert torch.equal(odd[..., :37], black) and torch.equal(odd[..., -38:-1], black)


def test_the_score_is_the_plain_cosine() -> None:
    network = tiny_network()
    metric = Hps(OpenClip(network, "tiny", "random", PADDED))
    originals, customised = noise(3, 3, 40, 30), noise(3, 3, 40, 30, seed=1) // 2
    sides = [metric.encode(images, PROMPTS, None) for images in (originals, customised)]
    o, c = (network.encode_image(pad(images, SIZE)) for images in (originals, customised))
    full, base = (network.encode_text(metric.towers.tokens(texts)) for texts in (
        [prompt.full_text for prompt in PROMPTS], [prompt.base_text for prompt in PROMPTS]))
    wanted = {"hpsv2_1": _cosines(c, full), "hpsv2_1_original": _cosines(o, full),
              "hpsv2_1_drift": _cosines(c, base) - _cosines(o, base), "hpsv2_1_truncated": torch.zeros(3)}
    rows = metric.score(*sides, PROMPTS)
    for key, values in wanted.items():
        assert torch.allclose(torch.tensor([row[key] for row in rows]), values, atol=1e-6, rtol=0)
    assert {*wanted} == rows[0].keys() and wanted["hpsv2_1"].abs().max() > 0.01


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def test_a_target_that_is_cut_off_is_told() -> None:
    metric = Hps(OpenClip(tiny_network(), "tiny", "random", PADDED))
    (side,) = metric.encode(noise(1, 3, 30, 30), PROMPTS[:1], None)
    (row,) = metric.score([side], [side], [Prompt("a woman in a long dress " * 15, "a hat")])
    assert row["hpsv2_1_truncated"] == 1


def test_published_weights_fit_a_network_with_plain_gelu() -> None:
    network = Hps.clip.network()
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == read_manifest("vit_h_14")
    assert all(type(tower.resblocks[0].mlp.gelu) is nn.GELU
               for tower in (network.visual.transformer, network.transformer))


@pytest.mark.parametrize(("published", "file", "key"), [
    (Hps, "HPS_v2.1_compressed.pt", "hpsv2_1"), (HpsV20, "HPS_v2_compressed.pt", "hpsv2_0")])
def test_each_version_has_its_file_and_key(published: type[Hps], file: str, key: str, tmp_path: Path) -> None:
    network = tiny_network()
    halves = {name: value.half() for name, value in network.state_dict().items()}  # as the compressed files have them
    torch.save({"state_dict": halves}, tmp_path / file)
    with pytest.raises(ValueError, match="is not the published HPS"):
        published.published(tmp_path, torch.device("cpu"))

    class Tiny(published):
        clip = PublishedClip(replace(published.clip.weights, sha256=""), TINY, published.clip.preprocess)

    metric = Tiny.published(tmp_path, torch.device("cpu"))
    sides = [metric.encode(noise(3, 3, 60, 50, seed=seed), PROMPTS, None) for seed in (0, 1)]
    rows = metric.score(*sides, PROMPTS)
    assert all(math.isfinite(value) and abs(value) <= 2 for row in rows for value in row.values())
    assert [column.key for column in published.columns] == [key] and key in rows[0]
    assert metric.towers.network.visual.proj.dtype is torch.float32
    expected = OpenClip(network, "tiny", "random", PADDED).image(noise(3, 3, 60, 50))
    assert torch.allclose(torch.stack([row["vector"] for row in sides[0]]), expected, atol=5e-3)
    assert metric.describe()["preprocess"] == PADDED.name
