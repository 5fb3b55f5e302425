"""What any row of the comparison minimises: the paper's terms (Eq. 12) and those of other methods, a weight each."""

from collections.abc import Mapping
from dataclasses import dataclass

from spf.baselines import preservation, tokencompose
from spf.method.objective import TERMS as OURS
from spf.method.objective import Objective
from spf.notation import Term


@dataclass(frozen=True)
class AnyObjective(Objective):
    """The weight of every term there is. By default the paper's; another method's row has 0 for these.

    Args:
        token: of TokenCompose's token loss; its own is 1e-3.
        pixel: of TokenCompose's pixel loss; its own is 5e-5.
        prior_preservation: of portraits that the original made; DreamBooth's own is 1.
        output_preservation: of the outputs on base text, against the original's.
    """

    token: float = 0.0
    pixel: float = 0.0
    prior_preservation: float = 0.0
    output_preservation: float = 0.0

    @property
    def known(self) -> Mapping[str, Term]:
        return TERMS


TERMS: Mapping[str, Term] = {**OURS, **{term.name: term for term in (*tokencompose.TERMS, *preservation.TERMS)}}
"""Everything that can be minimised, by name; ``AnyObjective`` has a field for each."""

PAPER = AnyObjective()
"""The paper's weights."""
