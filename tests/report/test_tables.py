"""Tables are the paper's rows and columns with what was measured in them."""

import json
from pathlib import Path

import pytest
from jsonargparse import auto_cli

from spf.report.cells import Table
from spf.report.paper import TABLES
from spf.report.tables import Assembly, bases, chosen_tables, read_all, tables
from tests.report.measured import result, step_time

OTHER_SET = {"sha256": "b" * 64, "count": 192, "seeds": [420000, 420191]}


def assembled(folder: Path, number: int, **asked: bool) -> Table:
    folders = bases(folder)
    return Assembly(read_all(folders), folders, **asked).table(TABLES[number])


def values(table: Table, key: str) -> dict[str, float | None]:
    place = [column.key for column in table.columns].index(key)
    return {row.label: row.cells[place].value for row in table.rows}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results" / "miniature"


def test_rows_stand_where_the_paper_has_them(folder: Path) -> None:
    result(folder, "ours", {"fid": 3.0, "lpips": 0.2})
    result(folder, "lora", {"fid": 2.5})
    result(folder.with_name("miniature_mmdit"), "ours", {"fid": 1.0}, test_set=OTHER_SET)
    one = assembled(folder, 1)
    assert [row.label for row in one.rows] == [row.label for row in TABLES[1].rows]
    fid = values(one, "fid")
    assert (fid["Ours (SD 1.5)"], fid["LoRA"], fid["Ours (SD 3.5-M)"], fid["STORM"]) == (3.0, 2.5, 1.0, None)
    assert {row.label for row in one.rows if row.cells[0].best} == {"Ours (SD 3.5-M)"}
    assert values(assembled(folder, 6), "fid")["Stage-1&2 (Ours)"] == 3.0
    assert values(assembled(folder, 4), "fid")["LoRA"] is None  # the sibling's is not measured
    assert [column.key for column in assembled(folder, 5).columns][-3:] == ["hpsv2_1", "mps", "clip_t"]


def test_the_result_s_own_arrow_ranks(folder: Path) -> None:
    column = {"key": "fid", "label": "FID (judge)", "group": "Odd", "higher_is_better": True, "decimals": 3}
    for name, mean in (("ours", 3.0), ("lora", 2.0)):
        result(folder, name, {"fid": mean}, columns=[column])
    one = assembled(folder, 1)
    assert [row.label for row in one.rows if row.cells[0].best] == ["Ours (SD 1.5)"]
    assert (one.columns[0].label, one.columns[0].group, one.columns[0].decimals) == ("FID (judge)", "Preservation", 3)


def test_the_timing_fills_table_3_unranked(folder: Path) -> None:
    step_time(folder)
    three = assembled(folder, 3)
    assert values(three, "bf16-mixed.seconds") == {
        "Stage-1 (w/o reference path)": 0.49, "Stage-2 (w/ reference path)": 0.71, "Standard Fine-tuning": 0.49}
    assert set(values(three, "16-mixed.gib").values()) == {None}
    assert not any(cell.best for row in three.rows for cell in row.cells)


def test_missing_pairs_are_footnotes_and_absent_networks_are_told_once(folder: Path) -> None:
    missing = {key: {"mean": mean, "n": 190, "missing": 2} for key, mean in (("lpips", 0.2), ("id", 0.5))}
    absent = {"mps": "MPS: mps.safetensors is absent", "face_rate": "not shown"}
    result(folder, "ours", {}, summary=missing, absent=absent,
           failures={"lpips": {"count": 2, "first": ["000012: unreadable", "000013: unreadable"]}})
    result(folder, "lora", {}, summary={"id": missing["id"]}, absent=absent)
    one = assembled(folder, 1)
    assert one.notes == ("2 of 192 pairs are missing", "2 of 192 pairs are missing, first 000012: unreadable")
    lora, ours = (next(row for row in one.rows if row.label == label) for label in ("LoRA", "Ours (SD 1.5)"))
    assert (lora.cells[2].note, ours.cells[1].note, ours.cells[2].note) == (1, 2, 1)
    assert one.absent == ("MPS: mps.safetensors is absent",)


def test_mixing_is_refused_with_both_files_and_forced_with_a_word(folder: Path) -> None:
    result(folder, "lora", {"fid": 2.0}, test_set=OTHER_SET)
    result(folder, "ours", {"fid": 3.0})
    with pytest.raises(ValueError, match="lora.json and .*ours.json differ in the test set of miniature.*--force true"):
        assembled(folder, 1)
    assert any(fact.startswith("Mixed by force: ") for fact in assembled(folder, 1, force=True).facts)
    assert values(assembled(folder, 5), "fid")["Ours"] == 3.0  # LoRA's row is not in it


def test_more_shows_other_columns_and_intervals(folder: Path) -> None:
    result(folder, "ours", {"face_rate": 0.9}, summary={
        "face_rate": {"mean": 0.9, "n": 192}, "lpips": {"mean": 0.2, "n": 192, "missing": 0, "ci95": [0.1, 0.3]}})
    plain, more = assembled(folder, 1), assembled(folder, 1, more=True)
    assert len(plain.columns) == 8 and [column.key for column in more.columns[8:]] == ["face_rate"]
    row = [row.label for row in plain.rows].index("Ours (SD 1.5)")
    assert plain.rows[row].cells[1].ci95 is None and more.rows[row].cells[1].ci95 == (0.1, 0.3)


def test_rows_of_no_table_get_their_own(folder: Path) -> None:
    result(folder, "ours", {"fid": 3.0})
    assert len(chosen_tables((), read_all(bases(folder)))) == 5
    result(folder, "original", {"fid": 0.0})
    result(folder.with_name("miniature_mmdit"), "adapter", {"fid": 1.0})
    found = read_all(bases(folder))
    *_, other = chosen_tables((), found)
    assert other.number is None
    assert [(row.label, row.id) for row in other.rows] == [
        ("Original", "original"), ("Adapter (miniature_mmdit)", "adapter")]
    assert [one.number for one in chosen_tables((4, 1), found)] == [4, 1]
    with pytest.raises(ValueError, match="no results in Table 2: give some of 1, 3, 4, 5, 6"):
        chosen_tables((2,), found)


@pytest.mark.parametrize(("given", "own", "mmdit"), [
    ("miniature", "miniature", "miniature_mmdit"), ("miniature_mmdit", "miniature", "miniature_mmdit"),
    ("sd15", "sd15", "sd35m"), ("sd35m", "sd15", "sd35m")])
def test_a_base_is_found_beside_its_sibling(given: str, own: str, mmdit: str) -> None:
    assert bases(Path("results") / given) == {"own": Path("results") / own, "mmdit": Path("results") / mmdit}


def test_nothing_measured_is_dashes_and_a_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables(str(folder))
    printed = capsys.readouterr().out
    assert printed.count("### Table") == 5 and printed.count("Nothing is measured yet") == 5
    assert "| Ours (SD 1.5) |" + " - |" * 8 in printed and "make eval BASE=miniature" in printed
    tables(str(folder), format="json")
    shown = json.loads(capsys.readouterr().out)
    assert [one["table"] for one in shown] == [1, 3, 4, 5, 6]
    assert {value for one in shown for row in one["rows"] for value in row["values"].values()} == {None}


def test_the_command_line_writes_whole_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result(folder, "ours", {"fid": 3.0})
    out = tmp_path / "paper" / "tables.md"
    given = f"tables --results {folder} --table [6,1] --paper true --out {out}"
    auto_cli({"tables": tables}, args=given.split(), as_positional=True)
    written = out.read_text()
    assert written.startswith("### Table 6") and "### Table 1" in written and "3.00 (4.50)" in written
    assert "In parentheses are the paper's own numbers" in written and list(out.parent.iterdir()) == [out]
    assert capsys.readouterr().out == f"tables written to {out}\n"
    auto_cli({"tables": tables}, args=["tables", "--table", "5"], as_positional=True)
    assert capsys.readouterr().out.startswith("### Table 5")
