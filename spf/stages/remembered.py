"""What is computed of a portrait or a text once and kept in memory."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

MOST_TEXTS = 2**16


class OncePerPortrait:
    """Keeps what ``compute`` makes of each portrait, on the CPU."""

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        """``compute``: images (B,3,H,W) -> (B,...)."""
        self.compute, self.kept = compute, dict[str, Tensor]()

    def __call__(self, ids: Sequence[str], images: Tensor) -> Tensor:
        """(B,...) for portraits ``ids``, on the device of their images."""
        if not self.kept.keys() >= set(ids):
            # the whole batch: bits depend on its size, and what is new in it on where an earlier run was interrupted
            for name, value in zip(ids, self.compute(images).cpu(), strict=True):
                self.kept.setdefault(name, value)
        return torch.stack([self.kept[name] for name in ids]).to(images.device, non_blocking=True)


class OncePerText:
    """Keeps what ``compute`` makes of each text. Each is computed alone: in a batch bits would depend on the others."""

    def __init__(self, compute: Callable[[list[str]], Tensor]) -> None:
        """``compute``: one text in a list -> (1,E)."""
        self.compute, self.kept = compute, dict[str, Tensor]()

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(B,E) for B texts."""
        if len(self.kept) > MOST_TEXTS:
            self.kept.clear()
        for text in texts:
            if text not in self.kept:
                self.kept[text] = self.compute([text])[0]
        return torch.stack([self.kept[text] for text in texts])
