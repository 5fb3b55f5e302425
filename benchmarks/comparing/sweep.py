"""Figure 14: each weight of Eq. 12 at nothing, as it is, and four times as large."""

from collections.abc import Iterator

SWEEP = {term: {"0": f"without_{term}", "as ours": "ours", "x 4": f"{term}_x4"}
         for term in ("m_text", "m_fine", "enhanced")}
"""By term: the row of each weight."""


def settings() -> Iterator[tuple[str, str]]:
    """(label, id) of every setting, term by term."""
    for term, rows in SWEEP.items():
        yield from ((f"{term} {weight}", row) for weight, row in rows.items())
