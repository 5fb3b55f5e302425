"""What the image answers to the text, F (Eq. 3), and where it looks at a phrase, A (Eq. 6), from one attention record.

Each is one fused attention call with other values: no attention map is ever materialised. Both are computed in float32,
also under autocast: half precision would resolve a map of 0.01 to 0.1 in steps of up to 0.0005.
"""

import torch
from torch import Tensor
from torch.nn import functional

from spf.notation import AttentionRecord


def text_response(record: AttentionRecord, keep: Tensor | None = None) -> Tensor:
    """F, Eq. 3 and 8: every text token gathers from the places that answer to it; (B,H,T,D) float32, with gradient.

    Args:
        record: one layer.
        keep: (B,N) in [0,1], 1 - SFCM: what each place counts when it is gathered; the attention stays.
    """
    text, key, value = record.text.float(), record.key.float(), record.value.float()
    if keep is not None:
        value = value * keep[:, None, :, None]
    # ---- Eq. 3: F = Softmax(K Q^T / sqrt(d)) Q, the softmax over places; Eq. 8: Q weighted by 1 - SFCM ----
    with torch.autocast(text.device.type, enabled=False):
        return functional.scaled_dot_product_attention(text, key, value)


def phrase_attention(record: AttentionRecord, phrase_weights: Tensor) -> Tensor:
    """A of one layer, Eq. 6: each place's mean attention to each phrase's tokens, over all heads; (B,P,h,w) float32.

    Args:
        record: one layer.
        phrase_weights: ``Conditions.phrase_weights`` (B,T,P).
    """
    query, keys = record.query.float(), record.context_key.float()
    (_, heads, keys_count, width), (_, tokens, phrases) = keys.shape, phrase_weights.shape
    # image tokens, where the softmax has them too, come first and speak no phrase; as wide as a head for fused kernels
    indicator = functional.pad(phrase_weights.float(), (0, max(0, width - phrases), keys_count - tokens, 0))  # (B,S,D)
    indicator = indicator[:, None].expand(-1, heads, -1, -1)
    # ---- Eq. 6: A^j[i] = Softmax(Q K^T / sqrt(d)) at the tokens of phrase i ----
    with torch.autocast(query.device.type, enabled=False):
        attention = functional.scaled_dot_product_attention(query, keys, indicator)[..., :phrases]  # (B,H,N,P)
    return attention.mean(1).transpose(1, 2).unflatten(-1, record.grid)


def mean_phrase_attention(records: tuple[AttentionRecord, ...], phrase_weights: Tensor,
                          grid: tuple[int, int]) -> Tensor:
    """A-bar, Eq. 6: ``phrase_attention`` brought to one grid (h,w) and averaged over the L layers; (B,P,h,w)."""
    total = torch.zeros(*phrase_weights.shape[::2], *grid, device=phrase_weights.device)
    for record in records:
        attention = phrase_attention(record, phrase_weights)
        total += functional.interpolate(attention, grid, mode="bilinear", align_corners=False)
    # ---- Eq. 6: A-bar[i] = 1/L sum_j A^j[i] ----
    return total / len(records)
