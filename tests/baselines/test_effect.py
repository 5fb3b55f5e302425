"""What a guidance does, beside itself at strength 0."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor

from spf.backbones import Backbone
from spf.baselines.effect import edited_share, effect
from spf.notation import Conditions, Denoise, Guidance
from spf.sampling import generate
from spf.text import Prompt

QUICK: dict[str, Any] = {"steps": 2, "chunk": 2, "progress": False}
PROMPTS = [Prompt("a woman"), Prompt("a man", "a hat"), Prompt("a child")]


@dataclass
class Brighter(Guidance):
    """Adds to the output where a prompt has a target."""

    strength: float = 1.0

    def edits(self, text: Prompt) -> bool:
        return bool(text.target_text)

    def edit(self, texts: Sequence[Prompt], conditions: Conditions, backbone: Backbone) -> Conditions:
        self._rows = [self.edits(text) for text in texts]
        return conditions

    def adjust(self, x_t: Tensor, t: Tensor, denoise: Denoise) -> Tensor:
        output = denoise(x_t, t)
        output[self._rows] += self.strength
        return output


def test_the_share_of_prompts_that_it_edits() -> None:
    assert edited_share(Brighter(), PROMPTS) == pytest.approx(1 / 3)
    assert edited_share(Guidance(), PROMPTS) == 0


def test_the_pixel_change_is_the_mean_over_all_portraits(backbone: Backbone) -> None:
    found = effect(Brighter(2.0), backbone, PROMPTS, [1, 2, 3], **QUICK)
    plain, changed = (generate(backbone, PROMPTS, [1, 2, 3], guidance=one, **QUICK) for one in (None, Brighter(2.0)))
    assert found.edited == pytest.approx(1 / 3)
    assert found.pixel_change == pytest.approx(255 * float((plain[1] - changed[1]).abs().mean()) / 3, rel=1e-5)
    assert effect(Brighter(0.0), backbone, PROMPTS, [1, 2, 3], **QUICK).pixel_change == 0
