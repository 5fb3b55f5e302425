"""`make miniature` in three steps a network, and what comes out of it is a base model like any other."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from spf.__main__ import main
from spf.backbones import load_backbone


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("miniature")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", out / "cache")
        steps = ["--steps", "{vae: 2, vae_second: 1, clip: 2, clip_second: 1, clip_image: 1, reader: 1, "
                 "reader_second: 1}"]
        main(["miniature", "--out", str(out), *steps, "--unet_steps", "2", "--portraits", "40"])
    return out / "weights"


def test_a_stock_pipeline_loads_it_and_paints(weights: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(weights)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a woman", num_inference_steps=2, output_type="np").images.shape == (1, 128, 128, 3)


def test_it_is_a_base_model_with_attention_at_two_levels(weights: Path) -> None:
    backbone = load_backbone(weights)
    assert not any(layer.startswith("mid_block") for layer in backbone.projections())
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}


def test_it_ships_in_half_precision_and_small_files(weights: Path) -> None:
    files = list(weights.rglob("*.safetensors"))
    assert {file.parent.name for file in files} == {"unet", "vae", "clip", "text_encoder", "reader"}
    assert max(file.stat().st_size for file in files) < 15 * 2**20
    assert sum(file.stat().st_size for file in files) < 36e6
