"""Means in float64, what is missing beside them, and a file that the report room reads."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from spf.evaluation.measuring import Measured
from spf.evaluation.registry import METRICS
from spf.evaluation.results import SHOWN, Findings, merged, summary, write_result
from spf.files import read_lines
from spf.notation import Column
from spf.report.results import Summary, read_result
from tests.evaluation.fakes import Apart, Brightness

TEST_SET = {"sha256": "a" * 64, "count": 4, "seeds": [7, 10]}


def findings() -> Findings:
    """Of four pairs: one that neither metric can measure, one that only the second cannot."""
    found = Findings(columns={"brightness": Brightness.columns, "apart": Apart.columns},
                     metrics={"brightness": {"network": "none"}, "apart": {"network": "none", "pixels": 8}})
    found.add("brightness", Measured({"a": {"brighter": 0.1}, "b": {"brighter": 0.2}, "d": {"brighter": 0.3}},
                                     {"c": "c.png is missing"}, {"brightness": 0.5}))
    found.add("apart", Measured({"d": {"apart": 1.0}, "a": {"apart": 0.0}},
                                {"c": "c.png is missing", "b": "b.png has 8 x 8 pixels"}))
    return found


def test_a_line_a_pair(tmp_path: Path) -> None:
    findings().write(tmp_path / "rank0.jsonl", {"a": {"original": "1", "customised": "2"}})
    a, b, c, d = read_lines(tmp_path / "rank0.jsonl")
    assert a == {"sample": "a", "original": "1", "customised": "2", "brighter": 0.1, "apart": 0.0, "failures": {}}
    assert b == {"sample": "b", "brighter": 0.2, "failures": {"apart": "b.png has 8 x 8 pixels"}}
    assert c["failures"].keys() == {"brightness", "apart"} and "brighter" not in c and d["sample"] == "d"


def test_no_number_is_called_as_what_a_line_holds_beside_numbers() -> None:
    keys = {column.key for entry in METRICS.values() for column in entry.columns}
    assert keys.isdisjoint({"sample", "original", "customised", "failures"})


def test_rows_of_all_ranks_come_together_by_their_names(tmp_path: Path) -> None:
    for rank, names in enumerate(("ca", "b")):
        found = Findings()
        found.add("id", Measured({name: {"id": 1.0} for name in names}))  # ID's column is called as an id may be
        found.write(tmp_path / f"rank{rank}.jsonl", {})
    files = [tmp_path / "rank0.jsonl", tmp_path / "rank1.jsonl"]
    rows = merged(files, "abcd")
    assert [row["sample"] for row in rows] == ["a", "b", "c", "d"] and rows == merged(files[::-1], "dcba")
    found = summary(rows, {}, {})["id"]
    assert (found["n"], found["missing"]) == (3, 1), "what no rank has measured is missing"


def test_means_are_of_float64() -> None:
    values = np.random.default_rng(1).normal(1e4, 1, 1000)
    rows = [{"sample": str(i), "x": float(value)} for i, value in enumerate(values)]
    found = summary(rows, {}, {})["x"]
    assert found["mean"] == pytest.approx(math.fsum(values) / 1000, rel=1e-14)
    assert found["std"] == pytest.approx(values.std(ddof=1), rel=1e-12) and (found["n"], found["missing"]) == (1000, 0)


def test_the_interval_is_the_same_each_time_and_that_of_theory() -> None:
    rows = [{"x": float(value)} for value in np.random.default_rng(1).normal(size=400)]
    found = summary(rows, {}, {})["x"]
    assert found == summary(rows, {}, {})["x"]
    low, high = found["ci95"]
    assert low < found["mean"] < high and (high - low) / 2 == pytest.approx(1.96 * found["std"] / 20, rel=0.1)
    assert summary([{"x": 3.0}], {}, {})["x"] == {"mean": 3.0, "std": 0.0, "n": 1, "missing": 0, "ci95": [3.0, 3.0]}


def test_what_is_missing_is_counted() -> None:
    rows = [{"x": 1.0}, {"x": 2.0, "y": True}, {"sample": "c"}]
    found = summary(rows, {"fid": 4.0}, {"fid": ["c: gone"]})
    assert (found["x"]["n"], found["x"]["missing"], found["y"]["missing"]) == (2, 1, 2)
    assert found["fid"] == {"mean": 4.0, "n": 2, "missing": 1} and "sample" not in found
    assert summary([], {}, {}) == {}


def test_the_report_reads_what_is_written(tmp_path: Path) -> None:
    found, file = findings(), tmp_path / "results" / "ours.json"
    found.absent = {"mps": "MPS: absent; fetch it"}
    found.columns["mps"] = (Column("mps", "MPS", "Overall", True),)
    found.write(tmp_path / "rank0.jsonl", {})
    rows = merged([tmp_path / "rank0.jsonl"], "abcd")
    written = write_result(file, "Ours", "miniature", found, rows, TEST_SET, {"date": "2026-11-21", "commit": "abc"})
    assert json.loads(file.read_text()) == written and read_lines(file.with_suffix(".rows.jsonl")) == rows
    read = read_result(file)
    assert (read.id, read.row, read.base, read.test_set) == ("ours", "Ours", "miniature", TEST_SET)
    interval = tuple(written["summary"]["apart"]["ci95"])
    assert read.summary["apart"] == Summary(0.5, 2, 2, interval) and read.summary["brightness"] == Summary(0.5, 3, 1)
    assert read.summary["brighter"].mean == pytest.approx(0.2, rel=1e-15) and read.summary["brighter"].n == 3
    assert list(read.columns.values()) == [*Brightness.columns, *Apart.columns, Column("mps", "MPS", "Overall", True)]
    assert read.absent == found.absent and read.manifest == {"date": "2026-11-21", "commit": "abc",
                                                             "metrics": found.metrics}
    assert read.failures == {"brighter": {"count": 1, "first": ["c: c.png is missing"]},
                             "brightness": {"count": 1, "first": ["c: c.png is missing"]},
                             "apart": {"count": 2, "first": ["b: b.png has 8 x 8 pixels", "c: c.png is missing"]}}


def test_only_the_first_failures_are_printed(tmp_path: Path) -> None:
    found = Findings(columns={"apart": Apart.columns})
    found.add("apart", Measured({}, {f"{i:03d}": "is missing" for i in range(50)}))
    found.write(tmp_path / "rank0.jsonl", {})
    written = write_result(tmp_path / "a.json", "", "", found, merged([tmp_path / "rank0.jsonl"], []), TEST_SET, {})
    assert written["failures"]["apart"]["count"] == 50 and len(written["failures"]["apart"]["first"]) == SHOWN
    assert written["summary"] == {}
