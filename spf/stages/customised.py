"""A training checkpoint read back as a pair: the original model and the customised one."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from spf.backbones import Backbone, load_backbone
from spf.backbones.loading import pickle_refused

PREFIX = "backbone.denoiser."


def load_customised(checkpoint: str | Path, base: str | None = None, ema: bool = False) -> tuple[Backbone, Backbone]:
    """(original, customised) models, in float32 on the CPU.

    Args:
        checkpoint: a training checkpoint (.ckpt, which names its base model), or whatever ``load_backbone`` reads.
        base: the original model, needed in the second case.
        ema: take the averaged weights of the training, not its last ones.

    Raises FileNotFoundError, or ValueError where the weights do not fit the base model or there are no averaged ones.
    """
    path = Path(checkpoint)
    if path.suffix != ".ckpt":
        if base is None:
            raise ValueError(f"{checkpoint} is no training checkpoint (.ckpt): say with --base what it was tuned from")
        if ema:
            raise ValueError(f"{checkpoint} is no training checkpoint (.ckpt): only those hold averaged weights")
        return load_backbone(base), load_backbone(checkpoint)
    state = _read(path)
    original = load_backbone(base or state["hyper_parameters"]["base"])
    customised = original.frozen_copy()
    learnt = _averaged(state, path) if ema else state["state_dict"]
    try:
        customised.denoiser.load_state_dict({name.removeprefix(PREFIX): value for name, value in learnt.items()})
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit its base model: {error}") from error
    return original, customised


def _read(path: Path) -> dict[str, Any]:
    """A training checkpoint, without running pickled code."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except UnpicklingError as error:
        raise pickle_refused(path) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint of spf; use an earlier one beside it") from error
    if "base" not in state.get("hyper_parameters", {}):
        raise pickle_refused(path)
    return state


def _averaged(state: dict[str, Any], path: Path) -> dict[str, Tensor]:
    if "ema" not in state:
        raise ValueError(f"{path} holds no averaged weights: it was trained without --ema.decay")
    return state["ema"]["weights"]
