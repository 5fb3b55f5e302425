"""All weights in one objective: the paper's by default, and none of another method's."""

from dataclasses import fields, replace

import pytest
import torch

from spf.baselines.objective import PAPER, TERMS, AnyObjective
from spf.method import objective
from spf.method.objective import Step
from tests.method.records import random_step

OTHERS = {"token", "pixel", "prior_preservation", "output_preservation"}
HELD = {"masks": ("response", "phrase_tokens", "masks"), "priors": ("prior_output", "prior_target"),
        "base_text": ("base_output", "reference_output")}
"""What a step must hold for a term that needs this."""


def test_by_default_it_is_the_papers() -> None:
    assert {name: getattr(PAPER, name) for name in objective.TERMS} == vars(objective.PAPER)
    assert PAPER.terms == objective.PAPER.terms and not PAPER.needs(*HELD)


def test_every_weight_has_its_term_and_every_term_its_weight() -> None:
    assert {field.name for field in fields(AnyObjective)} == set(TERMS) == set(objective.TERMS) | OTHERS
    assert all(name == term.name for name, term in TERMS.items())


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_a_term_finds_in_the_step_what_it_says_it_needs(name: str) -> None:
    step, only = random_step(), replace(AnyObjective(m_text=0, m_fine=0, enhanced=0), **{name: 0.5})
    need = TERMS[name].needs
    assert {what for what in (*HELD, "alignment", "image") if only.needs(what)} == {need}
    held = Step(step.output, step.target, **{field: getattr(step, field) for field in HELD[need]})
    terms = only(held)
    assert set(terms) == {"diffusion", name} and torch.equal(terms[name], TERMS[name].compute(step))
    assert torch.equal(only.total(terms), terms["diffusion"].mean() + 0.5 * terms[name].mean())
