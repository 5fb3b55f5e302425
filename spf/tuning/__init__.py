"""Which weights learn: full, cross-attention, parallel adapter (paper, Table 5)."""

from spf.notation import Tuning
from spf.tuning.weights import CrossAttention, Full, ParallelAdapter

TUNINGS: dict[str, type[Tuning]] = {kind.__name__: kind for kind in (CrossAttention, Full, ParallelAdapter)}
"""By the name that a YAML and a checkpoint give."""

__all__ = ["TUNINGS", "CrossAttention", "Full", "ParallelAdapter"]
