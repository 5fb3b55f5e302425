"""Fine-tuned weights small enough to ship: their difference to the weights before, 8 bits each."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from plane.album import save_whole

FP8 = torch.float8_e4m3fn
SCALE, UP, DOWN = ".scale", ".up", ".down"


def save_difference(before: Mapping[str, Tensor], after: Mapping[str, Tensor], file: Path,
                    rank: int | None = None) -> None:
    """Write ``after - before`` of the tensors that differ: float8 at key, its float32 scale at key + ".scale".

    Each value comes back to within 1/16 of itself, or 2^-19 of its tensor's largest. With ``rank`` a matrix or kernel
    is written as the nearest product of so low a rank, at key + ".up" and ".down", where that is smaller. Raises
    ValueError where the two have other keys or shapes.
    """
    shapes = [{key: value.shape for key, value in state.items()} for state in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError("the weights before and after are of two models: their keys or shapes differ")
    tensors: dict[str, Tensor] = {}
    for key in after:
        difference = after[key].detach().float().cpu() - before[key].detach().float().cpu()
        if difference.any():
            for name, part in _parts(key, difference, rank):
                scale = part.abs().max() / torch.finfo(FP8).max
                tensors[name], tensors[name + SCALE] = (part / scale).to(FP8).contiguous(), scale
    save_whole(tensors, file)


def _parts(key: str, difference: Tensor, rank: int | None) -> Iterator[tuple[str, Tensor]]:
    """What is written of a difference, by name."""
    matrix = difference.flatten(1) if difference.ndim > 1 else difference[None]  # (out, the rest)
    if rank is None or rank * sum(matrix.shape) >= matrix.numel():
        yield key, difference
        return
    up, values, down = torch.linalg.svd(matrix, full_matrices=False)
    yield key + UP, up[:, :rank] * values[:rank]
    yield key + DOWN, down[:rank]


@torch.no_grad()
def apply_difference(model: nn.Module, file: Path) -> None:
    """Add a saved difference to the weights of ``model``, in place.

    Raises FileNotFoundError without the file; ValueError, before any weight has changed, where it does not fit.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no difference {file}; `purity.py --ship STAGE1 STAGE2` writes it")
    differences, own = _read(file), model.state_dict()
    wrong = [key for key, change in differences.items() if key not in own or own[key].numel() != change.numel()]
    if wrong:
        raise ValueError(f"{file} does not fit the model: {wrong[0]} is no weight of it, or of another shape")
    for key, change in differences.items():  # a state dict shares its model's memory
        own[key].add_(change.view(own[key].shape).to(own[key]))


def _read(file: Path) -> dict[str, Tensor]:
    """Each difference in float32; one of low rank as (out, the rest)."""
    stored = load_file(file)
    if alone := [key for key in stored if not key.endswith(SCALE) and key + SCALE not in stored]:
        raise ValueError(f"{file} is no difference: {alone[0]} has no scale")
    parts = {key: stored[key].float() * stored[key + SCALE] for key in stored if not key.endswith(SCALE)}
    products = {key.removesuffix(UP): parts[key] @ parts[key.removesuffix(UP) + DOWN] for key in parts
                if key.endswith(UP)}
    return products | {key: part for key, part in parts.items() if not key.endswith((UP, DOWN))}
