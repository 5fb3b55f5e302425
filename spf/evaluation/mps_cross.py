"""The cross model of MPS (Kwai-Kolors/MPS @be9027f, trainer/models/cross_modeling.py), by its published names.

Layers as PaLM's: attention and feed-forward side by side, many queries on one key and one value, no biases.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CrossModel(nn.Module):
    """An image looks at its text, then at itself, ``layers`` times."""

    def __init__(self, width: int, layers: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([
            nn.ModuleList([Residual(CrossAttention(width, heads, head_width)),
                           Residual(ParallelBlock(width, heads, head_width))]) for _ in range(layers)])

    def forward(self, image: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """(B,N,E), looking at those of (B,T,E) where (B,T) is True -> (B,N,E)."""
        for cross, parallel in self.layers:
            image = parallel(cross(image, text, mask))
        return image


class Residual(nn.Module):
    """What ``fn`` says, added to what it was asked about."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """(B,N,E) -> (B,N,E)."""
        return x + self.fn(x, *others)


class Norm(nn.Module):
    """Layer norm with a weight alone; the published file holds its bias too, as a constant 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.register_buffer("bias", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(...,E) -> (...,E)."""
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias)


class SwiGlu(nn.Module):
    """First half, gated by the SiLU of the second."""

    def forward(self, x: Tensor) -> Tensor:
        """(...,2F) -> (...,F)."""
        value, gate = x.chunk(2, -1)
        return value * F.silu(gate)


class Rotary(nn.Module):
    """Turns halves of a vector against each other by angles that grow with its place (Su et al. 2021).

    ``inv_freq`` is a weight like any other: the published ones are rounded to float16, and exact ones would turn the
    last places by up to 0.04 rad more or less.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 10000.0 ** (-torch.arange(0, width, 2) / width))

    def forward(self, x: Tensor) -> Tensor:
        """(...,N,D) -> (...,N,D)."""
        angles = torch.outer(torch.arange(x.shape[-2], device=x.device).float(), self.inv_freq)  # (N,D/2)
        cos, sin = angles.cos(), angles.sin()
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def one_key_attention(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """SDPA of queries (B,H,N,D) on keys and values (B,S,D), which all heads share: (B,N,H*D); ``mask``: (B,S) bool."""
    key, value = (part[:, None].expand(-1, heads, -1, -1) for part in (key, value))
    seen = F.scaled_dot_product_attention(query, key, value, None if mask is None else mask[:, None, None])
    return seen.transpose(1, 2).flatten(2)


class CrossAttention(nn.Module):
    """Attention to a context, which is not normalised, beside a feed-forward of the same input."""

    def __init__(self, width: int, heads: int, head_width: int, growth: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(width)
        self.to_q = nn.Linear(width, heads * head_width, bias=False)
        self.to_kv = nn.Linear(width, 2 * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)
        self.ff = nn.Sequential(nn.Linear(width, 2 * growth * width, bias=False), SwiGlu(),
                                nn.Linear(growth * width, width, bias=False))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """(B,N,E), looking at those of (B,T,E) where (B,T) is True -> (B,N,E)."""
        x = self.norm(x)
        query = self.to_q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B,H,N,D)
        key, value = self.to_kv(context).chunk(2, -1)
        return self.to_out(one_key_attention(query, key, value, self.heads, mask)) + self.ff(x)


class ParallelBlock(nn.Module):
    """Self-attention with rotary places, beside a feed-forward, from one projection."""

    def __init__(self, width: int, heads: int, head_width: int, growth: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.parts = [heads * head_width, head_width, head_width, 2 * growth * width]
        self.norm = Norm(width)
        self.rotary_emb = Rotary(head_width)
        self.fused_attn_ff_proj = nn.Linear(width, sum(self.parts), bias=False)
        self.attn_out = nn.Linear(heads * head_width, width, bias=False)
        self.ff_out = nn.Sequential(SwiGlu(), nn.Linear(growth * width, width, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B,N,E) -> (B,N,E)."""
        query, key, value, hidden = self.fused_attn_ff_proj(self.norm(x)).split(self.parts, -1)
        query = self.rotary_emb(query.unflatten(-1, (self.heads, -1)).transpose(1, 2))  # (B,H,N,D)
        return self.attn_out(one_key_attention(query, self.rotary_emb(key), value, self.heads)) + self.ff_out(hidden)
