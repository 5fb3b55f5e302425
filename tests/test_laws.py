"""The laws, over every registry."""

from pathlib import Path

import pytest

from spf.backbones import BACKBONES, Backbone, load_backbone
from spf.notation import Guidance
from spf.text import Prompt
from tests.laws import BACKBONE_LAWS, BackboneLaw, neutral_guidance_changes_nothing

TINY = {"StableDiffusionPipeline": "tiny_sd15"}
"""The fixture (of conftest.py) with a tiny folder of each registered backbone."""


def test_every_registered_backbone_has_a_tiny_one() -> None:
    assert TINY.keys() == BACKBONES.keys()


@pytest.mark.parametrize("law", BACKBONE_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("kind", TINY)
def test_backbone(kind: str, law: BackboneLaw, request: pytest.FixtureRequest, prompt: Prompt, tmp_path: Path) -> None:
    law(load_backbone(request.getfixturevalue(TINY[kind])), prompt, tmp_path)


def test_guidance(backbone: Backbone, prompt: Prompt) -> None:
    neutral_guidance_changes_nothing(Guidance(), backbone, prompt)
