"""Original single files, there and back: read by diffusers' converters, and never with tables of our own."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import (
    CHECKPOINT_KEY_NAMES,
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_sd3_transformer_checkpoint_to_diffusers,
    infer_diffusers_model_type,
)
from safetensors.torch import load_file
from torch import Tensor

from spf.backbones import Backbone, load_backbone
from spf.backbones.original_names import DENOISER, transformer_state, unet_state
from spf.backbones.unet import SD15_CONFIG, UNetBackbone
from spf.sampling import generate, initial_noise
from spf.text import Prompt
from tests.backbones.original_layout import write_single_file
from tests.backbones.original_sd35 import lay_out
from tests.sd35 import tiny_sd35 as narrow_sd35

TEXT = "a woman, blonde hair"


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Names, shapes, precision and every bit."""
    return one.keys() == other.keys() and all(
        value.dtype == other[name].dtype and torch.equal(value, other[name]) for name, value in one.items())


def present(converted: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    return {name: value for name, value in converted.items() if value is not None}


# ---- what diffusers' converters make of our names ----


@pytest.mark.parametrize("base", ["tiny_sd15", "miniature"])
def test_a_unet_model_is_what_diffusers_reads(base: str, tiny_sd15: Path) -> None:
    """The miniature has three levels, one layer in each, and nothing at the lowest but resnets."""
    model = load_backbone(tiny_sd15 if base == "tiny_sd15" else base)
    state, (unet, vae) = model.original_state(), (model.denoiser, model.vae)
    assert equal(present(convert_ldm_unet_checkpoint(state, unet.config)), unet.state_dict())
    assert equal(present(convert_ldm_vae_checkpoint(state, vae.config)), vae.state_dict())
    text = {name.removeprefix("text_model."): value for name, value in convert_ldm_clip_checkpoint(state).items()}
    assert equal(text, model.encoders["text_encoder"].state_dict())


@pytest.mark.parametrize("transformer", [
    {}, {"dual_attention_layers": ()}, {"dual_attention_layers": (0, 1), "num_layers": 4}, {"qk_norm": None},
    {"num_layers": 1, "dual_attention_layers": ()},
], ids=str)
def test_a_transformer_is_what_diffusers_reads(transformer: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = narrow_sd35(t5=False, **transformer)
    with torch.no_grad():
        for weight in model.denoiser.parameters():  # norms begin as ones, biases of modulations as zeros
            weight.normal_()
    state = model.original_state()
    assert equal(convert_ldm_vae_checkpoint(state, model.vae.config), model.vae.state_dict())
    weights = {name: weight for name, weight in state.items() if name.startswith(DENOISER)}
    assert equal(convert_sd3_transformer_checkpoint_to_diffusers(weights), model.denoiser.state_dict())
    assert weights == {}, "the converter takes each weight that it reads"


def test_diffusers_knows_the_models_of_full_size() -> None:
    """By names and shapes, as it does where it is given a file alone."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(SD15_CONFIG / "unet"))
        transformer = SD3Transformer2DModel(
            num_layers=24, num_attention_heads=24, caption_projection_dim=1536, pos_embed_max_size=384,
            dual_attention_layers=tuple(range(13)), qk_norm="rms_norm")
    first, medium = unet_state(unet), transformer_state(transformer)
    assert CHECKPOINT_KEY_NAMES["v1"] in first and infer_diffusers_model_type(medium) == "sd35_medium"
    assert shapes(convert_ldm_unet_checkpoint(first, unet.config)) == shapes(unet.state_dict())
    assert shapes(convert_sd3_transformer_checkpoint_to_diffusers(medium)) == shapes(transformer.state_dict())


def shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in state.items()}


def test_the_attention_of_a_vae_has_its_first_names_and_is_convolution(backbone: Backbone) -> None:
    name, ours = "first_stage_model.decoder.mid.attn_1", backbone.vae.decoder.mid_block.attentions[0]
    state = backbone.original_state()
    for first, layer in {"q": ours.to_q, "k": ours.to_k, "v": ours.to_v, "proj_out": ours.to_out[0]}.items():
        assert torch.equal(state[f"{name}.{first}.weight"], layer.weight[:, :, None, None])
        assert torch.equal(state[f"{name}.{first}.bias"], layer.bias)
    assert torch.equal(state[f"{name}.norm.weight"], ours.group_norm.weight)


# ---- an original file, read and written again ----


@pytest.fixture
def sd15_file(tiny_sd15: Path, tmp_path: Path) -> Path:
    write_single_file(tiny_sd15, tmp_path / "original.safetensors")
    return tmp_path / "original.safetensors"


@pytest.fixture
def sd35_file(tiny_sd35: Path, tmp_path: Path) -> Path:
    return lay_out(tiny_sd35, tmp_path / "sd35")


@pytest.fixture(params=["sd15", "sd35"])
def file_and_reader(request: pytest.FixtureRequest, tiny_sd15: Path) -> tuple[Path, Callable[[Path], Backbone]]:
    """An original file, and how such a one is read: of SD 1.5 with the narrow model's configuration."""
    if request.param == "sd35":
        return request.getfixturevalue("sd35_file"), load_backbone
    return request.getfixturevalue("sd15_file"), lambda file: UNetBackbone.from_original(
        load_file(file), file, tiny_sd15)


def test_an_original_file_comes_back_bit_for_bit(file_and_reader: tuple[Path, Callable[[Path], Backbone]],
                                                 tmp_path: Path) -> None:
    file, read = file_and_reader
    read(file).save_single_file(tmp_path / "again.safetensors")
    assert equal(load_file(tmp_path / "again.safetensors"), load_file(file))


def test_a_model_paints_the_same_from_its_file(file_and_reader: tuple[Path, Callable[[Path], Backbone]],
                                               prompt: Prompt) -> None:
    file, read = file_and_reader
    model, again = read(file), file.with_name("again.safetensors")
    with torch.no_grad():
        for weight in model.denoiser.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    model.save_single_file(again)
    images = [generate(one, [prompt], [7], steps=2, guidance_scale=4, chunk=1, progress=False)
              for one in (model, read(again), read(file))]
    assert torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])


# ---- stock pipelines, without a network ----


def test_a_stock_pipeline_reads_our_file(backbone: Backbone, tiny_sd15: Path, tmp_path: Path) -> None:
    backbone.save_single_file(tmp_path / "model.safetensors")
    pipeline = StableDiffusionPipeline.from_single_file(
        tmp_path / "model.safetensors", config=str(tiny_sd15), local_files_only=True)
    assert_same_model(pipeline, StableDiffusionPipeline.from_pretrained(tiny_sd15), ("unet", "vae", "text_encoder"))


def test_a_stock_pipeline_reads_our_transformer_and_vae(tiny_sd35: Path, tmp_path: Path) -> None:
    load_backbone(tiny_sd35).save_single_file(tmp_path / "model.safetensors")
    folder = StableDiffusion3Pipeline.from_pretrained(tiny_sd35)
    encoders = {name: folder.components[name] for name in ("text_encoder", "text_encoder_2", "text_encoder_3")}
    pipeline = StableDiffusion3Pipeline.from_single_file(
        tmp_path / "model.safetensors", config=str(tiny_sd35), local_files_only=True, **encoders)
    assert_same_model(pipeline, folder, ("transformer", "vae"))


def assert_same_model(read: Any, expected: Any, parts: Sequence[str]) -> None:
    """Weights bit for bit; the image but for rounding, as the weights that a converter slices lie otherwise."""
    for part in parts:
        assert getattr(read, part) is not getattr(expected, part)
        assert equal(getattr(read, part).state_dict(), getattr(expected, part).state_dict())
    assert (painted(read) - painted(expected)).abs().max() < 1e-5


def painted(pipeline: Any) -> Tensor:
    pipeline.set_progress_bar_config(disable=True)
    noise = initial_noise([7], (pipeline.vae.config.latent_channels, 8, 8))
    return pipeline(TEXT, num_inference_steps=2, height=64, width=64, latents=noise, output_type="pt").images


# ---- what has no name there ----


def test_a_layer_without_a_name_is_named() -> None:
    unet = UNet2DConditionModel(
        block_out_channels=(32, 32), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        cross_attention_dim=32, num_class_embeds=4)
    with pytest.raises(ValueError, match=r"^class_embedding\.weight has no name .* by --to diffusers"):
        unet_state(unet)
    transformer = narrow_sd35(t5=False).denoiser
    transformer.register_buffer("extra", torch.ones(1))
    with pytest.raises(ValueError, match="^extra has no name in an original checkpoint"):
        transformer_state(transformer)
