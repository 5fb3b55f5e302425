"""``spf doctor --eval``: which networks of the metrics a machine lacks."""

from pathlib import Path

from spf.evaluation.registry import METRICS
from spf.evaluation.weights import Weights


def networks(folder: Path) -> None:
    """Prints which of the metrics' published networks are here, missing, or not what they should be: a line a file."""
    for name, entry in METRICS.items():
        for needed in entry.files:
            print(f"{name:14} {needed.name:34} {state(needed, folder)}")


def state(needed: Weights, folder: Path) -> str:
    """One line: present, with its place; wrong hash; or missing, with size, licence and what fetches it."""
    path = needed.local(folder)
    if path is None:
        return f"missing: {needed.megabytes:,} MB, {needed.licence}; {needed.command(folder)}"
    if not needed.is_right(path):
        return f"wrong hash: {path} is not {needed.sha256}; remove it, then {needed.command(folder)}"
    return f"present: {path}" + ("" if needed.sha256 else " (no hash is published)")
