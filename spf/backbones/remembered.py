"""What frozen text encoders make of a prompt, made once: the largest of them (T5-XXL) outweighs the denoiser."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from spf.notation import Conditions
from spf.text import Prompt

MOST_BYTES = 8 * 2**30
"""Kept by one model of one process: a prompt of Stable Diffusion 3.5 takes 5.5 MB in float32, 2.7 in bfloat16."""


class OncePerPrompt:
    """Keeps what ``read`` makes of each prompt, on the CPU; the least lately used gives way where there is no room.

    Each is read alone: in a batch its bits would depend on the others, and a resumed run would differ. Nor do they
    depend on the precision in which the caller happens to compute.

    Args:
        read: prompts -> conditions of as many rows.
        device: of what reads.
        dtype: in which it computes, and in which features are kept: float32, or what autocast knows on that device. The
            denoiser's first layers, under that autocast, round them to it anyway.
    """

    def __init__(self, read: Callable[[Sequence[Prompt]], Conditions], device: torch.device,
                 dtype: torch.dtype) -> None:
        self.read, self.dtype = read, dtype
        self.kept: dict[Prompt, Conditions] = {}  # the least lately used first
        self.bytes = 0
        self._autocast = {"device_type": device.type, "dtype": dtype, "enabled": dtype != torch.float32}

    def __call__(self, prompts: Sequence[Prompt]) -> Conditions:
        """Of B prompts, on the CPU."""
        first, *others = [self._one(prompt) for prompt in prompts]
        return first.followed_by(*others)

    def _one(self, prompt: Prompt) -> Conditions:
        if (known := self.kept.pop(prompt, None)) is None:
            known = self._read(prompt)
            self.bytes += _bytes(known)
            self._make_room()
        self.kept[prompt] = known
        return known

    def _read(self, prompt: Prompt) -> Conditions:
        with torch.autocast(**self._autocast):
            made = self.read([prompt]).to("cpu")
        pooled = None if made.pooled is None else made.pooled.to(self.dtype)
        return replace(made, sequence=made.sequence.to(self.dtype), pooled=pooled)

    def _make_room(self) -> None:
        """For what is counted already and not yet kept."""
        while self.kept and self.bytes > MOST_BYTES:
            self.bytes -= _bytes(self.kept.pop(next(iter(self.kept))))
            warnings.warn(f"there are more texts than {MOST_BYTES / 2**30:g} GiB keep: some are read again, where the "
                          "text encoders are; without cache_texts they are read on the accelerator", stacklevel=2)


def _bytes(conditions: Conditions) -> int:
    return sum(value.nbytes for value in vars(conditions).values() if value is not None)
