"""A whole pickled module -> its tensors in safetensors, without the module's code, and without running any.

MPS is published so: unpickling it as its authors do needs their package, old versions of others, and trust in every
call that the file asks for. Here torch's own restricted unpickler reads it. That knows how tensors are rebuilt; every
other name in the file becomes an inert record, which keeps the state it is given and refuses to be called.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from spf.evaluation.weights import FOLDER
from spf.files import whole


class _Inert(type):
    """Stands for anything that a pickle names: it can be made empty and given a state, but it cannot be called."""

    def __call__(cls, *args: Any) -> Any:
        raise ValueError(f"it asks to call {cls.__name__}")


class _Record(metaclass=_Inert):
    """What is left of an object of an unknown class: its state."""

    def __new__(cls, *args: Any) -> "_Record":
        record = object.__new__(cls)
        record.state = {}
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state


def convert_mps(source: Path, out: Path = FOLDER / "MPS_overall_checkpoint.safetensors") -> int:
    """The authors' MPS_overall_checkpoint.pth -> ``out`` (.safetensors), whole or not at all, in ``MPS``'s keys.

    Says how many tensors it wrote, and returns that. Raises FileNotFoundError, or ValueError for a file that is
    damaged, asks for calls, or holds no module.
    """
    tensors = dict(module_tensors(source))
    with whole(out) as partial:
        save_file(tensors, partial)
    print(f"{out}: {len(tensors)} tensors of {source}", flush=True)
    return len(tensors)


def module_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Parameters and persistent buffers of a module that ``torch.save`` pickled whole (torch 1.6 or later), by key.

    Errors as of ``convert_mps``.
    """
    return _tensors(_read(path), path, "")


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: give the checkpoint as its authors published it")
    try:
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        inert = [(_Inert(name, (_Record,), {}), name) for name in unknown]
        with torch.serialization.safe_globals(inert):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file torch raises many kinds
        # around its reason it puts advice, to trust the file among it
        reasons = [line.strip() for line in str(error).splitlines() if line.strip() and "weights_only" not in line]
        reason = (reasons or [type(error).__name__])[0].rstrip(".")
        raise ValueError(f"{path} is not read: {reason}; fetch it again, and from its authors") from None


def _tensors(module: Any, path: Path, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """As ``state_dict`` would have them, each in memory of its own, since safetensors shares none."""
    parts = ("_parameters", "_buffers", "_modules")
    state = module.state if isinstance(module, _Record) else None
    if not isinstance(state, dict) or not all(isinstance(state.get(part), dict) for part in parts):
        raise ValueError(f"{path} holds no pickled module at {prefix or 'its top'!r}: it is another file than MPS's")
    passing = state.get("_non_persistent_buffers_set", ())
    for name, value in {**state["_parameters"], **state["_buffers"]}.items():
        if isinstance(value, Tensor) and name not in passing:
            yield prefix + name, value.detach().clone(memory_format=torch.contiguous_format)
    for name, child in state["_modules"].items():
        if child is not None:
            yield from _tensors(child, path, f"{prefix}{name}.")
