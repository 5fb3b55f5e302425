"""A training checkpoint read back as models: the original, the customised one, and what stood between them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from spf.backbones import Backbone, load_backbone
from spf.backbones.loading import pickle_refused
from spf.notation import LowRank
from spf.tuning import TUNINGS

PREFIX = "backbone.denoiser."


@dataclass(frozen=True)
class Lineage:
    """A customised model and what it came from."""

    models: dict[str, Backbone]  # "original", "stage 1" where stage 2 started from one, and last the customised one
    clip: str | None = None  # which CLIP made its control maps; None where it was made without any
    exportable: bool = True  # whether the customised denoiser is one that any pipeline loads
    low_rank: LowRank | None = None  # what was added to the model before, where that is a LoRA


def load_lineage(checkpoint: str | Path, base: str | None = None, ema: bool = False,
                 start: str | None = None) -> Lineage:
    """The models, in float32 on the CPU.

    Args:
        checkpoint: a training checkpoint (.ckpt, which names its base model, and the stage 1 that it started from), or
            whatever ``load_backbone`` reads.
        base: the original model, needed in the second case.
        ema: take the averaged weights of the training, not its last ones.
        start: where the stage 1 lies now that a stage 2 started from; default: where it lay then.

    Raises FileNotFoundError, or ValueError where the weights do not fit the base model, base or start are not those of
    the training, or there are no averaged weights.
    """
    path = Path(checkpoint)
    if path.suffix != ".ckpt":
        if base is None:
            raise ValueError(f"{checkpoint} is no training checkpoint (.ckpt): say with --base what it was tuned from")
        if ema:
            raise ValueError(f"{checkpoint} is no training checkpoint (.ckpt): only those hold averaged weights")
        return Lineage({"original": load_backbone(base), "customised": load_backbone(checkpoint)})
    state = _read(path)
    made = state["hyper_parameters"]
    start = start or made.get("start")
    original, customised = start_models(base or made["base"], start)
    for part, before in state.get("hashes", {}).items():
        if before != weights_hash({"base": original, "start": customised}[part].denoiser):
            raise ValueError(f"{path}: its {part} has other weights than at its training; say with --{part} where the "
                             f"right one lies (now {base or made['base'] if part == 'base' else start})")
    models = {"original": original} | ({"stage 1": customised} if start else {})
    customised = customised.frozen_copy()
    options = dict(made.get("tuning", {"name": "Full"}))  # there was a time when stage 1 did not say
    tuning = TUNINGS[options.pop("name")](**options)
    tuning.apply(customised)
    _fill(customised.denoiser, _averaged(state, path) if ema else state["state_dict"], path)
    low_rank = tuning.merge(customised)
    customised.requires_grad_(False)
    models["stage 2" if made.get("clip") else "customised"] = customised
    return Lineage(models, made.get("clip"), tuning.exportable, low_rank)


def load_customised(checkpoint: str | Path, base: str | None = None, ema: bool = False) -> tuple[Backbone, Backbone]:
    """(original, customised) models; arguments and errors as of ``load_lineage``."""
    original, *_, customised = load_lineage(checkpoint, base, ema).models.values()
    return original, customised


def training_of(checkpoint: str | Path) -> dict[str, Any]:
    """What a result says of a training: its last ``step``, the ``samples`` it saw, and what it chose.

    The samples of the stage 1 that a stage 2 started from are among them. What it chose is the seed, the learning rate,
    the tuning, and of a stage 2 the objective by weight and whether there was an SFCM.

    Raises FileNotFoundError, or ValueError for a file that is no training checkpoint.
    """
    state = _read(Path(checkpoint))
    made = state["hyper_parameters"]
    before = training_of(made["start"])["samples"] if str(made.get("start")).endswith(".ckpt") else 0
    samples = state["PortraitData"]["samples_seen"] * state.get("samples_each", 1)
    chosen = {name: made[name] for name in ("seed", "learning_rate", "tuning", "objective", "sfcm") if name in made}
    return {"step": state["global_step"], "samples": before + samples, **chosen}


def start_models(base: str, start: str | None) -> tuple[Backbone, Backbone]:
    """(original, model that a stage starts with): the latter a copy of the original, or what ``start`` holds."""
    if start is not None:
        return load_customised(start, base)
    original = load_backbone(base)
    return original, original.frozen_copy()


def weights_hash(denoiser: nn.Module) -> str:
    """SHA-256 of the names and values of all weights."""
    digest = hashlib.sha256()
    for name, weight in denoiser.named_parameters():
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()


def _fill(denoiser: nn.Module, learnt: dict[str, Tensor], path: Path) -> None:
    """Every weight that learnt, none missing, none too many; what is not learnt stays."""
    learnt = {name.removeprefix(PREFIX): value for name, value in learnt.items()}
    due = {name for name, weight in denoiser.named_parameters() if weight.requires_grad}
    try:
        if faults := sorted(due ^ learnt.keys()):
            raise RuntimeError(f"{faults[0]} and {len(faults) - 1} more are missing or too many")
        denoiser.load_state_dict(learnt, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit its base model: {error}") from error


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
