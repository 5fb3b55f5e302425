"""Fixtures of the whole house: a real SD 1.5, shrunk in width only, an SD 3.5, and no network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the same arithmetic everywhere, and no second process of this one

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from spf.backbones import Backbone, load_backbone
from spf.backbones.clip_bpe import clip_tokenizer
from spf.backbones.unet import SD15_CONFIG, UNetBackbone
from spf.text import Prompt
from tests.sd35 import tiny_sd35 as narrow_sd35

NARROW = {
    "unet": {"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 64, "sample_size": 8},
    "vae": {"block_out_channels": (32, 32, 32, 32), "sample_size": 64},
    "text_encoder": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Which tests came before, in this process or in another, changes nothing of what a test draws."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def tiny_sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder: SD 1.5's block types, 16 cross-attention layers and tokenizer; narrow, random, 64 pixels."""
    folder = tmp_path_factory.mktemp("bases") / "tiny_sd15"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _narrow_sd15().save(folder)
    return folder


def _narrow_sd15() -> Backbone:
    unet = UNet2DConditionModel.load_config(SD15_CONFIG / "unet")
    vae = AutoencoderKL.load_config(SD15_CONFIG / "vae")
    return UNetBackbone(
        UNet2DConditionModel.from_config({**unet, **NARROW["unet"]}),
        AutoencoderKL.from_config({**vae, **NARROW["vae"]}),
        CLIPTextModel(CLIPTextConfig.from_pretrained(SD15_CONFIG / "text_encoder", **NARROW["text_encoder"])),
        clip_tokenizer(),
        PNDMScheduler.from_pretrained(SD15_CONFIG / "scheduler"),
    )


@pytest.fixture(scope="session")
def tiny_sd35(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder: SD 3.5's parts, T5 among them; tiny, random, 64 pixels."""
    return _saved_sd35(tmp_path_factory.mktemp("bases") / "tiny_sd35", t5=True)


@pytest.fixture(scope="session")
def tiny_sd35_without_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without T5."""
    return _saved_sd35(tmp_path_factory.mktemp("bases") / "tiny_sd35_without_t5", t5=False)


def _saved_sd35(folder: Path, t5: bool) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        narrow_sd35(t5).save(folder)
    return folder


@pytest.fixture
def backbone(tiny_sd15: Path) -> Backbone:
    """A fresh backbone from the tiny folder: a test may train it."""
    return load_backbone(tiny_sd15)


@pytest.fixture
def prompt() -> Prompt:
    """The prompt of Fig. 3."""
    return Prompt("A woman in a brown jacket, with a curtain background", "blonde hair")
