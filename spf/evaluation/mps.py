"""MPS: how people would like a portrait, given its text (Zhang et al., CVPR 2024; paper, Table 1).

The relative form is inferred. Raw MPS lies between 8 and 10.5, and the paper's numbers between 0.67 and 1.83: about 1
where a method nearly copies the original, below it for plain fine-tuning, above it for the full model. So here MPS is
the odds of the customised against the original, both rated by the full text; it is the only one of these numbers that
may be held against the paper's, and with this caveat.
"""

from typing import ClassVar

import torch
import torchmetrics
from torch import Tensor

from spf.evaluation.mps_network import MPS
from spf.evaluation.rating import Rating
from spf.evaluation.summed import SummedMetric
from spf.evaluation.weights import Weights
from spf.notation import Column


class Mps(Rating):
    """MPS as odds, exp(mean(s_C - s_O)), 1 where customised and originals are liked equally (relative form: inferred).

    s_C and s_O are the raw ratings of the customised and the original. Beside it:

        mps_raw                  s_C; mps_raw_original is s_O
        mps_win                  sigmoid(s_C - s_O): how likely the customised is preferred, 0.5 for equals
        mps_ratio                mean s_C / mean s_O
        caption_truncated_mps    1.0 where the end of the full text was cut, else 0.0
    """

    columns = (Column("mps", "MPS", "Overall", True), Column("mps_raw", "MPS raw", "More", True),
               Column("mps_win", "MPS win rate", "More", True), Column("mps_ratio", "MPS ratio", "More", True, 3))
    rater = MPS
    weights: ClassVar[Weights] = MPS.weights

    def row(self, original: float, customised: float, truncated: bool) -> dict[str, float]:
        """Raw ratings and the chance to be preferred."""
        win = float(torch.tensor(customised - original, dtype=torch.float64).sigmoid())
        return {"mps_raw": customised, "mps_raw_original": original, "mps_win": win,
                "caption_truncated_mps": float(truncated)}

    def whole(self, count: int) -> dict[str, torchmetrics.Metric]:
        """Odds and ratio of the means."""
        return {"mps": Odds(), "mps_ratio": Ratio()}


class _OfScores(SummedMetric):
    """Something of n pairs' scores, (n,) of the originals and (n,) of the customised, from their sums."""

    whole_of: ClassVar[str] = "score"

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "originals", "customised"):
            self.add_sum(name)

    def update(self, index: Tensor, originals: Tensor, customised: Tensor) -> None:
        """Take the scores of n pairs, (n,) each; ``index`` (n,) is for others, a sum has no order."""
        self.count += len(index)
        self.originals += originals.double().sum()
        self.customised += customised.double().sum()


class Odds(_OfScores):
    """exp of the mean difference."""

    def compute(self) -> Tensor:
        """Of all pairs, float64 scalar; not a number where there are none."""
        return ((self.customised - self.originals) / self.count).exp()


class Ratio(_OfScores):
    """The customised's mean over the originals'."""

    def compute(self) -> Tensor:
        """Of all pairs, float64 scalar; not a number where there are none."""
        return self.customised / self.originals
