"""What stage 2 minimises (Eq. 12): named terms, each with its weight; one of weight 0 costs nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from spf.method.alignment import fine_grained, text_consistent
from spf.method.enhancement import direct_clip, enhanced
from spf.notation import AttentionRecord, Term


@dataclass
class Step:
    """What one training step has to say, filled in the order of Algorithm 1 as far as its terms need it.

    What only the terms of other methods read stands at the end.
    """

    output: Tensor  # (B,C,h,w) epsilon_theta' or v_theta' of the response path
    target: Tensor  # (B,C,h,w) what it should be
    reference: tuple[AttentionRecord, ...] = ()
    response: tuple[AttentionRecord, ...] = ()
    base_tokens: Tensor | None = None  # (B,T)
    sfcm: Tensor | None = None  # (B,h,w)
    one_step_image: Tensor | None = None  # (b,E) tau_vision(x_{t->0}) of the b samples that are decoded
    portrait: Tensor | None = None  # (b,E) tau_vision(x_0)
    target_text: Tensor | None = None  # (b,E) tau_text(E_tar)
    phrase_tokens: Tensor | None = None  # (B,T,P) 1/|tokens of phrase i| in its rows; the last is the target text
    masks: Tensor | None = None  # (B,P,R,R) where each of them is; empty where that is not known
    prior_output: Tensor | None = None  # (B,C,h,w) epsilon_theta' of noised portraits by the original, on base text
    prior_target: Tensor | None = None  # (B,C,h,w) what it should be
    base_output: Tensor | None = None  # (B,C,h,w) epsilon_theta' of x_t on base text
    reference_output: Tensor | None = None  # (B,C,h,w) epsilon_theta of x_t on base text


@dataclass(frozen=True)
class Objective:
    """The weight of every term; the paper's lambda_1 to lambda_3 are 0.2, 0.1 and 0.6.

    Args:
        diffusion: of L_diff, Eq. 1.
        m_text: lambda_1, of the text-consistent alignment L_M-text, Eq. 8.
        m_fine: lambda_2, of the fine-grained alignment L_M-fine, Eq. 8.
        enhanced: lambda_3, of the response enhancement L_enhanced, Eq. 11.
        direct_clip: of L_clip, Eq. 9, which Fig. 5 compares with the enhancement.
    """

    diffusion: float = 1.0
    m_text: float = 0.2
    m_fine: float = 0.1
    enhanced: float = 0.6
    direct_clip: float = 0.0

    @property
    def known(self) -> Mapping[str, Term]:
        """The terms that there are fields for, by name."""
        return TERMS

    @property
    def terms(self) -> list[Term]:
        """Those with a weight."""
        return [term for term in self.known.values() if getattr(self, term.name)]

    def needs(self, *what: str) -> bool:
        """Whether some term needs one of these, see ``Term``."""
        return any(term.needs in what for term in self.terms)

    def __call__(self, step: Step) -> dict[str, Tensor]:
        """The terms by name, (B,) each or (b,) of the decoded samples, not yet weighted."""
        ready = [term for term in self.terms if term.needs != "image" or step.one_step_image is not None]
        return {term.name: term.compute(step) for term in ready}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the terms' means, a scalar."""
        # ---- Eq. 12: L_SPF = L_diff + lambda_1 L_M-text + lambda_2 L_M-fine + lambda_3 L_enhanced ----
        return sum(getattr(self, name) * term.mean() for name, term in terms.items())


PAPER = Objective()
"""The paper's weights."""

TERMS: Mapping[str, Term] = {term.name: term for term in (
    Term("diffusion", "Eq. 1", "", lambda s: (s.output.float() - s.target).square().mean((1, 2, 3))),
    Term("m_text", "Eq. 8", "alignment", lambda s: text_consistent(s.reference, s.response, s.base_tokens, 1 - s.sfcm)),
    Term("m_fine", "Eq. 8", "alignment", lambda s: fine_grained(s.reference, s.response, 1 - s.sfcm)),
    Term("enhanced", "Eq. 11", "image", lambda s: enhanced(s.one_step_image, s.portrait, s.target_text)),
    Term("direct_clip", "Eq. 9", "image", lambda s: direct_clip(s.one_step_image, s.target_text)),
)}
"""The paper's terms, by name; ``Objective`` has a field for each."""
