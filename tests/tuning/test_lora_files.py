"""A LoRA's files in a stock pipeline: they give our image, whatever alpha and ranks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusion3Pipeline, StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from spf.backbones import Backbone, load_backbone
from spf.notation import LowRank
from spf.sampling import generate, initial_noise
from spf.text import Prompt
from spf.tuning import AdaLoRA, LoRA
from spf.tuning.lora_files import LAYOUTS, save_diffusers, save_kohya
from tests.tuning.learnt import learnt, pruned

FILE = "pytorch_lora_weights.safetensors"
LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0"
TEXT = "a woman, blonde hair"


@pytest.fixture
def theirs(tiny_sd15: Path) -> Callable[[Path | None], Tensor]:
    """The image of a stock pipeline, with what a file or folder adds: (3,H,W)."""
    def image(added: Path | None) -> Tensor:
        pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd15)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
        if added:
            pipeline.load_lora_weights(added)
        return pipeline(TEXT, num_inference_steps=3, guidance_scale=4, latents=initial_noise([7], (4, 8, 8)),
                        output_type="pt").images[0]

    return image


def ours(backbone: Backbone) -> Tensor:
    return generate(backbone, [Prompt(TEXT)], [7], steps=3, guidance_scale=4, chunk=1, progress=False)[0]


def of_lora(backbone: Backbone) -> LowRank:
    return LoRA(3, 7).merge(learnt(LoRA(3, 7), backbone, 0.15))


def of_adalora(backbone: Backbone) -> LowRank:
    tuning = AdaLoRA(2, 3, alpha=7)
    return tuning.merge(pruned(backbone, tuning))


def out(layout: str, folder: Path) -> Path:
    return folder / "lora.safetensors" if layout == "kohya" else folder


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("made", [of_lora, of_adalora])
def test_a_stock_pipeline_makes_our_image(made: Callable[[Backbone], LowRank], layout: str, backbone: Backbone,
                                          theirs: Callable[[Path | None], Tensor], tmp_path: Path) -> None:
    low_rank = made(backbone)
    LAYOUTS[layout](low_rank, backbone, out(layout, tmp_path), torch.float32)
    image = ours(backbone)
    assert (theirs(out(layout, tmp_path)) - image).abs().max() < 1 / 255
    assert (theirs(None) - image).abs().max() > 10 / 255
    LAYOUTS[layout](LowRank(low_rank.layers, 2), backbone, out(layout, tmp_path / "another_alpha"), torch.float32)
    assert (theirs(out(layout, tmp_path / "another_alpha")) - image).abs().max() > 5 / 255


@pytest.mark.parametrize("made", [of_lora, of_adalora])
def test_stock_stable_diffusion_3_makes_our_image(made: Callable[[Backbone], LowRank], tiny_sd35: Path,
                                                  tmp_path: Path) -> None:
    backbone = load_backbone(tiny_sd35)
    noise = initial_noise([7], backbone.latent_shape())
    before = ours(backbone)
    save_diffusers(made(backbone), backbone, tmp_path, torch.float32)
    pipeline = StableDiffusion3Pipeline.from_pretrained(tiny_sd35)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(tmp_path)
    theirs = pipeline(TEXT, num_inference_steps=3, guidance_scale=4, latents=noise, output_type="pt").images[0]
    assert torch.allclose(theirs, ours(backbone), atol=1 / 255) and not torch.allclose(theirs, before, atol=4 / 255)


def test_the_layout_of_diffusers_says_alpha_and_ranks(backbone: Backbone, tmp_path: Path) -> None:
    low_rank = of_adalora(backbone)
    save_diffusers(low_rank, backbone, tmp_path, torch.float16)
    weights = load_file(tmp_path / FILE)
    assert weights.keys() == {f"unet.{layer}.lora.{side}.weight" for layer in low_rank.layers
                              for side in ("down", "up")}
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    with safe_open(tmp_path / FILE, "pt") as file:
        said = json.loads(file.metadata()["lora_adapter_metadata"])
    assert said["unet.lora_alpha"] == 7 and said["unet.target_modules"] == sorted(low_rank.layers)
    ranks = {layer: said["unet.rank_pattern"].get(layer, said["unet.r"]) for layer in low_rank.layers}
    assert ranks == {layer: len(down) for layer, (down, _) in low_rank.layers.items()} and len(set(ranks.values())) == 3


def test_the_layout_of_kohya_names_a_layer_as_its_scripts_do(backbone: Backbone, tmp_path: Path) -> None:
    low_rank = of_lora(backbone)
    save_kohya(low_rank, backbone, tmp_path / "lora.safetensors", torch.float16)
    weights, name = load_file(tmp_path / "lora.safetensors"), "lora_unet_" + LAYER.replace(".", "_")
    assert len(weights) == 3 * len(low_rank.layers)
    assert weights[f"{name}.alpha"] == 7 and weights[f"{name}.lora_down.weight"].shape == (3, 32)
    assert torch.equal(weights[f"{name}.lora_up.weight"], low_rank.layers[LAYER][1].half())
    with safe_open(tmp_path / "lora.safetensors", "pt") as file:
        assert file.metadata() == {"ss_network_module": "networks.lora", "ss_base_model_version": "sd_v1",
                                   "ss_network_dim": "3", "ss_network_alpha": "7.0", "format": "pt"}


def test_kohya_calls_unequal_ranks_dynamic(backbone: Backbone, tmp_path: Path) -> None:
    save_kohya(of_adalora(backbone), backbone, tmp_path / "lora.safetensors", torch.float32)
    with safe_open(tmp_path / "lora.safetensors", "pt") as file:
        assert file.metadata()["ss_network_dim"] == "Dynamic"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_there_is_not_overwritten(layout: str, backbone: Backbone, tmp_path: Path) -> None:
    low_rank = of_lora(backbone)
    LAYOUTS[layout](low_rank, backbone, out(layout, tmp_path), torch.float32)
    before = [file.read_bytes() for file in sorted(tmp_path.iterdir())]
    with pytest.raises(FileExistsError, match="is there; give another name"):
        LAYOUTS[layout](low_rank, backbone, out(layout, tmp_path), torch.float32)
    assert [file.read_bytes() for file in sorted(tmp_path.iterdir())] == before and len(before) == 1


def test_kohya_is_one_file_and_of_a_unet(backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    low_rank = of_lora(backbone)
    with pytest.raises(ValueError, match="a single file: give one that ends with .safetensors, not .*folder"):
        save_kohya(low_rank, backbone, tmp_path / "folder", torch.float32)
    monkeypatch.setattr(backbone, "denoiser_folder", "transformer")
    with pytest.raises(ValueError, match="is for Stable Diffusion 1.5"):
        save_kohya(low_rank, backbone, tmp_path / "lora.safetensors", torch.float32)
