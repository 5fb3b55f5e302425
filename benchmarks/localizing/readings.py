"""Readings of Eq. 7: what the paper leaves open between the raw tensors and the control map, as small functions.

All of them act on maps (...,h,w) and keep their shape.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Maps = Callable[[Tensor], Tensor]
TINY = 1e-6


def raw(maps: Tensor) -> Tensor:
    """As they are."""
    return maps


def min_max(maps: Tensor) -> Tensor:
    """Each from its least value at 0 to its greatest at 1."""
    least = maps.amin((-2, -1), keepdim=True)
    return (maps - least) / (maps.amax((-2, -1), keepdim=True) - least).clamp(min=TINY)


def over_largest(maps: Tensor) -> Tensor:
    """Each with its greatest value at 1; negative ones are 0."""
    return (maps / maps.amax((-2, -1), keepdim=True).clamp(min=TINY)).clamp(min=0)


def over_percentile(maps: Tensor, share: float = 0.99) -> Tensor:
    """Each with the 99th percentile of its values at 1, clamped to [0,1]."""
    high = torch.quantile(maps.flatten(-2), share, -1)[..., None, None]
    return (maps / high.clamp(min=TINY)).clamp(0, 1)


@cache
def over_mean(times: float, cut: bool = True) -> Maps:
    """Each with ``times`` its mean at 1, and nothing above 1 where ``cut``."""
    def normalised(maps: Tensor) -> Tensor:
        scaled = maps / (times * maps.mean((-2, -1), keepdim=True)).clamp(min=TINY)
        return scaled.clamp(0, 1) if cut else scaled

    return normalised


def shared(attention: Tensor) -> Tensor:
    """(n,P,h,w): the phrases divide each place among themselves; over P they sum to 1."""
    return attention / attention.sum(1, keepdim=True).clamp(min=TINY)


def clamped(maps: Tensor) -> Tensor:
    """Cut to [0,1]."""
    return maps.clamp(0, 1)


def then_over_mean(maps: Tensor) -> Tensor:
    """What is left after the subtraction, with three times its mean at 1, clamped to [0,1]."""
    return over_mean(3)(maps.clamp(min=0))


def blurred(maps: Tensor) -> Tensor:
    """(n,h,w) after one pass of 1-2-1 along each axis, the border repeated."""
    line = torch.tensor([0.25, 0.5, 0.25], dtype=maps.dtype, device=maps.device)
    return F.conv2d(F.pad(maps[:, None], (1, 1, 1, 1), mode="replicate"), (line[:, None] * line)[None, None])[:, 0]


def in_prompt(gamma: Tensor) -> Tensor:
    """(n,P) from the least phrase of the prompt at 0 to the nearest at 1; unchanged where all are alike."""
    least, span = gamma.amin(1, keepdim=True), gamma.amax(1, keepdim=True) - gamma.amin(1, keepdim=True)
    return ((gamma - least) / span.clamp(min=TINY)).where(span > TINY, gamma)


def to_nearest(gamma: Tensor) -> Tensor:
    """(n,P) with the nearest phrase of the prompt at 1; a prompt without any near phrase has gamma 0."""
    return gamma / gamma.amax(1, keepdim=True).clamp(min=TINY)


@dataclass(frozen=True)
class Reading:
    """One reading of Eq. 7; ``weight`` and ``soft`` treat every row of the benchmark alike."""

    name: str
    blurs: int  # of M
    normalised: Maps  # M
    phrase_maps: Maps  # A-bar (n,P,h,w)
    rescaled: Maps  # gamma (n,P) in [0,1]
    finished: Maps  # the difference: a weight in [0,1], but for "no clamp"
    gamma: str = "pooled"  # or "contextual"
    over_phrases: str = "sum"  # or "mean", "largest"

    def soft(self, difference: Tensor) -> Tensor:
        """M (n,h,w), smoothed and normalised."""
        for _ in range(self.blurs):
            difference = blurred(difference)
        return self.normalised(difference)

    def weight(self, maps: Tensor) -> Tensor:
        """Any map (n,h,w) as a control map of its own: smoothed, normalised and finished as M and the SFCM are."""
        return self.finished(self.soft(maps))

    def excluded(self, phrase_maps: Tensor, gamma: Tensor) -> Tensor:
        """sum_i A-bar[i] (1 - gamma(i)): phrase maps (n,P,h,w), gamma (n,P) -> (n,h,w)."""
        parts = phrase_maps * (1 - gamma)[..., None, None]
        return {"sum": parts.sum(1), "mean": parts.mean(1), "largest": parts.amax(1)}[self.over_phrases]

    def sfcm(self, difference: Tensor, attention: Tensor, gamma: Tensor) -> Tensor:
        """Eq. 7 from the raw tensors (n,h,w), (n,P,h,w) and the cosines (n,P): (n,h,w)."""
        return self.control(difference, self.phrase_maps(attention), self.rescaled(gamma.clamp(0, 1)))

    def control(self, difference: Tensor, phrase_maps: Tensor, gamma: Tensor) -> Tensor:
        """Eq. 7 with phrase maps and gamma as they are to be used."""
        return self.finished(self.soft(difference) - self.excluded(phrase_maps, gamma))


PRINTED = Reading("as printed", 0, over_mean(3), min_max, raw, clamped)
"""Eq. 7 with each tensor brought to [0,1] by itself, and clamped (method.md, A8, A9, A11, A12)."""

METHOD = Reading("the method's", 1, over_mean(1.5, cut=False), shared, to_nearest, then_over_mean)
"""``spf.method.sfcm`` (a test compares them): phrases share each place, the nearest of them excludes nothing, and what
is left is normalised again."""


CHANGES: dict[str, dict[str, Any]] = {
    "M: 3 x mean": {"normalised": over_mean(3)}, "M: 2 x mean": {"normalised": over_mean(2)},
    "M: 1.5 x mean": {"normalised": over_mean(1.5)}, "M: mean": {"normalised": over_mean(1)},
    "M: 2 x mean, unclamped": {"normalised": over_mean(2, cut=False)},
    "M: 1.5 x mean, unclamped": {"normalised": over_mean(1.5, cut=False)},
    "M: mean, unclamped": {"normalised": over_mean(1, cut=False)},
    "M: min-max": {"normalised": min_max}, "M: 99th percentile": {"normalised": over_percentile},
    "M: raw": {"normalised": raw},
    "no blur": {"blurs": 0}, "one blur": {"blurs": 1}, "two blurs": {"blurs": 2},
    "A: min-max": {"phrase_maps": min_max}, "A: over its largest": {"phrase_maps": over_largest},
    "A: raw": {"phrase_maps": raw}, "A: shared": {"phrase_maps": shared},
    "gamma: as it is": {"rescaled": raw}, "gamma: contextual": {"gamma": "contextual"},
    "gamma: 0 to 1 in the prompt": {"rescaled": in_prompt}, "gamma: nearest is 1": {"rescaled": to_nearest},
    "then: clamped": {"finished": clamped}, "then: over its largest": {"finished": over_largest},
    "then: 3 x mean": {"finished": then_over_mean}, "then: nothing": {"finished": raw},
    "mean over phrases": {"over_phrases": "mean"}, "largest over phrases": {"over_phrases": "largest"},
}


def around(chosen: Reading) -> list[Reading]:
    """``chosen`` and all that differ from it in one thing."""
    others = [replace(chosen, name=name, **change) for name, change in CHANGES.items()]
    return [chosen, *(other for other in others if replace(other, name=chosen.name) != chosen)]
