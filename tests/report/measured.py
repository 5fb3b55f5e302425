"""Result files made by hand."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spf.notation import Column
from spf.report.paper import EIGHT

EXTRA = Column("face_rate", "Faces", "More", higher_is_better=True, decimals=3)


def result(folder: Path, name: str, means: dict[str, float | None], **changed: Any) -> Path:
    """``folder/name.json`` with these means of 192 pairs each; ``changed`` replaces whole fields."""
    content = {
        "row": name.title(), "id": name, "base": folder.name, "columns": [asdict(one) for one in (*EIGHT, EXTRA)],
        "summary": {key: {"mean": mean, "std": 0.1, "n": 192, "missing": 0} for key, mean in means.items()},
        "absent": {}, "failures": {}, "test_set": {"sha256": "a" * 64, "count": 192, "seeds": [420000, 420191]},
        "manifest": {"date": "2026-11-21", "commit": "abc1234", "versions": {"torch": "2.14.0"}, "steps": 20,
                     "metrics": {"lpips": {"network": "alex"}}}} | changed
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(content))
    return file


def step_time(folder: Path) -> Path:
    """``folder/step_time.json``: both stages in both precisions of a CPU."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "step_time.json"
    file.write_text(json.dumps({
        "device": "2 threads", "batch": 16, "manifest": {"date": "2026-11-21", "commit": "abc1234"},
        "rows": {"stage 1": {"bf16-mixed": {"seconds": 0.49, "gib": 0.37}, "32-true": {"seconds": 0.4, "gib": 0.35}},
                 "stage 2": {"bf16-mixed": {"seconds": 0.71, "gib": 0.5}, "32-true": {"seconds": 0.6}}}}))
    return file
