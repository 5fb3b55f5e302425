"""STORM (Han et al. 2025): x_t is moved, in the first half of the steps, until two nouns stand apart.

Row "STORM" of Table 1. Free of training: gradients of ``arrangement_cost`` through the denoiser's attention to the
prompt move x_t before a step is made. Written down from the released code, whose schedule is one of 50 steps: with
another number of steps, a step has the position in the 50 that it has in the whole.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from spf.backbones import Backbone
from spf.baselines.arrangement import Arrangement, arrangement_cost, centroid, distribution, token_maps
from spf.baselines.noun_phrases import NounPhrase, last_tokens, noun_phrases
from spf.baselines.nouns import NOUNS
from spf.notation import Conditions, Denoise, Guidance
from spf.text import Prompt

STEPS, MOVED_UNTIL = 50, 25  # the schedule, and the position in it from which x_t is left alone
STEP_SIZE = 20.0  # of x_t along a gradient of norm 1, falling to STEP_SIZE * sqrt(1/2)
ROUNDS = 30  # at most, of moves at one refined step
ALLOWED = {5: 0.05, 10: 0.01, 15: 0.005, 20: 0.001}
"""Positions at which x_t is moved until its cost is as low (released as thresholds 0.95, 0.99, 0.995, 0.999)."""
DIRECTIONS: dict[str, tuple[Literal["x", "y"], bool]] = {
    "left": ("x", False), "right": ("x", True), "above": ("y", False), "below": ("y", True)}
"""The axis that a word speaks of, and whether it puts the second noun first on it."""


@dataclass(frozen=True)
class Slope:
    """What a batch costs at x_t, and where it falls."""

    cost: Tensor  # (B,)
    gradient: Tensor  # (B,C,h,w), of norm 1 at most
    misplaced: Tensor  # (B,) bool: the nouns do not stand as they should


@dataclass
class Storm(Guidance):
    """Moves x_t for prompts with two nouns; others are left alone.

    The nouns are ``two_nouns`` either way; the released code takes prompts that hold exactly two.

    Args:
        strength: factor of each move; the method's own is 1.
        strict_repo: with the released code's faults: right is left and below is above, the vertical cost varies from
            left to right, and a step is refined when the nouns stand well already (without a direction, vertically).
    """

    strength: float = 1.0
    strict_repo: bool = False
    _wanted: list[Arrangement | None] = field(default_factory=list, init=False, repr=False, compare=False)

    def edits(self, text: Prompt) -> bool:
        """Whether there are two nouns."""
        return two_nouns(text) is not None

    def edit(self, texts: Sequence[Prompt], conditions: Conditions, backbone: Backbone) -> Conditions:
        """A new batch begins: where its nouns are. The conditions stay."""
        length = conditions.sequence.shape[1]
        self._wanted = [arrangement(text, backbone, length, self.strict_repo) for text in texts]
        return conditions

    def adjust(self, x_t: Tensor, t: Tensor, denoise: Denoise) -> Tensor:
        """Each sample of x_t (B,C,h,w) is moved by its own gradient alone."""
        position = STEPS * denoise.step / denoise.steps
        if self.strength and 0 < position < MOVED_UNTIL and any(self._wanted):
            # ---- STORM: x_t <- x_t - 20 sqrt(r_i) g, r_i falling from 1 to 1/2 over the 50 steps ----
            size = self.strength * STEP_SIZE * math.sqrt(1 - position / (STEPS - 1) / 2)
            slope = self._refined(x_t, t, denoise, position, size)
            x_t -= size * slope.gradient
        return denoise(x_t, t)

    def _refined(self, x_t: Tensor, t: Tensor, denoise: Denoise, position: float, size: float) -> Slope:
        """Where this step is a refined one, x_t moved until each sample costs little; the slope after that."""
        slope = self._slope(x_t, t, denoise, position)
        passed = [mark for mark in ALLOWED if position - STEPS / denoise.steps < mark <= position]
        allowed = ALLOWED[passed[-1]] if passed else math.inf
        due = slope.misplaced & (slope.cost > allowed)
        for _ in range(ROUNDS):
            if not due.any():
                break
            x_t -= size * slope.gradient * due[:, None, None, None]
            slope = self._slope(x_t, t, denoise, position)
            due &= slope.cost > allowed
        return slope

    def _slope(self, x_t: Tensor, t: Tensor, denoise: Denoise, position: float) -> Slope:
        # in float32, whatever portraits are made in: gradients of maps are too small for float16
        with torch.enable_grad(), torch.autocast(x_t.device.type, enabled=False):
            x_t = x_t.detach().requires_grad_()
            maps = token_maps(denoise.attention(x_t, t))  # (B,T,h,w)
            cost = torch.stack([
                arrangement_cost(one, wanted, position, self.strict_repo) if wanted else one.new_zeros(())
                for one, wanted in zip(maps, self._wanted, strict=True)])
            (gradient,) = torch.autograd.grad(cost.sum(), x_t)
        norm = gradient.flatten(1).norm(dim=1).clamp(min=1)[:, None, None, None]
        misplaced = [wanted is not None and self._misplaced(one, wanted)
                     for one, wanted in zip(maps.detach(), self._wanted, strict=True)]
        return Slope(cost.detach(), gradient / norm, torch.tensor(misplaced, device=x_t.device))

    def _misplaced(self, maps: Tensor, wanted: Arrangement) -> bool:
        """Whether the nouns do not stand as a direction says; as released, whether they do (vertically without one)."""
        if wanted.axis is None and not self.strict_repo:
            return False
        first, second = (centroid(distribution(maps[token], blur=True), wanted.axis or "y") for token in wanted.nouns)
        return bool(second > first if self.strict_repo else first > second)


def two_nouns(prompt: Prompt) -> tuple[NounPhrase, NounPhrase] | None:
    """The head noun of the base text's subject and that of the target, else the prompt's first two that differ."""
    found = [phrase for phrase in noun_phrases(prompt) if phrase.noun not in DIRECTIONS]
    base, target = ([phrase for phrase in found if phrase.of_target == of_target] for of_target in (False, True))
    # without a parser a phrase may end in a verb: a word that is a noun for certain goes before
    target = sorted(target, key=lambda phrase: phrase.noun not in NOUNS)
    subject, *rest = [*base[:1], *target, *base[1:]] or [None]
    other = next((phrase for phrase in rest if phrase.noun != subject.noun), None)
    return other and (subject, other)


def arrangement(prompt: Prompt, backbone: Backbone, length: int, strict_repo: bool = False) -> Arrangement | None:
    """The two nouns in the T = ``length`` tokens, the word before each, and a direction where a word says one.

    None where there are no two, or truncation has removed one.
    """
    pair = two_nouns(prompt)
    if pair is None:
        return None
    # of each noun: its adjective's token, where it has one, and its own
    tokens = [last_tokens(prompt, phrase.spans[-2:], backbone, length) for phrase in pair]
    if any(own[-1] is None for own in tokens):
        return None
    said = re.findall(rf"\b(?:{'|'.join(DIRECTIONS)})\b", prompt.full_text.lower())
    axis, swapped = DIRECTIONS[said[0]] if said else (None, False)
    if swapped and not strict_repo:
        tokens = tokens[::-1]
    first, second = tokens
    adjectives = tuple(own[0] if len(own) > 1 else None for own in tokens)
    return Arrangement((first[-1], second[-1]), adjectives, axis)
