"""SAM in miniature: the library's own generator finds the same masks, and published files fill the networks."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from spf.evaluation.sam import FAST, FULL, SAMS, Network, SamMasks, Search, load, published, published_fast
from spf.evaluation.segmentation import FastSegCons, SegCons
from spf.evaluation.weights import WeightsAbsent
from spf.text import Prompt
from tests.evaluation.published import read_manifest

PROMPTS = [Prompt("a woman", "a hat")] * 2
SMALL = Search(points_per_side=6, points_per_batch=8)


def tiny_sam() -> Sam:
    """SAM's parts, for 128 pixels, with both kinds of attention."""
    encoder = ImageEncoderViT(
        img_size=128, embed_dim=32, depth=2, num_heads=2, out_chans=64, use_rel_pos=True, window_size=3,
        global_attn_indexes=(1,), norm_layer=partial(nn.LayerNorm, eps=1e-6))
    prompts = PromptEncoder(embed_dim=64, image_embedding_size=(8, 8), input_image_size=(128, 128), mask_in_chans=4)
    decoder = MaskDecoder(
        transformer_dim=64, transformer=TwoWayTransformer(depth=2, embedding_dim=64, num_heads=2, mlp_dim=32),
        iou_head_hidden_dim=16)
    return Sam(encoder, prompts, decoder).eval()


@pytest.fixture(scope="module")
def sam() -> Sam:
    """Random, but it sees small things at several places, and is as sure of some of them as a trained one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = tiny_sam()
        nn.init.normal_(network.image_encoder.pos_embed, std=4.0)
    for name, weight in network.mask_decoder.transformer.named_parameters():
        weight.data *= 6 if name.endswith("proj.weight") else 1
    for mlp in network.mask_decoder.output_hypernetworks_mlps:
        mlp.layers[-1].weight.data *= 1000
        mlp.layers[-1].bias.data[:] = -1000
    surety = network.mask_decoder.iou_prediction_head.layers[-1]
    surety.weight.data *= 4
    surety.bias.data[:] = 0.9
    return network.requires_grad_(False)


def picture(high: int, wide: int, seed: int = 0) -> Tensor:
    """Blots of colour."""
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (nn.functional.interpolate(coarse, (high, wide), mode="bicubic").clamp(0, 1)[0] * 255).to(torch.uint8)


def by_the_library(sam: Sam, image: Tensor, search: Search) -> Tensor:
    generator = SamAutomaticMaskGenerator(
        sam, search.points_per_side, search.points_per_batch, search.predicted_iou, search.stability,
        box_nms_thresh=search.nms)
    found = generator.generate(image.permute(1, 2, 0).numpy())
    return torch.from_numpy(np.array([one["segmentation"] for one in found], bool)).view(len(found), *image.shape[1:])


@pytest.mark.parametrize("size", [(64, 64), (128, 96), (50, 71)])
def test_masks_are_those_of_the_library_s_generator(sam: Sam, size: tuple[int, int]) -> None:
    image, doubled = picture(*size), replace(SMALL, nms=1.0)
    searches = (SMALL, doubled, replace(doubled, predicted_iou=-9.0), replace(doubled, stability=0.1))
    found = [SamMasks(sam, search)(image) for search in searches]
    assert all(torch.equal(ours, by_the_library(sam, image, search))
               for ours, search in zip(found, searches, strict=True))
    counts = list(map(len, found))
    assert 1 < counts[0] < counts[1] < min(counts[2:])  # every threshold had work to do


def test_its_defaults_are_the_generator_s(sam: Sam) -> None:
    assert vars(FULL) == {"points_per_side": 32, "points_per_batch": 64, "predicted_iou": 0.88, "stability": 0.95,
                          "nms": 0.7}
    library = SamAutomaticMaskGenerator(sam)
    assert [library.points_per_batch, library.pred_iou_thresh, library.stability_score_thresh, library.box_nms_thresh,
            library.stability_score_offset] == [FULL.points_per_batch, FULL.predicted_iou, FULL.stability, FULL.nms, 1]
    assert np.array_equal(library.point_grids[0], SamMasks(sam).grid)
    assert FAST == replace(FULL, points_per_side=16)


def test_the_same_image_has_the_same_masks_and_a_blank_one_none(sam: Sam) -> None:
    masks = SamMasks(sam, SMALL)
    metric = SegCons(masks, masks.about("tiny", "random"))
    images = torch.stack([picture(96, 96), picture(96, 96, 1)])
    first, again = metric.encode(images, PROMPTS, None), metric.encode(images, PROMPTS, None)
    assert all(torch.equal(a[part], b[part]) for a, b in zip(first, again, strict=True) for part in a)
    assert [row["seg_cons"] for row in metric.score(first, again, PROMPTS)] == [100, 100]
    assert metric.score(first[:1], first[1:], PROMPTS[:1])[0]["seg_cons"] < 100
    unsure = SamMasks(sam, replace(SMALL, predicted_iou=9.0))
    assert unsure(images[0]).shape == (0, 96, 96)
    blank = SegCons(unsure, {}).encode(images[:1], PROMPTS[:1], None)
    assert metric.score(blank, blank, PROMPTS[:1]) == [{"seg_empty": 1.0}]


def test_a_published_file_is_read_strictly(sam: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {name: replace(SAMS[name].weights, sha256="") for name in SAMS}  # random weights have another hash
    for name in SAMS:
        monkeypatch.setitem(SAMS, name, Network(weights[name], tiny_sam))
        torch.save(sam.state_dict(), tmp_path / weights[name].file)
    images = torch.stack([picture(64, 64), picture(64, 64, 1)])
    for metric, key in ((published(tmp_path), "seg_cons"), (published_fast(tmp_path), "seg_cons_fast")):
        encodings = metric.encode(images, PROMPTS, None)
        row, = metric.score(encodings[:1], encodings[1:], PROMPTS[:1])
        assert 0 < row[key] < 100 and len(metric.describe()["masks"]["sha256"]) == 64
    assert isinstance(metric, FastSegCons) and metric.describe()["masks"]["network"] == "SAM ViT-B"
    network, device = SAMS["vit_l"], torch.device("cpu")
    assert torch.equal(load(network, tmp_path, device, SMALL)[0](images[0]), SamMasks(sam, SMALL)(images[0]))
    missing = dict(list(sam.state_dict().items())[1:])
    torch.save(missing, tmp_path / network.weights.file)
    with pytest.raises(ValueError, match="does not fit Sam: Missing key"):
        load(network, tmp_path, device)
    with pytest.raises(WeightsAbsent, match="curl -L .*sam_vit_h_4b8939.pth"):
        published(tmp_path / "nowhere")


@pytest.mark.parametrize("name", list(SAMS))
def test_published_keys_and_shapes(name: str) -> None:
    with torch.device("meta"):
        built = SAMS[name].build().state_dict()
    assert {key: tuple(value.shape) for key, value in built.items()} == read_manifest(f"sam_{name}")
