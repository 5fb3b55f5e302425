"""Hooks on named projections of the denoiser -> one ``AttentionRecord`` a layer (Eq. 3, 6).

Only projections (to_q, to_k), or the norms behind them, are read; no attention map is ever materialised. Hooks see the
output of a LoRA-wrapped projection as the model itself does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spf.notation import AttentionRecord


class Projection(NamedTuple):
    """Where one field of an ``AttentionRecord`` comes from: a module's name and how its output splits into heads."""

    module: str
    split: Callable[[Tensor], Tensor]  # (B,*,H*D) -> (B,H,*,D)
    then: str = ""  # a second module, whose output, split alike, follows along the tokens

    @property
    def modules(self) -> tuple[str, ...]:
        """Those that are read, in the order of their tokens."""
        return tuple(filter(None, (self.module, self.then)))

    def read(self, seen: Mapping[str, Tensor]) -> Tensor:
        """The field (B,H,*,D) from the modules' outputs."""
        parts = [self.split(seen[name]) for name in self.modules]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


Projections = Mapping[str, Mapping[str, Projection]]
"""layer -> field of ``AttentionRecord`` -> projection, layers in the order of the forward pass."""


def split_heads(projected: Tensor, heads: int) -> Tensor:
    """The output of a plain linear projection, by heads."""
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B,*,H*D) -> (B,H,*,D)


def already_split(normed: Tensor) -> Tensor:
    """The output (B,H,*,D) of a norm of queries or keys, which sees the heads apart."""
    return normed


class Capture:
    """Reads the projections of a denoiser during one forward pass.

    Parent modules are resolved once, here, from the unwrapped denoiser: wrappers (DDP, FSDP, checkpointing) rename
    modules later, and LoRA replaces a parent's projection by another module of the same attribute.

    Raises AttributeError when a named module does not exist.
    """

    def __init__(self, denoiser: nn.Module, projections: Projections) -> None:
        self.projections = projections
        names = {name for fields in projections.values() for source in fields.values() for name in source.modules}
        self._places = {name: _place(denoiser, name) for name in names}

    @contextmanager
    def open(self) -> Iterator[dict[str, Tensor]]:
        """Collect module name -> output (B,*,H*D) of what runs inside.

        Close it before backward: gradient checkpointing runs the forward again there, and hooks would fire again.
        """
        seen: dict[str, Tensor] = {}
        hooks = [
            getattr(parent, attribute).register_forward_hook(_keep(seen, name))
            for name, (parent, attribute) in self._places.items()
        ]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()

    def records(self, seen: Mapping[str, Tensor], latent_grid: tuple[int, int]) -> tuple[AttentionRecord, ...]:
        """What ``open`` collected as one record a layer; ``latent_grid`` is (h, w) of x_t."""
        records = []
        for layer, fields in self.projections.items():
            read = {field: source.read(seen) for field, source in fields.items()}
            records.append(AttentionRecord(layer, token_grid(read["query"].shape[2], latent_grid), **read))
        return tuple(records)


def _place(denoiser: nn.Module, name: str) -> tuple[nn.Module, str]:
    parent, _, attribute = name.rpartition(".")
    return denoiser.get_submodule(parent), attribute


def _keep(seen: dict[str, Tensor], name: str) -> Callable[[nn.Module, tuple, Tensor], None]:
    def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        seen[name] = output

    return hook


def token_grid(tokens: int, latent_grid: tuple[int, int]) -> tuple[int, int]:
    """The (h, w) of a layer with N image tokens: the latent grid halved (odd sides rounded up) until it has N cells."""
    height, width = latent_grid
    while height * width > tokens:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != tokens:
        raise ValueError(f"{tokens} image tokens are no halving of a latent grid of {latent_grid}")
    return height, width


def check_gradients(denoiser: nn.Module, records: tuple[AttentionRecord, ...]) -> None:
    """Raise RuntimeError when the denoiser trains but nothing captured carries a gradient.

    Re-entrant gradient checkpointing does that, and the alignment losses would silently train nothing.
    """
    trains = torch.is_grad_enabled() and any(weight.requires_grad for weight in denoiser.parameters())
    if trains and not any(record.query.requires_grad for record in records):
        raise RuntimeError(
            "captured attention has no gradient although the denoiser trains: use non-reentrant gradient "
            "checkpointing (Backbone.enable_gradient_checkpointing)"
        )
