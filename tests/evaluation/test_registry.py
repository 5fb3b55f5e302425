"""The list of metrics: no two of one name, none that pretends to have what it lacks."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spf.evaluation.fid import FrechetDistance
from spf.evaluation.registry import METRICS, asked, metric_entry
from spf.evaluation.weights import WeightsAbsent
from spf.report.paper import EIGHT

CPU = torch.device("cpu")
COLOURS = "tests.evaluation.test_distance:Colours"


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_no_two_columns_have_one_key() -> None:
    keys = Counter(column.key for entry in METRICS.values() for column in entry.columns)
    assert all(entry.columns for entry in METRICS.values()) and set(keys.values()) == {1}
    groups = {column.group for entry in METRICS.values() for column in entry.columns}
    assert groups == {"Preservation", "Responsiveness", "Overall", "More"}


def test_the_papers_columns_are_measured_under_the_names_of_the_tables() -> None:
    measured = {column.key: column for name in asked("published") for column in METRICS[name].columns}
    for paper in EIGHT:
        assert replace(measured[paper.key], label=paper.label, decimals=paper.decimals) == paper


@pytest.mark.parametrize("name", METRICS)
def test_without_its_files_a_metric_says_so_in_one_line(name: str, tmp_path: Path) -> None:
    entry = METRICS[name]
    with pytest.raises(WeightsAbsent) as caught:
        entry.load("published", tmp_path, CPU)
    line = str(caught.value)
    assert "\n" not in line
    if entry.published:
        assert entry.files and any(one.name in line and one.command(tmp_path) in line for one in entry.files)
    else:
        assert line == f"{entry.columns[0].label}: the published networks have none for it"


@pytest.mark.parametrize("name", METRICS)
def test_the_miniatures_networks_say_what_they_are(name: str, tmp_path: Path) -> None:
    entry = METRICS[name]
    if entry.miniature is None:
        with pytest.raises(WeightsAbsent, match="the miniature networks have none for it"):
            entry.load("miniature", tmp_path, CPU)
        return
    one, other = (entry.load("miniature", tmp_path, CPU).describe() for _ in range(2))
    assert json.loads(json.dumps(one)) == one == other
    assert "miniature" in json.dumps(one) and any(len(word) == 64 for word in json.dumps(one).split('"'))


def test_what_is_asked_unless_others_are_named() -> None:
    eight = {"fid", "lpips", "id", "clip", "seg_cons", "hpsv2_1", "mps"}
    for networks in ("published", "miniature"):
        names = asked(networks)
        assert eight < set(names) and names == [name for name in METRICS if name in names]
        assert all(getattr(METRICS[name], networks) for name in set(names) - eight)
    assert "repaint" in asked("miniature") and "repaint" not in asked("published")
    assert not {name for name, entry in METRICS.items() if not entry.asked} & set(asked("published"))


def test_anyones_extractor_is_a_metric(tmp_path: Path) -> None:
    entry = metric_entry(COLOURS)
    assert [column.key for column in entry.columns] == ["fid_colours", "kid_colours"]
    for networks in ("published", "miniature"):
        metric = entry.load(networks, tmp_path, CPU)
        assert isinstance(metric.whole(2)["fid_colours"], FrechetDistance)
        assert re.search(rf"^{COLOURS}, weights [0-9a-f]{{64}}, code [0-9a-f]{{64}}$", metric.describe()["weights"])


@pytest.mark.parametrize(("name", "reason"), [
    ("ssim", f"no metric 'ssim'; there are {', '.join(METRICS)}; or module:Class for FID"),
    ("tests.evaluation.test_distance:Nameless", "Nameless lacks name, of type str"),
    ("no.such.module:Extractor", "give one as module:Class")])
def test_what_is_no_metric_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        metric_entry(name)
