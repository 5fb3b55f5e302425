"""Samples that each learning network has seen, its stage 1 included: rows of one table should have seen as many."""

from collections.abc import Mapping

from comparing.reading import Rows

TRAINED = ("standard_fine_tuning", "lora", "adalora", "tokencompose", "ours", "prior_preservation",
           "output_preservation")
ALIKE = 1.1  # the largest over the smallest, at most


def budgets(rows: Rows) -> dict[str, int]:
    """Samples by id, of the trained rows whose results say so."""
    said = {name: rows[name].result.manifest.get("samples") for name in TRAINED if name in rows}
    return {name: samples for name, samples in said.items() if isinstance(samples, int) and samples > 0}


def spread(seen: Mapping[str, int]) -> float:
    """The largest over the smallest; 0 where no budget is known."""
    return max(seen.values()) / min(seen.values()) if seen else 0.0
