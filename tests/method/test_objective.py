"""Eq. 12: the weighted sum of what is asked for, and of nothing else."""

from dataclasses import fields, replace

import pytest
import torch

from spf.method import objective
from spf.method.objective import PAPER, TERMS, Objective, Step
from spf.notation import Term
from tests.method.records import random_step

NOTHING = Objective(diffusion=0, m_text=0, m_fine=0, enhanced=0, direct_clip=0)


def failing(term: Term) -> Term:
    def compute(step: Step) -> torch.Tensor:
        raise AssertionError(f"{term.name} has no weight and is computed")

    return replace(term, compute=compute)


def test_the_papers_weights() -> None:
    assert PAPER == Objective(diffusion=1.0, m_text=0.2, m_fine=0.1, enhanced=0.6, direct_clip=0.0)
    assert [term.name for term in PAPER.terms] == ["diffusion", "m_text", "m_fine", "enhanced"]


def test_every_weight_has_its_term_and_every_term_its_weight() -> None:
    assert {field.name for field in fields(Objective)} == set(TERMS)
    assert all(name == term.name for name, term in TERMS.items())


def test_the_total_is_the_weighted_sum_of_means() -> None:
    terms = {"diffusion": torch.tensor([1.0, 3.0]), "m_text": torch.tensor([10.0, 20.0]),
             "m_fine": torch.tensor([100.0, 300.0]), "enhanced": torch.tensor([0.5])}
    assert PAPER.total(terms).item() == pytest.approx(2 + 0.2 * 15 + 0.1 * 200 + 0.6 * 0.5)
    other = Objective(diffusion=0.5, m_text=0, m_fine=0, enhanced=0, direct_clip=2)
    assert other.total({"diffusion": torch.tensor([2.0]), "direct_clip": torch.tensor([0.25])}).item() == 1.5


def test_a_step_has_the_terms_by_name_unweighted() -> None:
    step = random_step()
    terms, doubled = PAPER(step), replace(PAPER, m_text=0.4)(step)
    assert set(terms) == {"diffusion", "m_text", "m_fine", "enhanced"}
    for name, value in terms.items():
        assert torch.equal(value, TERMS[name].compute(step)) and torch.equal(value, doubled[name])


def test_diffusion_is_the_mean_square_of_each_sample() -> None:
    output = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(2, 1, 1, 2)
    assert Objective().terms[0].compute(Step(output, torch.zeros_like(output))).tolist() == [2.5, 12.5]
    assert TERMS["diffusion"].compute(Step(output.bfloat16(), torch.zeros_like(output))).dtype == torch.float32


@pytest.mark.parametrize("name", TERMS)
def test_a_term_without_weight_is_not_computed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = Objective(**dict.fromkeys(TERMS, 1.0))
    monkeypatch.setattr(objective, "TERMS", {**TERMS, name: failing(TERMS[name])})
    assert set(replace(everything, **{name: 0.0})(random_step())) == set(TERMS) - {name}
    with pytest.raises(AssertionError, match=f"{name} has no weight"):
        everything(random_step())


@pytest.mark.parametrize(("asked", "alignment", "image"), [
    ("diffusion", False, False), ("m_text", True, False), ("m_fine", True, False), ("enhanced", False, True),
    ("direct_clip", False, True)])
def test_needs(asked: str, alignment: bool, image: bool) -> None:
    only = replace(NOTHING, **{asked: 0.1})
    assert (only.needs("alignment"), only.needs("image")) == (alignment, image)
    assert PAPER.needs("alignment") and PAPER.needs("image")
    assert not NOTHING.needs("alignment") and not NOTHING.needs("image")


@pytest.mark.parametrize("name", TERMS)
def test_a_term_finds_in_the_step_what_it_says_it_needs(name: str) -> None:
    step, term = random_step(), TERMS[name]
    held = {"": {}, "alignment": {key: getattr(step, key) for key in ("reference", "response", "base_tokens", "sfcm")},
            "image": {key: getattr(step, key) for key in ("one_step_image", "portrait", "target_text")}}
    assert torch.equal(term.compute(Step(step.output, step.target, **held[term.needs])), term.compute(step))


def test_image_terms_are_left_out_where_nothing_was_decoded() -> None:
    objective = Objective(direct_clip=0.3)
    terms = objective(replace(random_step(), one_step_image=None))
    assert set(terms) == {"diffusion", "m_text", "m_fine"}
    expected = terms["diffusion"].mean() + 0.2 * terms["m_text"].mean() + 0.1 * terms["m_fine"].mean()
    assert torch.allclose(objective.total(terms), expected)


def test_fewer_samples_may_be_decoded_than_the_batch_has() -> None:
    step = random_step()
    some = replace(step, one_step_image=step.one_step_image[:1], portrait=step.portrait[:1],
                   target_text=step.target_text[:1])
    terms = PAPER(some)
    assert terms["enhanced"].shape == (1,) and terms["diffusion"].shape == (3,)
    assert PAPER.total(terms).isfinite()
