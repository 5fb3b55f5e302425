"""The paper's tables are its tables: order, rows, numbers."""

from decimal import Decimal

import pytest

from spf.report.paper import EIGHT, TABLES, TIMING

IDS = {"standard_fine_tuning", "lora", "adalora", "tokencompose", "magnet", "storm", "ours", "without_m_text",
       "without_m_fine", "without_enhanced", "without_sfcm"}


@pytest.mark.parametrize("number", TABLES)
def test_every_row_has_a_number_for_every_column(number: int) -> None:
    table = TABLES[number]
    assert table.number == number and {len(row.numbers) for row in table.rows} == {len(table.columns)}
    assert len({row.label for row in table.rows}) == len(table.rows)


def test_columns_stand_in_the_paper_s_order() -> None:
    assert [column.key for column in EIGHT] == ["fid", "lpips", "id", "clip_i", "seg_cons", "clip_t", "hpsv2_1", "mps"]
    assert [column.key for column in EIGHT if not column.higher_is_better] == ["fid", "lpips"]
    assert [column.group for column in TABLES[5].columns] == ["Preservation"] * 5 + ["Overall"] * 2 + ["Responsiveness"]
    assert sorted(TABLES[5].columns, key=EIGHT.index) == list(EIGHT)
    assert [column.label for column in TIMING][::2] == ["FP16 s/iter", "FP32 s/iter", "BF16 s/iter"]


@pytest.mark.parametrize(("number", "label", "key", "value"), [
    (1, "Standard Fine-tuning", "fid", "20.41"), (1, "LoRA", "mps", "1.21"), (1, "Magnet", "seg_cons", "32.87"),
    (1, "Ours (SD 3.5-M)", "clip_t", "0.32"), (1, "Ours (SD 1.5)", "seg_cons", "75.74"),
    (1, "Ours (w/o SFCM)", "clip_t", "0.17"), (1, "Ours (w/o L_enhanced)", "mps", "1.40"),
    (3, "Stage-2 (w/ reference path)", "32-true.seconds", "3.26"), (3, "Standard Fine-tuning", "bf16-mixed.gib", "18"),
    (4, "STORM", "hpsv2_1", "0.24"), (4, "Ours (w/o L_M-fine)", "fid", "7.72"), (4, "Ours (w/o SFCM)", "id", "0.89"),
    (5, "Full Weights", "id", "0.309"), (5, "Adapter on Cross-Atten", "clip_t", "0.27"), (5, "Ours", "mps", "1.49"),
    (6, "Only Stage-2", "clip_t", "0.19"), (6, "Only Stage-2", "mps", "1.12"), (6, "Stage-1&2 (Ours)", "fid", "4.50"),
])
def test_numbers_are_the_printed_ones(number: int, label: str, key: str, value: str) -> None:
    table = TABLES[number]
    row = next(row for row in table.rows if row.label == label)
    printed = dict(zip([column.key for column in table.columns], row.numbers, strict=True))[key]
    assert printed == Decimal(value) and str(printed) == value


def test_rows_are_our_results() -> None:
    ids = {number: {(row.role, row.id) for row in table.rows} for number, table in TABLES.items()}
    assert ids[1] == {("own", one) for one in IDS} | {("mmdit", "ours")}
    assert ids[4] == {("mmdit", one) for one in IDS - {"without_enhanced"}}
    assert ids[5] == {("own", one) for one in ("full_weights", "lora_cross_attention", "adapter", "ours")}
    assert ids[6] == {("own", one) for one in ("standard_fine_tuning", "only_stage2", "ours")}
    assert [row.id for row in TABLES[3].rows] == ["stage 1", "stage 2", "stage 1"]
