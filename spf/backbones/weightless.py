"""A base model's shape without its weights: networks on the meta device, of a configuration that is here already."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTextModel, T5TokenizerFast

from spf.backbones.base import Backbone
from spf.backbones.clip_bpe import clip_tokenizer
from spf.backbones.loading import BASES
from spf.backbones.mmdit import ABSENT, ENCODERS, TOKENIZERS, MMDiTBackbone, random_transformer
from spf.backbones.unet import SD15_CONFIG, UNetBackbone, random_unet

SD35M_CONFIG = Path(str(files("spf") / "backbones" / "sd35m"))
"""The configuration of Stable Diffusion 3.5 Medium, as published; its tokenizers are not in it."""
CONFIGS: Mapping[str, Path] = {BASES["sd15"]: SD15_CONFIG, BASES["realistic-vision"]: SD15_CONFIG,
                               BASES["sd35m"]: SD35M_CONFIG}
"""Bases whose configuration is known although their weights may be far."""


def weightless(base: str | Path) -> Backbone:
    """The base model, of ``base`` as ``load_backbone`` reads it, with its networks on the meta device.

    Texts are cut into as many tokens as with the model's own tokenizers, if not into the same ones where those are not
    here. Raises FileNotFoundError for a base that is neither known nor a folder or file here.
    """
    folder = _config_folder(BASES.get(str(base), str(base)))
    index = json.loads((folder / "model_index.json").read_text())
    kinds = {UNetBackbone.pipeline: _unet, MMDiTBackbone.pipeline: _mmdit}
    if index["_class_name"] not in kinds:
        raise ValueError(f"{folder} holds a {index['_class_name']}; backbones exist for {', '.join(kinds)}")
    return kinds[index["_class_name"]](folder, index)


def _config_folder(location: str) -> Path:
    path = CONFIGS.get(location, Path(location).expanduser())
    if path.is_file():  # one of SD 3.5 is read from the folder of its base model alone
        return path.parent if (path.parent / "model_index.json").is_file() else SD15_CONFIG
    if not (path / "model_index.json").is_file():
        raise FileNotFoundError(f"base model {location!r} is no diffusers folder here, and its configuration is not "
                                f"known: give its folder, or one of {', '.join(BASES)}")
    return path


def _unet(folder: Path, index: Mapping[str, Any]) -> UNetBackbone:
    unet, vae = _shape(random_unet, folder / "unet"), _shape(_vae, folder / "vae")
    text_encoder = _shape(_encoder(CLIPTextModel), folder / "text_encoder")
    tokenizer = _tokenizer("tokenizer", folder)
    return UNetBackbone(unet, vae, text_encoder, tokenizer, _scheduler(folder))


def _mmdit(folder: Path, index: Mapping[str, Any]) -> MMDiTBackbone:
    present = [name for name in ENCODERS if index.get(name, ABSENT) != ABSENT]
    encoders = {name: _shape(_encoder(ENCODERS[name]), folder / name) for name in present}
    tokenizers = {name: _tokenizer(name, folder) for name in (name.replace("text_encoder", "tokenizer")
                                                              for name in present)}
    transformer, vae = _shape(random_transformer, folder / "transformer"), _shape(_vae, folder / "vae")
    return MMDiTBackbone(transformer, vae, encoders, tokenizers, _scheduler(folder))


def _shape(make: Callable[[Path], nn.Module], folder: Path) -> nn.Module:
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder / 'config.json'} is missing; download the base model again")
    with torch.device("meta"):
        return make(folder).float()


def _vae(folder: Path) -> AutoencoderKL:
    return AutoencoderKL.from_config(AutoencoderKL.load_config(folder, local_files_only=True))


def _encoder(kind: Any) -> Callable[[Path], nn.Module]:
    return lambda folder: kind(kind.config_class.from_pretrained(folder, local_files_only=True))


def _scheduler(folder: Path) -> Any:
    solver = diffusers.DDIMScheduler.load_config(folder / "scheduler", local_files_only=True)["_class_name"]
    return getattr(diffusers, solver).from_pretrained(folder / "scheduler", local_files_only=True)


def _tokenizer(name: str, folder: Path) -> Any:
    """The base's own, or one that makes as many tokens."""
    if (folder / name).is_dir():
        return TOKENIZERS[name].from_pretrained(folder / name, local_files_only=True)
    if TOKENIZERS[name] is T5TokenizerFast:
        return T5TokenizerFast(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)], extra_ids=0)
    return clip_tokenizer()
