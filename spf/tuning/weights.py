"""The architectures of Table 5 that change no weight's rank: all weights, cross-attention alone, a parallel adapter."""

from dataclasses import dataclass

from torch import nn

from spf.backbones import Backbone
from spf.notation import Tuning
from spf.tuning.adapter import ParallelCrossAttention


@dataclass(frozen=True)
class Full(Tuning):
    """Every weight of the denoiser learns, as in stage 1."""

    def apply(self, backbone: Backbone) -> list[nn.Parameter]:
        return list(backbone.denoiser.requires_grad_(True).parameters())


@dataclass(frozen=True)
class CrossAttention(Tuning):
    """Only the attention to text learns: the paper's stage 2 (Sec. 3.2, Fig. 3).

    Where image and text attend jointly, these are the joint layers' projections and their norms of Q and K, of both
    sides: the paper does not say which (App. D).

    Args:
        text_side: of them only what reads the text: K and V of a UNet, in a joint layer Q, K, V and what follows.
    """

    text_side: bool = False

    def apply(self, backbone: Backbone) -> list[nn.Parameter]:
        weights = dict(backbone.denoiser.requires_grad_(False).named_parameters())
        names = [name for name in backbone.attention_parameters()
                 if not self.text_side or name.split(".")[-2] in backbone.text_side]
        return [weights[name].requires_grad_(True) for name in names]


@dataclass(frozen=True)
class ParallelAdapter(Tuning):
    """A second cross-attention beside each layer's own attends to the target's tokens alone; only it learns (Table 5).

    Args:
        scale: with which its answer is added.
    """

    exportable = False

    scale: float = 1.0

    def apply(self, backbone: Backbone) -> list[nn.Parameter]:
        """Raises TypeError for a denoiser that has no separate cross-attention."""
        backbone.denoiser.requires_grad_(False)
        added = []
        for name in backbone.projections():
            layer = backbone.denoiser.get_submodule(name)
            if not name.endswith(".attn2"):
                raise TypeError(f"{name} attends to image and text together: a parallel adapter needs a UNet")
            layer.set_processor(ParallelCrossAttention(layer, self.scale))
            added += layer.processor.parameters()
        return added
