"""LoRA: a change of low rank beside frozen projections, on peft (Hu et al. 2021; paper, Tables 1 and 5)."""

from dataclasses import dataclass
from typing import Literal

import torch
from peft import LoraConfig, PeftConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from spf.backbones import Backbone
from spf.notation import LowRank, Tuning

Layers = Literal["attention", "cross_attention"]
"""Which projections change: those of all attention, or those that stage 2 trains (Table 5)."""

ADAPTER = "default"
"""peft's name for what it adds; there is never a second one."""

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""The four of an attention layer, as diffusers names them, and of a joint one the text's."""


@dataclass(frozen=True)
class LoRA(Tuning):
    """Each projection's weight W becomes W + up @ down * alpha / rank; only up and down learn, and up starts at zero.

    Args:
        rank: of each change.
        alpha: its scale is alpha / rank; none: the rank, so that the scale is 1.
        layers: "attention", or "cross_attention".

    Raises ValueError for a rank or alpha that is not positive.
    """

    rank: int = 8
    alpha: float | None = None
    layers: Layers = "attention"

    def __post_init__(self) -> None:
        if self.rank < 1 or self._alpha <= 0:
            raise ValueError(f"LoRA needs a positive rank and alpha, not {self.rank} and {self.alpha}")

    @property
    def _alpha(self) -> float:
        return self.rank if self.alpha is None else self.alpha

    def apply(self, backbone: Backbone) -> list[nn.Parameter]:
        return add(backbone, LoraConfig(r=self.rank, lora_alpha=self._alpha, init_lora_weights="gaussian",
                                        target_modules=projections(backbone, self.layers)))

    def merge(self, backbone: Backbone) -> LowRank:
        layers = {name: (layer.lora_A[ADAPTER].weight.detach(), layer.lora_B[ADAPTER].weight.detach())
                  for name, layer in added(backbone).items()}
        return fold(backbone, LowRank(layers, self._alpha))


def projections(backbone: Backbone, layers: Layers) -> list[str]:
    """The names of the linear layers that are changed."""
    if layers == "cross_attention":
        names = [name.removesuffix(".weight") for name in backbone.attention_parameters() if name.endswith(".weight")]
    else:
        names = [name for name, _ in backbone.denoiser.named_modules()]
    return [name for name in names if name.endswith(PROJECTIONS)]


def add(backbone: Backbone, config: PeftConfig) -> list[nn.Parameter]:
    """Put peft's layers around the projections that ``config`` targets; returns their weights, all that learns now."""
    denoiser = backbone.denoiser.requires_grad_(False)
    inject_adapter_in_model(config, denoiser, ADAPTER)
    return [weight for weight in denoiser.parameters() if weight.requires_grad]


def added(backbone: Backbone) -> dict[str, LoraLayer]:
    """peft's layers by the names of those that they stand around."""
    return {name: module for name, module in backbone.denoiser.named_modules() if isinstance(module, LoraLayer)}


@torch.no_grad()
def fold(backbone: Backbone, low_rank: LowRank) -> LowRank:
    """Add the changes to the weights and put the layers back in their places; returns the changes."""
    for name, layer in added(backbone).items():
        plain = layer.get_base_layer()
        if name in low_rank.layers:
            plain.weight += low_rank.change(name).to(plain.weight.dtype)
        backbone.denoiser.set_submodule(name, plain)
    del backbone.denoiser.peft_config
    return low_rank
