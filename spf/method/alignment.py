"""The original's behaviour wherever the target does not belong: L_M-text and L_M-fine (Eq. 3, 4, 8).

The norm of a layer is its mean square over the mean square of the original's: the paper's plain sums would let the
layers with the largest features decide, by a weight that differs from model to model.
"""

from torch import Tensor
from torch.nn import functional

from spf.method.response import text_response
from spf.notation import AttentionRecord

Records = tuple[AttentionRecord, ...]


def text_consistent(reference: Records, response: Records, base_tokens: Tensor, keep: Tensor) -> Tensor:
    """L_M-text, Eq. 8: what the base text gathers is to be what it gathers in the original; (B,), one a sample.

    Args:
        reference, response: the layers of the two paths, in the same order.
        base_tokens: (B,T) bool, content tokens of the base text, at equal places in both paths.
        keep: 1 - SFCM (B,h,w); all ones is Eq. 3.
    """
    # ---- Eq. 8: sum_j || (F_ref - F_res) (1 - SFCM) ||^2 ----
    rows = base_tokens.float() / base_tokens.sum(1, keepdim=True).clamp(min=1)  # (B,T), they sum to 1
    total = keep.new_zeros(len(keep))
    for one, other in zip(reference, response, strict=True):
        places = _at(keep, one.grid).flatten(1)
        gap = text_response(one, places) - text_response(other, places)  # (B,H,T,D)
        total = total + (gap.square().mean((1, 3)) * rows).sum(1) / _scale(one.value)
    return total


def fine_grained(reference: Records, response: Records, keep: Tensor) -> Tensor:
    """L_M-fine, Eq. 8: every place is to ask what it asks in the original; (B,). ``keep`` all ones is Eq. 4."""
    # ---- Eq. 8: sum_j || (Q_ref - Q_res) (1 - SFCM) ||^2 ----
    total = keep.new_zeros(len(keep))
    for one, other in zip(reference, response, strict=True):
        places = _at(keep, one.grid).flatten(1)[:, None, :, None]  # (B,1,N,1)
        gap = (one.query.float() - other.query.float()) * places  # (B,H,N,D)
        total = total + gap.square().mean((1, 2, 3)) / _scale(one.query)
    return total


def _scale(original: Tensor) -> Tensor:
    """The mean square (B,) of the original's features (B,H,N,D), at every place."""
    return original.float().square().mean((1, 2, 3)).clamp(min=1e-12)


def _at(keep: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B,h,w) on a layer's grid, the mean of the cells."""
    return functional.adaptive_avg_pool2d(keep[:, None], grid)[:, 0]
