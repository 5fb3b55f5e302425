"""The shape of a base model without its weights, and the published sizes of those that are not here."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from spf.backbones import load_backbone
from spf.backbones.mmdit import MMDiTBackbone
from spf.backbones.weightless import SD35M_CONFIG, weightless
from spf.text import Prompt


def millions(part: nn.Module) -> float:
    return sum(weight.numel() for weight in part.parameters()) / 1e6


@pytest.mark.parametrize("base", ["tiny_sd15", "tiny_sd35", "tiny_sd35_without_t5"])
def test_it_is_the_model_without_its_weights(base: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(base)
    shape, model = weightless(folder), load_backbone(folder)
    assert {weight.device.type for weight in shape.parameters()} == {"meta"}
    sizes = [{name: (tuple(weight.shape), weight.dtype) for name, weight in one.named_parameters()}
             for one in (shape, model)]
    assert sizes[0] == sizes[1] and shape.attention_parameters() == model.attention_parameters()
    assert shape.latent_shape(64, 64) == model.latent_shape(64, 64)
    assert type(shape.process) is type(model.process) and type(shape.scheduler) is type(model.scheduler)


def test_stable_diffusion_1_5_has_its_published_size() -> None:
    model = weightless("realistic-vision")
    assert millions(model.denoiser) == pytest.approx(859.5, abs=0.1)
    names = dict(model.denoiser.named_parameters())
    assert sum(names[name].numel() for name in model.attention_parameters()) / 1e6 == pytest.approx(43.96, abs=0.01)


def test_stable_diffusion_3_5_medium_has_its_published_size() -> None:
    model = weightless("sd35m")
    names = dict(model.denoiser.named_parameters())
    assert millions(model.denoiser) == pytest.approx(2243, abs=0.5)
    assert sum(names[name].numel() for name in model.attention_parameters()) / 1e6 == pytest.approx(450.9, abs=0.05)
    assert sum(weight.numel() for name, weight in names.items() if ".attn2." in name) / 1e6 == pytest.approx(
        122.8, abs=0.05)
    sizes = {name: millions(encoder) for name, encoder in model.encoders.items()}
    published = {"text_encoder": 123.65, "text_encoder_2": 694.66, "text_encoder_3": 4762.31}
    assert sizes == pytest.approx(published, abs=0.01)
    assert model.latent_shape(1024, 1024) == (16, 128, 128)


def test_texts_have_as_many_tokens_as_the_models_own_tokenizers_make() -> None:
    long = Prompt("a woman " * 200).full_text
    lengths = {name: len(tokenizer([long], padding="max_length", truncation=True,
                                   max_length=min(256, tokenizer.model_max_length)).input_ids[0])
               for name, tokenizer in weightless("sd35m").tokenizers.items()}
    assert lengths == {"tokenizer": 77, "tokenizer_2": 77, "tokenizer_3": 256}


def test_a_single_file_is_of_the_folder_around_it_or_stable_diffusion_1_5(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    assert millions(weightless(file).denoiser) == pytest.approx(859.5, abs=0.1)
    shutil.copytree(SD35M_CONFIG, tmp_path, dirs_exist_ok=True)
    assert isinstance(weightless(file), MMDiTBackbone)


@pytest.mark.parametrize("base", ["models/nowhere", "someone/their-model"])
def test_an_unknown_base_is_said(base: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"'{base}' is no diffusers folder here, .* one of miniature, .*sd15"):
        weightless(base)


def test_another_pipeline_and_a_missing_config_are_said(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ValueError, match="holds a FluxPipeline"):
        weightless(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(FileNotFoundError, match=r"unet/config\.json is missing"):
        weightless(tmp_path)


def test_nothing_is_drawn() -> None:
    state = torch.get_rng_state()
    weightless("miniature")
    assert torch.equal(state, torch.get_rng_state())
