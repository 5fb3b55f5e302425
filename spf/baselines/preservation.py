"""The two nearest rivals in spirit: both hold the tuned model to the original, and neither knows where the target is.

Prior preservation (DreamBooth, Ruiz et al. 2023) goes on teaching what the original makes by itself. Differential
output preservation holds the tuned model's output on the base text to the original's, as public trainers do it.
"""

from torch import Tensor

from spf.notation import Term


def prior_preservation(prior_output: Tensor, prior_target: Tensor) -> Tensor:
    """DreamBooth's second term, (B,): L_diff of portraits that the original made of base texts.

    Args:
        prior_output: (B,C,h,w) of the tuned model, on a noised prior and its base text.
        prior_target: (B,C,h,w) what it should be.
    """
    return (prior_output.float() - prior_target.float()).square().mean((1, 2, 3))


def output_preservation(base_output: Tensor, reference_output: Tensor) -> Tensor:
    """(B,): without target text the tuned model is to say of x_t at t what the original says.

    Args:
        base_output: (B,C,h,w) of the tuned model on the base text.
        reference_output: (B,C,h,w) of the frozen original on the base text.
    """
    return (base_output.float() - reference_output.detach().float()).square().mean((1, 2, 3))


TERMS = (
    Term("prior_preservation", "DreamBooth, prior preservation", "priors",
         lambda s: prior_preservation(s.prior_output, s.prior_target)),
    Term("output_preservation", "differential output preservation", "base_text",
         lambda s: output_preservation(s.base_output, s.reference_output)),
)
