"""The peer: F and the phrase maps from attention maps that are written out, every token's, and then read.

It does what the usual implementations of attention control do (a store of softmax(Q K^T) a layer), with the same
numbers in the end: a place's attention to a phrase, and what a text token gathers.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from torch import Tensor

from spf.notation import AttentionRecord


class MapStore:
    """The attention maps of a step, kept until it is over as an attention store keeps them."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []

    def kept(self, asking: Tensor, answering: Tensor) -> Tensor:
        """Softmax of (B,H,X,D) over (B,H,Y,D), float32 with gradient: a map (B,H,X,Y)."""
        asking, answering = asking.float(), answering.float()
        with torch.autocast(asking.device.type, enabled=False):
            self.maps.append((asking @ answering.transpose(-1, -2) / asking.shape[-1] ** 0.5).softmax(-1))
        return self.maps[-1]

    def text_response(self, record: AttentionRecord, keep: Tensor | None = None) -> Tensor:
        """F of Eq. 3 and 8, as ``spf.method.response.text_response``: (B,H,T,D)."""
        value = record.value.float()
        value = value if keep is None else value * keep[:, None, :, None]
        to_places = self.kept(record.text, record.key)  # (B,H,T,N)
        with torch.autocast(value.device.type, enabled=False):
            return to_places @ value

    def phrase_attention(self, record: AttentionRecord, phrase_weights: Tensor) -> Tensor:
        """A of Eq. 6, as ``spf.method.response.phrase_attention``: (B,P,h,w)."""
        to_text = self.kept(record.query, record.context_key).mean(1)  # (B,N,S)
        said = to_text[..., -phrase_weights.shape[1]:]  # image tokens come first
        with torch.autocast(said.device.type, enabled=False):
            return (said @ phrase_weights.float()).transpose(1, 2).unflatten(-1, record.grid)


@contextmanager
def explicit_maps() -> Iterator[MapStore]:
    """Inside, stage 2 computes by explicit maps."""
    store = MapStore()
    with ExitStack() as stack:
        stack.enter_context(patch("spf.method.alignment.text_response", store.text_response))
        stack.enter_context(patch("spf.method.response.phrase_attention", store.phrase_attention))
        yield store
