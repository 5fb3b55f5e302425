"""Low-rank tunings that have learnt something, without a training."""

import torch

from spf.backbones import Backbone
from spf.notation import Tuning
from spf.tuning import AdaLoRA


def learnt(tuning: Tuning, backbone: Backbone, size: float = 0.05) -> Backbone:
    """The backbone with the tuning applied, every weight that learns drawn at random."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in tuning.apply(backbone):
            weight.copy_(size * torch.randn(weight.shape, generator=generator))
    return backbone


def pruned(backbone: Backbone, tuning: AdaLoRA) -> Backbone:
    """The same for AdaLoRA, in which layer n has lost n of its ranks, modulo initial_rank + 1: some have none."""
    values = [value for name, value in learnt(tuning, backbone, 0.4).denoiser.named_parameters() if "lora_E" in name]
    with torch.no_grad():
        for number, value in enumerate(values):
            value[: number % (tuning.initial_rank + 1)] = 0
    return backbone
