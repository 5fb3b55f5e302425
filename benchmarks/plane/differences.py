"""Fine-tuned weights small enough to ship: their difference to the weights before, 8 bits each."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from plane.album import save_whole

FP8 = torch.float8_e4m3fn
SCALE = ".scale"


def save_difference(before: Mapping[str, Tensor], after: Mapping[str, Tensor], file: Path) -> None:
    """Write ``after - before`` of the tensors that differ: float8 at key, its float32 scale at key + ".scale".

    Each value comes back to within 1/16 of itself, or 2^-19 of its tensor's largest. Raises ValueError where the two
    have other keys or shapes.
    """
    shapes = [{key: value.shape for key, value in state.items()} for state in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError("the weights before and after are of two models: their keys or shapes differ")
    tensors: dict[str, Tensor] = {}
    for key in after:
        difference = after[key].detach().float().cpu() - before[key].detach().float().cpu()
        if difference.any():
            scale = difference.abs().max() / torch.finfo(FP8).max
            tensors[key], tensors[key + SCALE] = (difference / scale).to(FP8).contiguous(), scale
    save_whole(tensors, file)


@torch.no_grad()
def apply_difference(model: nn.Module, file: Path) -> None:
    """Add a saved difference to the weights of ``model``, in place.

    Raises FileNotFoundError without the file; ValueError, before any weight has changed, where it does not fit.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no difference {file}; `purity.py --ship STAGE1 STAGE2` writes it")
    stored, own = load_file(file), model.state_dict()
    keys = [key for key in stored if not key.endswith(SCALE)]
    wrong = [key for key in keys if key + SCALE not in stored or key not in own or own[key].shape != stored[key].shape]
    if wrong:
        raise ValueError(f"{file} does not fit the model: {wrong[0]} is no weight of it, of this shape, with a scale")
    for key in keys:  # a state dict shares its model's memory
        own[key].add_((stored[key].float() * stored[key + SCALE]).to(own[key]))
