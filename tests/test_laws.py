"""The laws, over every registry."""

from functools import cache
from pathlib import Path

import pytest
import torch

from spf.backbones import BACKBONES, Backbone, load_backbone
from spf.baselines import GUIDANCES
from spf.baselines.objective import TERMS
from spf.evaluation.encoding import Pair
from spf.evaluation.metric import Metric
from spf.evaluation.registry import METRICS
from spf.miniature.painter import paint
from spf.miniature.people import base_text, draw_people, target_text
from spf.notation import Guidance
from spf.pictures import save_png
from spf.text import Prompt
from spf.tuning import TUNINGS
from tests.laws import (
    BACKBONE_LAWS,
    GUIDANCE_LAWS,
    METRIC_LAWS,
    PLAIN,
    TERM_LAWS,
    TUNING_LAWS,
    BackboneLaw,
    GuidanceLaw,
    MetricLaw,
    TermLaw,
    TuningLaw,
    neutral_guidance_changes_nothing,
)
from tests.method.records import random_step

TINY = {"tiny_sd15": "StableDiffusionPipeline", "tiny_sd35": "StableDiffusion3Pipeline",
        "tiny_sd35_without_t5": "StableDiffusion3Pipeline"}
"""The fixtures (of conftest.py) with a tiny folder, and what each is; every registered backbone has one."""


def test_every_registered_backbone_has_a_tiny_one() -> None:
    assert set(TINY.values()) == BACKBONES.keys()


@pytest.mark.parametrize("law", BACKBONE_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("tiny", TINY)
def test_backbone(tiny: str, law: BackboneLaw, request: pytest.FixtureRequest, prompt: Prompt, tmp_path: Path) -> None:
    backbone = load_backbone(request.getfixturevalue(tiny))
    assert backbone.pipeline == TINY[tiny]
    law(backbone, prompt, tmp_path)


def test_no_guidance(backbone: Backbone, prompt: Prompt) -> None:
    neutral_guidance_changes_nothing(Guidance(), backbone, prompt)


@pytest.mark.parametrize("law", GUIDANCE_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", GUIDANCES)
def test_guidance(name: str, law: GuidanceLaw, loaded: Backbone, prompt: Prompt) -> None:
    law(GUIDANCES[name](), loaded, prompt)


def test_every_term_of_alignment_has_its_plain_form() -> None:
    assert {name for name, term in TERMS.items() if term.needs == "alignment"} == PLAIN.keys()


@pytest.mark.parametrize("law", TERM_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("joint", [False, True], ids=["unet", "joint"])
@pytest.mark.parametrize("name", TERMS)
def test_term(name: str, joint: bool, law: TermLaw) -> None:
    torch.manual_seed(0)
    law(TERMS[name], random_step(joint=joint))


@pytest.fixture(scope="module")
def loaded(tiny_sd15: Path) -> Backbone:
    """The tiny backbone, to be copied and not to be changed."""
    return load_backbone(tiny_sd15)


@pytest.mark.parametrize("law", TUNING_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", TUNINGS)
def test_tuning(name: str, law: TuningLaw, loaded: Backbone, prompt: Prompt) -> None:
    backbone = loaded.frozen_copy()
    backbone.denoiser.requires_grad_(True)  # as a backbone comes
    law(TUNINGS[name](), backbone, prompt)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Three painted people, and three others in their places."""
    folder = tmp_path_factory.mktemp("pairs")
    people = draw_people(6, 50, ("glasses",), held_out=True)
    files = [save_png(image, folder / f"{i}.png") for i, image in enumerate(paint(people, 128))]
    return [Pair(str(i), files[i], files[i + 3], Prompt(base_text(people[i]), target_text("glasses")))
            for i in range(3)]


@cache
def measurable(name: str) -> Metric:
    """By the miniature's networks."""
    return METRICS[name].load("miniature", Path(), torch.device("cpu"))


@pytest.mark.parametrize("law", METRIC_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", [name for name, entry in METRICS.items() if entry.miniature])
def test_metric(name: str, law: MetricLaw, pairs: list[Pair]) -> None:
    law(measurable(name), pairs)
