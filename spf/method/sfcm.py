"""The Semantic-Aware Fine Control Map: where the target belongs (Eq. 5 to 7). Nothing here carries a gradient.

Were the soft map to carry one, the response could lower the alignment by moving further away from the reference.

The paper leaves the scales of Eq. 7 open. Here M and the result are in units of their own means, the phrases share each
place, and gamma is relative to the phrase nearest to the target: taken literally the map never opened on the miniature
(``benchmarks/reports``, localisation).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from spf.method.response import mean_phrase_attention
from spf.notation import Conditions, Prediction

SOFT_SPREAD, SFCM_SPREAD = 1.5, 3.0  # the multiples of their means at which the soft map and the SFCM are 1
FLOOR = 1e-3  # of those means: where the paths agree, their rounding is no response


@dataclass(frozen=True)
class ControlMap:
    """The SFCM and what it was made of."""

    soft_map: Tensor  # (B,h,w) M, from 0; 1 where the paths differ ``SOFT_SPREAD`` times as much as on average
    phrase_attention: Tensor  # (B,P,h,w) A-bar as the phrases share each place: in [0,1], they sum to 1
    phrase_similarity: Tensor  # (B,P) gamma, in [0,1], 1 for the phrase nearest to the target
    sfcm: Tensor  # (B,h,w) M-hat, in [0,1]: 1 is the target's, 0 is to be as the original has it


@torch.no_grad()
def control_map(reference: Prediction, response: Prediction, full: Conditions, phrase_similarity: Tensor) -> ControlMap:
    """The SFCM of a batch, Eq. 7; a prompt without target text has no target region.

    Args:
        reference: of the reference path, on base text.
        response: of the response path, on base and target text, with its attention.
        full: what the response path reads.
        phrase_similarity: (B,P) the cosine of phrase and target text in CLIP; a phrase without tokens does not count.
    """
    soft, gamma = soft_map(reference.output, response.output), relative(phrase_similarity * full.phrase_weights.any(1))
    attention = mean_phrase_attention(response.attention, full.phrase_weights, (soft.shape[-2], soft.shape[-1]))
    share = attention / attention.sum(1, keepdim=True).clamp(min=1e-9)  # (B,P,h,w)
    # ---- Eq. 7: SFCM = M - sum_i A-bar[i] (1 - gamma(i)) ----
    left = soft - (share * (1 - gamma)[..., None, None]).sum(1)
    targeted = full.target_tokens.any(1)[:, None, None]
    # ---- as a weight: over its mean; where the paths hardly differ at all, M's own mean says so ----
    apart = (SOFT_SPREAD * soft.mean((1, 2), keepdim=True)).clamp(max=1)
    return ControlMap(soft, share, gamma, (over_mean(left.clamp(min=0), SFCM_SPREAD) * apart).clamp(max=1) * targeted)


@torch.no_grad()
def soft_map(reference: Tensor, response: Tensor) -> Tensor:
    """M, Eq. 5: how far the outputs (B,C,h,w) of the two paths lie apart at each place; (B,h,w), see ``ControlMap``."""
    # ---- Eq. 5: M = | epsilon_ref - epsilon_res |, the mean over channels ----
    difference = (reference.float() - response.float()).abs().mean(1)
    return over_mean(smoothed(difference), SOFT_SPREAD)


def relative(similarity: Tensor) -> Tensor:
    """gamma (B,P): cosines over the prompt's greatest. CLIP tells which is nearest; how near depends on the CLIP."""
    positive = similarity.clamp(min=0)
    return positive / positive.amax(1, keepdim=True).clamp(min=FLOOR)


def smoothed(maps: Tensor) -> Tensor:
    """(B,h,w), each cell with a share of its neighbours: one step's noise differs from cell to cell."""
    wide = functional.pad(maps[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]  # (B,h+2,w+2)
    across = (wide[..., :-2] + 2 * wide[..., 1:-1] + wide[..., 2:]) / 4
    return (across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]) / 4


def over_mean(maps: Tensor, spread: float) -> Tensor:
    """Maps (B,h,w) over ``spread`` times their means: an outlier does not set the scale (as in DiffEdit)."""
    return maps / (spread * maps.mean((1, 2), keepdim=True).clamp(min=FLOOR))
