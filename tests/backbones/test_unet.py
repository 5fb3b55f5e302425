"""Stable Diffusion 1.5: its layers, its text features, its checkpoints in every form."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from spf.backbones import Backbone
from spf.backbones.loading import read_single_file
from spf.backbones.unet import SD15_CONFIG, UNetBackbone
from spf.text import Prompt
from tests.backbones.original_layout import write_single_file


def test_sixteen_layers_in_forward_order(backbone: Backbone, prompt: Prompt) -> None:
    order, names = [], list(backbone.projections())
    for name in names:
        backbone.denoiser.get_submodule(name).register_forward_hook(lambda *_, name=name: order.append(name))
    x_t, t = torch.zeros(1, *backbone.latent_shape()), torch.tensor([5])
    attention = backbone.denoise(x_t, t, backbone.condition([prompt]), capture=True).attention
    assert order == names == [record.layer for record in attention]
    sides = [8, 8, 4, 4, 2, 2, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8]
    assert [record.grid for record in attention] == [(side, side) for side in sides]
    assert all(record.query.shape[1] == 8 for record in attention)


def test_a_unet_without_attention_at_some_levels(backbone: Backbone, prompt: Prompt) -> None:
    """The miniature's: three levels, none at the lowest, 16 latent channels."""
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=16,
        out_channels=16,
        block_out_channels=(32, 32, 64),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )
    text = (backbone.encoders["text_encoder"], backbone.tokenizers["tokenizer"])
    small = UNetBackbone(unet, backbone.vae, *text, backbone.scheduler)
    x_t, t = torch.zeros(1, 16, 16, 16), torch.tensor([5])
    attention = small.denoise(x_t, t, small.condition([prompt]), capture=True).attention
    assert [record.grid for record in attention] == [(16, 16), (8, 8), (8, 8), (8, 8), (16, 16), (16, 16)]


def test_attention_parameters_are_the_projections_of_cross_attention(backbone: Backbone) -> None:
    names = backbone.attention_parameters()
    assert {name.split(".attn2.")[1] for name in names} == {
        "to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight", "to_out.0.bias",
    }  # fmt: skip
    assert len(names) == 16 * 5


def test_the_packaged_configuration_is_sd15() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(SD15_CONFIG / "unet"))
    sizes = {name: weight.numel() for name, weight in unet.named_parameters()}
    assert sum(sizes.values()) == 859_520_964
    assert round(sum(size for name, size in sizes.items() if ".attn2." in name) / 1e6, 2) == 43.96


def test_clip_is_causal_so_base_features_are_equal_in_both_paths(backbone: Backbone, prompt: Prompt) -> None:
    response, reference = backbone.condition([prompt]), backbone.condition([prompt.base])
    base = reference.base_tokens[0]
    assert torch.equal(response.sequence[0][base], reference.sequence[0][base])
    assert not torch.equal(response.sequence[0][~base][1:], reference.sequence[0][~base][1:])


@pytest.fixture
def single_file(tiny_sd15: Path, tmp_path: Path) -> Path:
    write_single_file(tiny_sd15, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def read(file: Path, config: Path) -> UNetBackbone:
    return UNetBackbone.from_original(read_single_file(file), file, config)


def test_an_original_single_file_equals_its_folder(backbone: Backbone, tiny_sd15: Path, single_file: Path) -> None:
    loaded = read(single_file, tiny_sd15)
    expected = backbone.state_dict()
    assert expected.keys() == loaded.state_dict().keys()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    assert loaded.tokenizers["tokenizer"]("a cat").input_ids == [49406, 320, 2368, 49407]


def test_a_ckpt_is_refused_with_a_command_that_converts_it(tiny_sd15: Path, single_file: Path) -> None:
    weights, pickled = load_file(single_file), single_file.with_suffix(".ckpt")
    torch.save({"state_dict": weights | {"tied": next(iter(weights.values()))}, "global_step": 7}, pickled)
    single_file.unlink()
    with pytest.raises(ValueError, match="can run code") as refusal:
        read(pickled, tiny_sd15)
    command = re.search(r'`python -c "(.*?)"`', str(refusal.value))
    exec(command[1], {})
    assert all(torch.equal(value, weights.get(key, value)) for key, value in load_file(single_file).items())
    assert weights.keys() < load_file(single_file).keys()


@pytest.mark.parametrize(("absent", "named"), [
    ("out.2.bias", r": conv_out\.bias is missing\. Download"),
    ("input_blocks.3.0.op.bias", r"down_blocks\.0\.downsamplers\.0\.conv\.bias is missing"),
    ("time_embed.0.weight", r"time_embed"),
])
def test_a_single_file_that_lacks_a_weight_is_refused(absent: str, named: str, tiny_sd15: Path,
                                                      single_file: Path) -> None:
    weights = load_file(single_file)
    del weights[f"model.diffusion_model.{absent}"]
    save_file(weights, single_file)
    with pytest.raises(ValueError, match=rf"model\.safetensors.*{named}"):
        read(single_file, tiny_sd15)


def test_a_single_file_of_another_size_is_refused(tiny_sd15: Path, single_file: Path) -> None:
    weights = load_file(single_file)
    weights["model.diffusion_model.out.2.bias"] = torch.ones(9)
    save_file(weights, single_file)
    with pytest.raises(ValueError, match=r"conv_out\.bias has shape \(9,\), not \(4,\)"):
        read(single_file, tiny_sd15)


def test_a_random_denoiser_needs_only_its_configuration(tiny_sd15: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_sd15, tmp_path / "base")
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    torch.manual_seed(3)
    first = UNetBackbone.from_folder(folder, random_denoiser=True).denoiser.state_dict()
    torch.manual_seed(3)
    again = UNetBackbone.from_folder(folder, random_denoiser=True).denoiser.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
