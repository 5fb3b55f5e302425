"""Table 2 of the paper as typed records, and the seam types that every room may implement.

Shape legend, used in every docstring and shape comment of the house:

    B batch    C channels    h w latent grid (or a layer's token grid)
    N image tokens (N = h*w of a layer)    T text tokens    P phrases    H heads    D head width

Symbols of the paper and where they live:

    x_0                      clean latent image, ``Backbone.encode``                    (B,C,h,w)
    x_t, epsilon, t          ``Process.noised``, Gaussian noise, ``Process.times``      (B,C,h,w), (B,C,h,w), (B,)
    alpha-bar_t              only inside ``spf.backbones.process``; the t of Eq. 13 only inside ``spf.backbones.flow``
    y_base, y_tar            ``Prompt.base_text``, ``Prompt.target_text``; [y_base, y_tar] is ``Prompt.full_text``
    E = tau_text(y)          ``Conditions.sequence``; E_base, E_tar its rows ``base_tokens``, ``target_tokens``
    epsilon_theta, v_theta   ``Prediction.output``
    Q, K                     ``AttentionRecord.query``, ``AttentionRecord.text`` (UNet)
    L                        ``len(Prediction.attention)``
    F, A-bar                 ``spf.method.response``
    M, gamma, M-hat          ``ControlMap.soft_map``, ``.phrase_similarity``, ``.sfcm`` (``spf.method.sfcm``)
    Delta, x_{t->0}          ``spf.method.enhancement``, ``Process.one_step``
    lambda_1, _2, _3         ``Objective.m_text``, ``.m_fine``, ``.enhanced`` (``spf.method.objective``)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class AttentionRecord:
    """One layer's attention as Eq. 3, 6 (UNet) and Eq. 14, 17 (MM-DiT) need it; all fields carry gradients.

    F = SDPA(text, key, value); phrase maps A = SDPA(query, context_key, phrase indicator).
    """

    layer: str
    grid: tuple[int, int]  # the layer's (h, w), N = h * w, image tokens row by row
    text: Tensor  # (B,H,T,D) what asks:            K of the text (UNet), Q^txt (MM-DiT)
    key: Tensor  # (B,H,N,D) what is matched:       Q of the image,       K^vis
    value: Tensor  # (B,H,N,D) what is gathered:    Q of the image,       V^vis
    query: Tensor  # (B,H,N,D) fine-grained term:   Q of the image,       Q^vis
    context_key: Tensor  # (B,H,S,D) all keys of the model's own softmax: S = T (UNet), S = N + T (MM-DiT)


@dataclass(frozen=True)
class Conditions:
    """Textual features E = tau_text(y) of a batch of prompts, and where base text and phrases stand in them (Eq. 2).

    ``phrase_weights`` holds 1/|tokens of phrase i| in the rows of phrase i and zero elsewhere, so that
    ``attention @ phrase_weights`` is the mean attention of each phrase; where two encoders' tokens follow one another
    it is the mean of both (Eq. 17), each with its share of the rows. Column i is phrase i of the prompt; a phrase
    that truncation removed, like a column that only pads the batch, is all zero and so has no map.
    """

    sequence: Tensor  # (B,T,E) token features
    pooled: Tensor | None  # (B,F) sentence features, for backbones that read them
    base_tokens: Tensor  # (B,T) bool: content tokens of the base text (no BOS, EOT, padding)
    target_tokens: Tensor  # (B,T) bool: content tokens of the target text
    phrase_weights: Tensor  # (B,T,P) float32

    def to(self, device: torch.device | str) -> Conditions:
        """The same conditions on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)

    def followed_by(self, *others: Conditions) -> Conditions:
        """This batch and then ``others`` along B, as one batch (for classifier-free guidance); P is the largest one."""
        batches = (self, *others)
        phrases = max(c.phrase_weights.shape[-1] for c in batches)
        widened = [functional.pad(c.phrase_weights, (0, phrases - c.phrase_weights.shape[-1])) for c in batches]
        return Conditions(
            sequence=torch.cat([c.sequence for c in batches]),
            pooled=None if self.pooled is None else torch.cat([c.pooled for c in batches]),
            base_tokens=torch.cat([c.base_tokens for c in batches]),
            target_tokens=torch.cat([c.target_tokens for c in batches]),
            phrase_weights=torch.cat(widened),  # (B,T,P), B of all batches
        )


@dataclass(frozen=True)
class Prediction:
    """What the denoising model says of x_t: epsilon_theta or v_theta, and what its attention layers saw."""

    output: Tensor  # (B,C,h,w)
    attention: tuple[AttentionRecord, ...] = ()  # one record a layer, in the order of the forward pass; () uncaptured


@dataclass(frozen=True)
class Term:
    """Seam: one thing that is minimised. ``compute`` makes (B,) losses of a step; ``needs`` is what it must hold."""

    name: str
    equation: str
    # "" (the output alone), "alignment" (both paths' attention), "image" (the one-step image in CLIP), "masks" (the
    # response's attention and where its phrases are), "priors" (portraits by the original) or "base_text" (both models
    # on the base text)
    needs: str
    compute: Callable[[Any], Tensor]


@dataclass(frozen=True)
class LowRank:
    """What a LoRA adds to a denoiser: each layer's weight changes by ``up @ down * alpha / rank``, the rank its own."""

    layers: Mapping[str, tuple[Tensor, Tensor]]  # module name in the denoiser -> down (r,in), up (out,r)
    alpha: float

    def change(self, layer: str) -> Tensor:
        """Of the layer's weight, (out,in)."""
        down, up = self.layers[layer]
        up = up * (self.alpha / len(down))
        # one rank after the other: a matrix product has other last bits on another machine, and weights are hashed
        return sum(torch.outer(column, row) for row, column in zip(down, up.T, strict=True))


class Tuning:
    """Seam: which weights learn. A dataclass whose fields are its options; floor 0 cannot name a ``Backbone``.

    In the order of a training: ``apply``, ``load_state`` where it is resumed, ``begin``, then in each step ``penalty``,
    ``after_step`` and, when it is saved, ``state``; ``merge`` when it has learnt.
    """

    exportable = True  # whether the customised denoiser, merged, is an ordinary one, as any pipeline loads it

    def apply(self, backbone: Any) -> list[Any]:
        """Make the denoiser what is tuned: add what learns, freeze the rest; returns the parameters that learn."""
        raise NotImplementedError

    def load_state(self, backbone: Any, state: dict[str, Any]) -> None:
        """Go on from what ``state`` gave; the weights that learn are loaded by others."""

    def begin(self, backbone: Any, steps: int) -> None:
        """Before the first step of a run, on its device: the training has so many optimizer steps in all."""

    def penalty(self, backbone: Any) -> Tensor | float:
        """What this way of tuning adds to the loss."""
        return 0.0

    def after_step(self, backbone: Any, step: int) -> None:
        """At once after optimizer step ``step``, counted from 1, while the gradients that it took are still there."""

    def state(self, backbone: Any) -> dict[str, Any]:
        """What a resume needs beside the weights that learn: tensors, numbers, lists and dicts of them."""
        return {}

    def merge(self, backbone: Any) -> LowRank | None:
        """Make the denoiser ordinary again, with what it has learnt; returns what was added where it is a LoRA."""
        return None


class Denoise(Protocol):
    """What a guidance sees of one step of sampling: the model, prompt and guidance scale already applied."""

    step: int  # from 0
    steps: int

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The output (B,C,h,w) for x_t (B,C,h,w), t (B,), under classifier-free guidance."""

    def attention(self, x_t: Tensor, t: Tensor) -> tuple[AttentionRecord, ...]:
        """What the model's layers see at x_t with the prompts, the negative half left out; gradients flow to x_t."""


class Guidance:
    """Seam: what is changed while generating. This neutral one changes nothing; a method overrides either half.

    A method is a dataclass whose public fields are its options. One is ``strength``, by which whatever it adds is
    multiplied: 0 changes nothing, bit for bit. Floor 0 cannot name floors above it: ``texts`` are
    ``spf.text.Prompt``, ``backbone`` is a ``Backbone``.
    """

    def edits(self, text: Any) -> bool:
        """Whether there is something to change for this prompt: what it cannot read stays as it is, and is counted."""
        return False

    def edit(self, texts: Sequence[Any], conditions: Conditions, backbone: Any) -> Conditions:
        """Once per batch, before the first step: edited conditions of the prompts (the negative half is not seen)."""
        return conditions

    def adjust(self, x_t: Tensor, t: Tensor, denoise: Denoise) -> Tensor:
        """Every step: the output (B,C,h,w) to step with. x_t (B,C,h,w) may be moved in place; t is (B,)."""
        return denoise(x_t, t)


@dataclass(frozen=True)
class Column:
    """Seam: one number of the results, by what a table needs to know; results carry it, so no table asks a metric.

    ``group`` is the paper's (Table 1): Preservation, Responsiveness, Overall; what it does not print is in More.
    """

    key: str  # in rows and results
    label: str
    group: str
    higher_is_better: bool
    decimals: int = 2
