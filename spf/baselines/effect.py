"""What a guidance does to a list of prompts: the share it can edit, and how far it moves the portraits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from spf.backbones import Backbone
from spf.notation import Guidance
from spf.sampling import generate
from spf.text import Prompt


@dataclass(frozen=True)
class Effect:
    """Of a guidance, beside the same at strength 0."""

    edited: float  # share of the prompts in which it has something to change, in [0,1]
    pixel_change: float  # mean absolute difference of all portraits' pixels, in 8-bit steps, [0,255]


def edited_share(guidance: Guidance, prompts: Sequence[Prompt]) -> float:
    """The share of prompts in which the guidance has something to change, in [0,1]."""
    return sum(map(guidance.edits, prompts)) / len(prompts)


def effect(guidance: Guidance, backbone: Backbone, prompts: Sequence[Prompt], seeds: Sequence[int],
           **sampling: Any) -> Effect:
    """Generate with the guidance and at strength 0; ``sampling`` are further options of ``generate``."""
    images, neutral = (generate(backbone, prompts, seeds, guidance=one, **sampling)
                       for one in (guidance, replace(guidance, strength=0.0)))
    return Effect(edited_share(guidance, prompts), 255 * float((images - neutral).abs().mean()))
