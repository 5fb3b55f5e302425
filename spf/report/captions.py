"""What a caption says beside the title: which models, which pairs, which commit and versions; or how to get rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spf.report.paper import PaperTable, Role
from spf.report.results import Result

PAPERS = {"own": ("sd15", "SD 1.5"), "mmdit": ("sd35m", "SD 3.5-M")}
"""Our and the paper's name of the base models in the paper, by role."""
TOLD = ("device", "batch", "steps", "commit")
"""What a caption tells of a manifest by its name there."""


def stand_ins(made: PaperTable, folders: Mapping[Role, Path]) -> list[str]:
    """What the base models in the paper's labels are here, where they are others."""
    asked = {row.role for row in made.rows}
    return [f"The paper's {label} is {folders[role].name} here." for role, (name, label) in PAPERS.items()
            if made.number and role in asked and folders[role].name != name]


def provenance(results: Sequence[Result]) -> list[str]:
    """A sentence for each base: N, seeds, test set, commit, dates, versions; all values where rows differ."""
    by_base: dict[str, list[Result]] = {}
    for result in results:
        by_base.setdefault(result.base, []).append(result)
    return [": ".join(filter(None, [base, _together([_origin(result) for result in some])])) + "."
            for base, some in by_base.items()]


def remedy(made: PaperTable, folders: Mapping[Role, Path]) -> str:
    """How to get rows."""
    own, roles = folders["own"], {row.role for row in made.rows}
    if roles == {"timing"}:
        return f"Nothing is measured yet: `python benchmarks/step_time.py --out {own}` does it."
    base = own if "own" in roles else folders["mmdit"]
    return f"Nothing is measured yet: `make eval BASE={base.name}` fills {base}."


def _together(origins: Sequence[Sequence[str]]) -> str:
    """Part by part, each different one once."""
    return "; ".join(dict.fromkeys(part for parts in zip(*origins, strict=True) for part in parts if part))


def _origin(result: Result) -> list[str]:
    """Where a row comes from, part by part; "" for what its file does not say."""
    test_set, manifest = result.test_set, result.manifest
    versions = [f"{name} {version}" for name, version in manifest.get("versions", {}).items() if version]
    pairs = [f"N = {test_set['count']} pairs", f"seeds {' to '.join(map(str, test_set['seeds']))}",
             f"test set {test_set['sha256'][:12]}"] if test_set else [""] * 3
    networks = [f"{name} by {_network(made)}" for name, made in manifest.get("metrics", {}).items()]
    told = [f"{name} {manifest[name]}" if manifest.get(name) not in (None, "") else "" for name in TOLD]
    return [*pairs, ", ".join(networks), *told, str(manifest.get("date", ""))[:10], ", ".join(versions)]


def _network(made: Mapping[str, Any]) -> str:
    """What a metric says of its network, or networks."""
    network = made.get("network", "none")
    return network if isinstance(network, str) else " and ".join(map(str, network))
