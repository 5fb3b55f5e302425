"""Rows of all ranks -> one result: means over pairs in float64, failures beside them, and where it all comes from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spf.evaluation.measuring import Measured
from spf.files import read_lines, write_json, write_lines
from spf.notation import Column

RESAMPLES, SHOWN = 1000, 5  # of the bootstrap; failures that a result names


@dataclass
class Findings:
    """What all metrics say of one share of the pairs."""

    rows: dict[str, dict[str, float]] = field(default_factory=dict)  # by id
    failures: dict[str, dict[str, str]] = field(default_factory=dict)  # by metric, by id
    whole: dict[str, float] = field(default_factory=dict)  # by column key
    absent: dict[str, str] = field(default_factory=dict)  # by column key: the line that says what to fetch
    columns: dict[str, Sequence[Column]] = field(default_factory=dict)  # by metric
    metrics: dict[str, Any] = field(default_factory=dict)  # by name: what the metric says of itself

    def add(self, name: str, measured: Measured) -> None:
        """Take in what one metric has measured."""
        for sample, row in measured.rows.items():
            self.rows.setdefault(sample, {}).update(row)
        self.failures[name] = measured.failures
        self.whole |= measured.whole

    def write(self, file: Path, hashes: Mapping[str, Mapping[str, str]]) -> None:
        """A line a pair: its id (``sample``, since ``id`` is a number), hashes of both files, numbers, failures."""
        ids = sorted(self.rows.keys() | {sample for failed in self.failures.values() for sample in failed})
        write_lines(({"sample": sample, **hashes.get(sample, {}), **self.rows.get(sample, {}),
                      "failures": {name: failed[sample] for name, failed in self.failures.items() if sample in failed}}
                     for sample in ids), file)


def merged(files: Iterable[Path], ids: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of all ranks, in the order of their ids, each id once; of which no rank says anything, an empty one."""
    rows: dict[str, dict[str, Any]] = {sample: {"sample": sample, "failures": {}} for sample in ids}
    rows |= {row["sample"]: row for file in files for row in read_lines(file)}
    return [rows[sample] for sample in sorted(rows)]


def summary(rows: Sequence[Mapping[str, Any]], whole: Mapping[str, float],
            failures: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """{key: mean, std, n, missing, ci95} over rows with that key; ``whole`` has a value of all pairs together.

    ``failures`` are those of each key: a value of all pairs together is one of all others.

    The interval is the bootstrap's over pairs, with a fixed seed; std is that of a sample (N - 1).
    """
    found: dict[str, dict[str, Any]] = {}
    names = dict.fromkeys(key for row in rows for key, value in row.items() if isinstance(value, int | float))
    for key in names:
        values = np.array([row[key] for row in rows if key in row], dtype=np.float64)
        found[key] = {"mean": float(values.mean()), "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
                      "n": len(values), "missing": len(rows) - len(values), "ci95": _interval(values)}
    lost = {key: len(failures.get(key, ())) for key in whole}
    return found | {key: {"mean": value, "n": len(rows) - lost[key], "missing": lost[key]}
                    for key, value in whole.items()}


def _interval(values: np.ndarray) -> list[float]:
    rng = np.random.default_rng(0)
    drawn = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)]
    return [float(edge) for edge in np.quantile(drawn, (0.025, 0.975))]


def write_result(file: Path, row: str, base: str, findings: Findings, rows: Sequence[Mapping[str, Any]],
                 test_set: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What ``spf tables`` reads; the rows lie beside it as ``NAME.rows.jsonl``. Returns it."""
    reasons = {name: [f"{line['sample']}: {line['failures'][name]}" for line in rows if name in line["failures"]]
               for name in findings.columns}
    failures = {column.key: reasons[name] for name, columns in findings.columns.items() for column in columns
                if reasons[name]}
    result = {
        "row": row, "id": file.stem, "base": base,
        "columns": [asdict(column) for columns in findings.columns.values() for column in columns],
        "summary": summary(rows, findings.whole, failures), "absent": findings.absent,
        "failures": {key: {"count": len(lines), "first": lines[:SHOWN]} for key, lines in failures.items()},
        "test_set": dict(test_set), "manifest": {**manifest, "metrics": findings.metrics}}
    write_lines(rows, file.with_suffix(".rows.jsonl"))
    write_json(result, file)
    return result
