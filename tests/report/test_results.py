"""Result files are read whole or refused in words, and are not mixed."""

import json
from pathlib import Path

import pytest

from spf.notation import Column
from spf.report.results import Summary, differences, read_result, read_results, read_step_time
from tests.report.measured import EXTRA, result, step_time

KEYS = ("lpips", "fid")


def test_a_result_is_read(tmp_path: Path) -> None:
    one = {"lpips": {"mean": 0.25, "std": 0.1, "n": 190, "missing": 2, "ci95": [0.2, 0.3]}}
    file = result(tmp_path, "ours", {}, summary=one, absent={"mps": "MPS: absent"})
    found = read_result(file)
    assert (found.id, found.row, found.base, found.file) == ("ours", "Ours", tmp_path.name, file)
    assert found.summary == {"lpips": Summary(0.25, 190, 2, (0.2, 0.3))} and found.absent == {"mps": "MPS: absent"}
    assert found.columns["face_rate"] == EXTRA and found.columns["fid"] == Column("fid", "FID", "Preservation", False)


def test_every_row_of_a_folder_but_the_timing(tmp_path: Path) -> None:
    assert read_results(tmp_path / "none") == {} == read_step_time(tmp_path / "none" / "step_time.json")
    result(tmp_path, "ours", {"fid": 3.0})
    result(tmp_path, "lora", {"fid": 4.0})
    step_time(tmp_path)
    assert list(read_results(tmp_path)) == ["lora", "ours"]


def test_the_timing_of_a_step_is_rows_too(tmp_path: Path) -> None:
    rows = read_step_time(step_time(tmp_path))
    assert rows["stage 1"].summary["bf16-mixed.gib"].mean == 0.37
    second = rows["stage 2"].summary
    assert second["32-true.seconds"].mean == 0.6 and second["32-true.gib"].mean is None
    assert rows["stage 2"].manifest["device"] == "2 threads"


def test_what_is_no_number_is_none(tmp_path: Path) -> None:
    file = result(tmp_path, "ours", {"id": float("nan"), "fid": float("inf"), "mps": None})
    assert {one.mean for one in read_result(file).summary.values()} == {None}


@pytest.mark.parametrize(("text", "reason"), [
    ('{"row": "Ours"', "is damaged"), ("[]", "not an object"), ('{"row": "Ours"}', "'id' is missing"),
    ("\x00", "is damaged")])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "ours.json").write_text(text)
    with pytest.raises(ValueError, match=f"ours.json .*{reason}.*make eval"):
        read_results(tmp_path)


@pytest.mark.parametrize(("changed", "reason"), [
    ({"columns": [{"key": "fid"}]}, "columns: 'label' is missing"),
    ({"summary": {"fid": {"n": 2}}}, "'mean' is missing"),
    ({"summary": {"fid": {"mean": "3", "n": 2}}}, "summary of fid: 'mean' is '3'"),
    ({"test_set": {"sha256": "a", "count": 2}}, "test_set: 'seeds' is missing"), ({"manifest": None}, "'manifest' is")])
def test_what_a_file_lacks_is_named(tmp_path: Path, changed: dict[str, object], reason: str) -> None:
    file = result(tmp_path, "ours", {}, **changed)
    with pytest.raises(ValueError, match=f"ours.json .*{reason}"):
        read_result(file)


def test_a_file_under_another_name_is_refused(tmp_path: Path) -> None:
    result(tmp_path, "ours", {}, id="lora")
    with pytest.raises(ValueError, match="ours.json holds the row of id 'lora'"):
        read_results(tmp_path)


def test_a_damaged_timing_names_its_maker(tmp_path: Path) -> None:
    file = step_time(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rows": {"stage 1": {"32-true": {}}}}))
    with pytest.raises(ValueError, match="stage 1, 32-true: 'seconds' is missing.*step_time.py"):
        read_step_time(file)


def test_rows_measured_alike_do_not_differ(tmp_path: Path) -> None:
    other = {"sha256": "b" * 64, "count": 192, "seeds": [420000, 420191]}
    files = [result(tmp_path / "miniature", name, {"lpips": 0.1}) for name in ("ours", "lora")]
    files.append(result(tmp_path / "miniature_mmdit", "ours", {"lpips": 0.1}, test_set=other))  # another base's own
    assert list(differences([read_result(file) for file in files], KEYS)) == []


@pytest.mark.parametrize(("changed", "what"), [
    ({"test_set": {"sha256": "b" * 64, "count": 192, "seeds": [420000, 420191]}}, "the test set of .*: sha256 a+ .*bb"),
    ({"test_set": {"sha256": "a" * 64, "count": 16, "seeds": [420000, 420015]}}, "the test set of .*: count 192 .*16"),
    ({"manifest": {"metrics": {"lpips": {"network": "vgg"}}}}, "the metric lpips: network alex against vgg"),
    ({"columns": [{**vars(Column("lpips", "LPIPS", "Preservation", True))}]}, "the column lpips: higher_is_better")])
def test_another_test_set_or_metric_is_a_difference(tmp_path: Path, changed: dict[str, object], what: str) -> None:
    files = result(tmp_path, "lora", {"lpips": 0.1}), result(tmp_path, "ours", {"lpips": 0.1}, **changed)
    found = list(differences([read_result(file) for file in files], KEYS))
    assert len(found) == 1 + ("count" in what)  # a part of a test set is another number of pairs too
    with pytest.raises(ValueError, match=f"lora.json and .*ours.json differ in {what}"):
        raise ValueError(found[0])
