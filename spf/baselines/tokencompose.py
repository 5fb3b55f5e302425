"""TokenCompose (Wang et al. 2024): what the words of a text attend to is held to the masks of what they name.

Two terms beside L_diff, by default 1e-3 L_token and 5e-5 L_pixel, while the whole denoiser learns. They read the
cross-attention of the middle and the up path, in groups of one grid (SD1.5: mid 8, up 16, up 32, up 64). Where the
method names nouns, the phrases of the base text and the target text stand here.

Formulas from the paper and its released code, which divides by zero without a noun and takes batches of 1; here a
phrase without mask does not count, and a sample without any costs nothing.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from spf.notation import AttentionRecord, Conditions, Term

UNSUPERVISED = "down_blocks"  # layers of the down path are left alone
EPSILON, SURE = 1e-8, 1e-6  # added to what divides; how near to 0 and 1 a probability comes


def phrase_tokens(full: Conditions) -> Tensor:
    """The phrases of the base text, then the target text: (B,T,P+1), 1/|tokens of phrase i| in its rows."""
    target = full.target_tokens / full.target_tokens.sum(1, keepdim=True).clamp(min=1)  # (B,T)
    return torch.cat([full.phrase_weights, target[..., None]], -1)


def token_loss(records: Sequence[AttentionRecord], tokens: Tensor, masks: Tensor) -> Tensor:
    """L_token (B,) in [0, layers]: a token's attention is to lie within the mask of its phrase.

    Args:
        records: the layers of the response path.
        tokens: (B,T,P), 1/|tokens of phrase i| in its rows.
        masks: (B,P,R,R) in [0,1]; an empty one is none.
    """
    total = masks.new_zeros(len(masks))
    for record in supervised(records):
        attention, mask = probabilities(record, tokens.shape[1]), mask_at(masks, record.grid)
        with torch.autocast(masks.device.type, enabled=False):
            inside = attention.mT @ mask[:, None]  # (B,H,T,P)
        # ---- TokenCompose: sum_layers mean_phrases mean_tokens (1 - mean_heads sum_p A m / sum_p A)^2 ----
        share = (inside / (attention.sum(2)[..., None] + EPSILON)).mean(1)  # (B,T,P)
        total = total + _mean((tokens * (1 - share).square()).sum(1), tokens, masks)
    return total


def pixel_loss(records: Sequence[AttentionRecord], tokens: Tensor, masks: Tensor) -> Tensor:
    """L_pixel (B,): at each place, the attention to a phrase against its mask. Arguments as of ``token_loss``."""
    total, spoken = masks.new_zeros(len(masks)), (tokens > 0).float()
    for layers in groups(records):
        attention = torch.stack([probabilities(layer, tokens.shape[1]).mean(1) for layer in layers]).mean(0)  # (B,N,T)
        with torch.autocast(masks.device.type, enabled=False):
            # ---- TokenCompose: mean_phrases mean_p BCE(sum_tokens mean_layers mean_heads A, m) ----
            maps = (attention @ spoken).clamp(SURE, 1 - SURE)  # (B,N,P)
            gap = functional.binary_cross_entropy(maps, mask_at(masks, layers[0].grid), reduction="none").mean(1)
        total = total + _mean(gap, tokens, masks)
    return total


def groups(records: Sequence[AttentionRecord]) -> list[list[AttentionRecord]]:
    """What is supervised, by grid."""
    by_grid: dict[tuple[int, int], list[AttentionRecord]] = defaultdict(list)
    for record in supervised(records):
        by_grid[record.grid].append(record)
    return list(by_grid.values())


def supervised(records: Sequence[AttentionRecord]) -> list[AttentionRecord]:
    """The layers of the middle and the up path; of a transformer without paths, all."""
    return [record for record in records if not record.layer.startswith(UNSUPERVISED)]


def probabilities(record: AttentionRecord, tokens: int) -> Tensor:
    """What each place gives to each text token, by head: (B,H,N,T) float32, with gradient."""
    query, keys = record.query.float(), record.context_key.float()
    with torch.autocast(query.device.type, enabled=False):
        attention = (query @ keys.mT / query.shape[-1] ** 0.5).softmax(-1)  # (B,H,N,S)
    return attention[..., -tokens:]  # image tokens, where the softmax has them too, come first


def mask_at(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B,P,R,R) on a layer's grid: (B,N,P), 1 in every cell that the mask touches."""
    touched = functional.adaptive_max_pool2d(masks, grid) > 0
    return touched.float().flatten(2).mT


def _mean(losses: Tensor, tokens: Tensor, masks: Tensor) -> Tensor:
    """(B,P) over the phrases that have tokens and a mask: (B,), 0 where there are none."""
    counts = tokens.any(1) & masks.flatten(2).any(2)  # (B,P)
    return (losses * counts).sum(1) / counts.sum(1).clamp(min=1)


TERMS = (
    Term("token", "TokenCompose, token loss", "masks", lambda s: token_loss(s.response, s.phrase_tokens, s.masks)),
    Term("pixel", "TokenCompose, pixel loss", "masks", lambda s: pixel_loss(s.response, s.phrase_tokens, s.masks)),
)
