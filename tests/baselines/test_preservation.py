"""Prior and output preservation: mean squares of each sample, with a gradient for the tuned model alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spf.baselines.preservation import TERMS, output_preservation, prior_preservation
from tests.method.records import random_step

OUTPUT, OTHER = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(2, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)


@pytest.mark.parametrize("loss", [prior_preservation, output_preservation])
def test_it_is_the_mean_square_of_each_sample(loss: Callable[..., Tensor]) -> None:
    assert loss(OUTPUT, OTHER).tolist() == [2.0, 10.0]
    assert loss(OUTPUT, OUTPUT).tolist() == [0, 0]
    assert loss(OUTPUT.bfloat16(), OTHER.bfloat16()).dtype == torch.float32


def test_the_original_has_no_gradient() -> None:
    tuned, original = OUTPUT.clone().requires_grad_(), OTHER.clone().requires_grad_()
    output_preservation(tuned, original).sum().backward()
    assert tuned.grad.any() and original.grad is None


def test_each_term_reads_its_own_outputs() -> None:
    step, (prior, output) = random_step(), TERMS
    assert torch.equal(prior.compute(step), prior_preservation(step.prior_output, step.prior_target))
    assert torch.equal(output.compute(step), output_preservation(step.base_output, step.reference_output))
