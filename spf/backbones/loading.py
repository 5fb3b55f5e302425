"""From a base model's name, folder, hub id or file to its parts: strict about weights, plain about what is missing."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from diffusers import DiffusionPipeline
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

BASES: dict[str, str] = {
    "miniature": str(files("spf") / "miniature" / "weights"),
    "miniature_mmdit": str(files("spf") / "miniature" / "weights_mmdit"),
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "realistic-vision": "SG161222/Realistic_Vision_V4.0_noVAE",
    "sd35m": "stabilityai/stable-diffusion-3.5-medium",
}
"""Short names of base models: a folder or an id on the Hugging Face hub (the paper's three, and our miniatures)."""

OPENRAIL = "Stable Diffusion 1.5 and its derivatives have the CreativeML OpenRAIL-M licence"
LICENCES = {BASES["sd35m"]: "It has the Stability AI Community License: accept it on the hub, then `hf auth login`"}

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HARMLESS = re.compile(r"(?:.*\.)?position_ids")  # a buffer that older transformers wrote among the weights
UNUSED = {"text_projection.weight"}  # what a file of CLIP's text tower may have, and its sequence does not need
SHOWN = 5  # faults of a file that an error names

Model = TypeVar("Model", bound=nn.Module)


def base_folder(base: str) -> Path:
    """The local diffusers folder of a base model, downloaded to the hub's cache where ``base`` is a hub id.

    Raises FileNotFoundError with what to do when it is neither here nor reachable.
    """
    folder = Path(base).expanduser()
    if folder.is_dir():
        return folder
    for name in ("miniature", "miniature_mmdit"):
        if base == BASES[name]:
            raise FileNotFoundError(f"the weights of {name} are not at {base}: reinstall spf, or run "
                                    f"`make miniature BASE={name}`")
    if not HUB_ID.fullmatch(base):
        raise FileNotFoundError(_how_to_get(base))
    try:
        return Path(DiffusionPipeline.download(base, safety_checker=None, feature_extractor=None))
    except Exception as error:  # the hub's client raises a dozen kinds, and all of them mean the same to a reader
        raise FileNotFoundError(_how_to_get(base)) from error


def _how_to_get(base: str) -> str:
    source = base if HUB_ID.fullmatch(base) else BASES["sd15"]
    return (
        f"base model {base!r} is no folder or file here and cannot be fetched from the hub. "
        f"{LICENCES.get(source, OPENRAIL)}; where there is a network, run `hf download {source} "
        f"--local-dir models/{source.split('/')[-1]}`, then give that folder as the base model"
    )


def load_weights(kind: type[Model], folder: Path) -> Model:
    """A diffusers or transformers model from its folder, in float32: every weight from the file, or an error.

    Raises FileNotFoundError without config or weights, ValueError for a missing, unexpected or wrong-shaped weight.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder / 'config.json'} is missing; download the base model again")
    try:
        with _libraries_silent():
            model, report = kind.from_pretrained(
                folder, local_files_only=True, ignore_mismatched_sizes=True, output_loading_info=True
            )
    except OSError as error:
        raise FileNotFoundError(f"{folder}: no readable weights; download the base model again") from error
    _insist_on_every_weight(report, folder)
    return model.float()


def read_single_file(file: Path) -> dict[str, Tensor]:
    """The weights of an original SD 1.5 checkpoint, in its own names.

    Raises ValueError when the file is no .safetensors, cannot be read, or holds no UNet where SD 1.5 has it.
    """
    if file.suffix != ".safetensors":
        raise pickle_refused(file)
    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} cannot be read: {error}; download it again") from error
    if not any(key.startswith("model.diffusion_model.middle_block.") for key in weights):
        raise ValueError(f"{file} is no SD 1.5 checkpoint: it holds no model.diffusion_model.middle_block")
    return weights


def pickle_refused(file: Path) -> ValueError:
    """The error for a pickled model (.ckpt, .bin), with the command that converts it; torch reads it without code."""
    converted = file.with_suffix(".safetensors")
    command = (
        "import torch; from safetensors.torch import save_file; "
        f"w = torch.load({str(file)!r}, map_location='cpu', weights_only=True); w = w.get('state_dict', w); "
        "save_file({k: v.contiguous().clone() for k, v in w.items() if torch.is_tensor(v)}, "
        f"{str(converted)!r})"
    )
    return ValueError(
        f"{file} is a pickle, which can run code when it is read: no model is read from one. Download the model as "
        f'.safetensors, or convert by `python -c "{command}"` (which refuses one that holds more than weights) and '
        f"give {converted}; a training checkpoint of spf becomes a model by `spf export`"
    )


def fill(model: Model, weights: Mapping[str, Tensor], file: Path) -> Model:
    """The model with every weight from ``weights`` (converted from ``file``), in float32, or ValueError."""
    weights = {key: value for key, value in weights.items() if value is not None}  # diffusers' word for absent
    own = model.state_dict()
    report = {
        "missing_keys": own.keys() - weights.keys(),
        "unexpected_keys": weights.keys() - own.keys(),
        "mismatched_keys": [
            (key, weights[key].shape, own[key].shape)
            for key in own.keys() & weights.keys()
            if weights[key].shape != own[key].shape
        ],
    }
    _insist_on_every_weight(report, file)
    model.load_state_dict(dict(weights), strict=False)
    return model.float()


@contextmanager
def _libraries_silent() -> Iterator[None]:
    """Our error names the faults in one line; the libraries' own reports of them run over pages."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _insist_on_every_weight(report: Mapping[str, Any], source: Path) -> None:
    faults = [(key, "is missing") for key in report["missing_keys"]]
    faults += [(key, "is unexpected") for key in set(report["unexpected_keys"]) - UNUSED]
    faults += [(key, f"has shape {tuple(has)}, not {tuple(due)}") for key, has, due in report["mismatched_keys"]]
    lines = sorted(f"{key} {fault}" for key, fault in faults if not HARMLESS.fullmatch(key))
    if lines:
        more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        raise ValueError(
            f"{source}: the weights do not fit the configuration: {'; '.join(lines[:SHOWN])}{more}. Download the base "
            "model again, or give the configuration that belongs to these weights"
        )
