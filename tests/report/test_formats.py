"""Each format says the same table in a form that its readers take."""

import csv
import io
import json
import re
from decimal import Decimal

import pytest

from spf.notation import Column
from spf.report.cells import Cell, Row, Table
from spf.report.formats import FORMATS, latex, markdown, to_csv, to_json

COLUMNS = (Column("fid", "FID", "Preservation", False), Column("id", "ID", "Preservation", True, 3),
           Column("clip_t", "CLIP-T", "Responsiveness", True))
TABLE = Table(1, "Results", COLUMNS, (
    Row("Ours (w/o L_M-text)", "without_m_text", "miniature", (
        Cell(3.14159, paper=Decimal("4.97"), best=True), Cell(None), Cell(-0.5, ci95=(-0.61, -0.4), note=1))),
    Row("LoRA | r_8 & 50%", "lora", "miniature", (Cell(4.0), Cell(0.5, paper=Decimal("0.309")), Cell())),
), facts=("N = 192 pairs.",), notes=("2 of 192 pairs are missing",), absent=("MPS: get `a_b` from <x>",))
OTHER = Table(None, "Other rows", COLUMNS[:1], (Row("Original", "original", "miniature", (Cell(0.0),)),))


def test_markdown_has_arrows_bold_dashes_and_footnotes() -> None:
    lines = markdown([TABLE]).splitlines()
    assert lines[0] == "### Table 1: Results" and lines[2] == "N = 192 pairs."
    assert lines[4:8] == [
        "| Method | FID (↓) | ID (↑) | CLIP-T (↑) |", "| --- | ---: | ---: | ---: |",
        "| Ours (w/o L_M-text) | **3.14** (4.97) | - | -0.50<sup>1</sup> [-0.61, -0.40] |",
        "| LoRA \\| r_8 & 50% | 4.00 | 0.500 (0.309) | - |"]
    assert lines[9:] == ["<sup>1</sup> 2 of 192 pairs are missing.  ", "- MPS: get `a_b` from <x>"]


def test_latex_rows_have_a_cell_for_every_column() -> None:
    text = latex([TABLE, OTHER])
    body = re.search(r"\\midrule\n(.*?)\n\\bottomrule", text, re.S)[1].splitlines()
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body] == [3, 3]
    assert body == [
        r"Ours (w/o $\mathcal{L}_{\text{M-text}}$) & \textbf{3.14} (4.97) & - & $-$0.50 [$-$0.61, $-$0.40]$^{1}$ \\",
        r"LoRA \textbar{} r\_8 \& 50\% & 4.00 & 0.500 (0.309) & - \\"]
    assert r"Method & FID ($\downarrow$) & ID ($\uparrow$) & CLIP-T ($\uparrow$) \\" in text
    assert r"MPS: get \texttt{a\_b} from \textless{}x\textgreater{}" in text
    assert r"\begin{tabular}{lccc}" in text and r"\caption{Results (Table 1 of the paper). N = 192 pairs.}" in text
    assert r"\caption{Other rows.}" in text


def test_latex_groups_span_all_columns() -> None:
    names, rules = re.search(r"\\toprule\n(.*)\n(.*)\n", latex([TABLE])).groups()
    assert names == r" & \multicolumn{2}{c}{Preservation} & \multicolumn{1}{c}{Responsiveness} \\"
    assert rules == r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}"


def test_latex_is_balanced() -> None:
    text = latex([TABLE, OTHER])
    opened, closed = re.findall(r"\\begin\{(\w+)\}", text), re.findall(r"\\end\{(\w+)\}", text)
    assert sorted(opened) == sorted(closed) == ["table", "table", "tabular", "tabular"]
    bare = re.sub(r"\\[{}$]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert not re.search(r"(?<!\\)[#%]", bare.split("\n", 1)[1])  # the first line is a comment


def test_csv_parses_back() -> None:
    first, second, third = csv.DictReader(io.StringIO(to_csv([TABLE, OTHER])))
    assert float(first["fid"]) == 3.14159 and first["fid_paper"] == "4.97" and first["id"] == "-"
    assert (float(first["clip_t_low"]), float(first["clip_t_high"])) == (-0.61, -0.4)
    assert second["method"] == "LoRA | r_8 & 50%" and second["result"] == "lora" and second["fid_paper"] == ""
    assert (third["table"], third["fid"], third["clip_t"]) == ("Other rows", "0.0", "")


def test_json_has_null_for_what_is_not_measured() -> None:
    one, other = json.loads(to_json([TABLE, OTHER]))
    assert one["rows"][0]["values"] == {"fid": 3.14159, "id": None, "clip_t": -0.5}
    assert one["rows"][0]["paper"] == {"fid": 4.97} and one["rows"][0]["best"] == ["fid"]
    assert one["rows"][0]["ci95"] == {"clip_t": [-0.61, -0.4]} and one["rows"][0]["notes"] == {"clip_t": 1}
    assert one["columns"][1] == vars(COLUMNS[1]) and one["absent"] == list(TABLE.absent)
    assert other["table"] is None and "paper" not in other["rows"][0]


@pytest.mark.parametrize("name", FORMATS)
def test_no_table_is_no_error(name: str) -> None:
    assert isinstance(FORMATS[name]([]), str)
