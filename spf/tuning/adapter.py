"""Cross-attention in parallel to a layer's own, for the target's tokens alone: as an IP-Adapter, but for text.

Paper: Table 5, "adapter"; IP-Adapter (Ye et al. 2023) for the parallel branch that starts as a copy.
"""

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional

from spf.backbones.capture import split_heads


class ParallelCrossAttention(nn.Module):
    """Attention processor: the layer's own attention to all tokens, plus a learnt one to the target's.

    Keys start as the layer's own and values at zero, so that nothing changes before it learns; the query is shared.
    """

    def __init__(self, layer: Attention, scale: float) -> None:
        super().__init__()
        self.scale = scale
        weight = layer.to_k.weight
        self.to_k_target = nn.Linear(weight.shape[1], weight.shape[0], bias=False).to(weight.device, weight.dtype)
        self.to_v_target = nn.Linear(weight.shape[1], weight.shape[0], bias=False).to(weight.device, weight.dtype)
        self.to_k_target.load_state_dict({"weight": weight.detach()})
        nn.init.zeros_(self.to_v_target.weight)

    def __call__(self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor,
                 attention_mask: Tensor | None = None, temb: Tensor | None = None,
                 ip_adapter_masks: Tensor | None = None) -> Tensor:
        """Image tokens (B,N,E) and text tokens (B,T,E) -> (B,N,E); ``ip_adapter_masks`` (B,T) are the target's tokens.

        That is the name under which diffusers hands masks to parallel attention without a warning from other layers.
        """
        query = split_heads(attn.to_q(hidden_states), attn.heads)
        own = _attend(query, attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states), attention_mask)
        added = self._target(query, encoder_hidden_states, ip_adapter_masks)
        mixed = (own + self.scale * added).transpose(1, 2).flatten(2)  # (B,N,H*D)
        return attn.to_out[1](attn.to_out[0](mixed))

    def _target(self, query: Tensor, text: Tensor, target_tokens: Tensor) -> Tensor:
        named = target_tokens.any(1)[:, None, None, None]  # a prompt without target gets nothing
        seen = (target_tokens[:, None, None] | ~named).expand(-1, 1, query.shape[2], -1)  # (B,1,N,T)
        answer = _attend(query, self.to_k_target(text), self.to_v_target(text), seen)
        return torch.where(named, answer, 0)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    heads = query.shape[1]
    return functional.scaled_dot_product_attention(query, split_heads(key, heads), split_heads(value, heads), mask)
