"""Which weights learn: full, cross-attention, parallel adapter, LoRA, AdaLoRA (paper, Tables 1 and 5)."""

from spf.notation import Tuning
from spf.tuning.adalora import AdaLoRA
from spf.tuning.low_rank import LoRA
from spf.tuning.weights import CrossAttention, Full, ParallelAdapter

TUNINGS: dict[str, type[Tuning]] = {
    kind.__name__: kind for kind in (CrossAttention, Full, ParallelAdapter, LoRA, AdaLoRA)}
"""By the name that a YAML and a checkpoint give."""

__all__ = ["TUNINGS", "AdaLoRA", "CrossAttention", "Full", "LoRA", "ParallelAdapter"]
