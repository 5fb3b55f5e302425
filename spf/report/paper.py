"""Tables 1, 3, 4, 5 and 6 of the paper as it prints them: its rows, which result of ours each one is, its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from spf.notation import Column

Role = Literal["own", "mmdit", "timing"]
"""Where a row's result lies: with the base that is reported, with its MM-DiT sibling, or in the timing of a step."""

EIGHT: tuple[Column, ...] = (
    Column("fid", "FID", "Preservation", higher_is_better=False),
    Column("lpips", "LPIPS", "Preservation", higher_is_better=False),
    Column("id", "ID", "Preservation", higher_is_better=True),
    Column("clip_i", "CLIP-I", "Preservation", higher_is_better=True),
    Column("seg_cons", "Seg-Cons", "Preservation", higher_is_better=True),
    Column("clip_t", "CLIP-T", "Responsiveness", higher_is_better=True),
    Column("hpsv2_1", "HPSv2", "Overall", higher_is_better=True),
    Column("mps", "MPS", "Overall", higher_is_better=True),
)
"""The columns of Tables 1, 4 and 6, in their order."""

PRECISIONS = {"FP16": "16-mixed", "FP32": "32-true", "BF16": "bf16-mixed"}
"""The data types of Table 3, and Lightning's names for them."""

TIMING: tuple[Column, ...] = tuple(
    Column(f"{precision}.{key}", f"{label} {unit}", "Data Type", higher_is_better=False)
    for label, precision in PRECISIONS.items() for key, unit in (("seconds", "s/iter"), ("gib", "GiB")))
"""The columns of Table 3: seconds of a step and peak memory, by data type."""


@dataclass(frozen=True)
class PaperRow:
    """One row: the paper's label, the id of our result, and the paper's numbers as printed, one a column or none."""

    label: str
    id: str
    numbers: tuple[Decimal, ...] = ()
    role: Role = "own"


@dataclass(frozen=True)
class PaperTable:
    """One table; ``number`` is None for what the paper does not print."""

    number: int | None
    title: str
    columns: tuple[Column, ...]
    rows: tuple[PaperRow, ...]
    note: str = ""  # what one must know to read it
    ranked: bool = True  # whether the best of a column is in bold


def _row(label: str, result: str, numbers: str, role: Role = "own") -> PaperRow:
    return PaperRow(label, result, tuple(map(Decimal, numbers.split())), role)


def _on_mmdit(rows: Sequence[PaperRow]) -> tuple[PaperRow, ...]:
    return tuple(replace(row, role="mmdit") for row in rows)


_BASELINES = (
    _row("Standard Fine-tuning", "standard_fine_tuning", "20.41 0.57 0.21 0.63 57.77 0.24 0.21 0.67"),
    _row("LoRA",                 "lora",                 " 9.82 0.38 0.52 0.71 58.37 0.27 0.23 1.21"),
    _row("AdaLoRA",              "adalora",              " 7.38 0.40 0.39 0.80 64.86 0.23 0.24 1.10"),
    _row("TokenCompose",         "tokencompose",         "10.93 0.41 0.32 0.81 40.22 0.27 0.24 0.71"),
    _row("Magnet",               "magnet",               "18.92 0.48 0.38 0.61 32.87 0.26 0.26 0.97"),
    _row("STORM",                "storm",                "17.30 0.54 0.27 0.60 30.04 0.26 0.24 0.70"),
)  # fmt: skip
_OURS_MMDIT = _row("Ours (SD 3.5-M)", "ours", "4.27 0.30 0.65 0.82 77.18 0.32 0.30 1.83", "mmdit")
_OVERLY_ALIGNED = "Ours (w/o SFCM) may keep too much: its portraits may overly align with the originals."

TABLE_1 = PaperTable(1, "Quantitative Comparison Results", EIGHT, (
    *_BASELINES,
    _OURS_MMDIT,
    _row("Ours (SD 1.5)",           "ours",             "4.50 0.35 0.55 0.83 75.74 0.30 0.28 1.49"),
    _row("Ours (w/o L_M-text)",     "without_m_text",   "4.97 0.39 0.48 0.60 61.39 0.28 0.23 1.13"),
    _row("Ours (w/o L_M-fine)",     "without_m_fine",   "6.74 0.42 0.32 0.71 41.62 0.27 0.21 1.22"),
    _row("Ours (w/o L_enhanced)",   "without_enhanced", "4.52 0.37 0.49 0.81 74.38 0.22 0.23 1.40"),
    _row("Ours (w/o SFCM)",         "without_sfcm",     "4.13 0.14 0.73 0.88 80.03 0.17 0.23 1.09"),
), _OVERLY_ALIGNED)  # fmt: skip

TABLE_3 = PaperTable(3, "Computation Time and Memory Usage of Training under Different Data Types", TIMING, (
    _row("Stage-1 (w/o reference path)", "stage 1", "1.92 17 2.28 23 1.90 18", "timing"),
    _row("Stage-2 (w/ reference path)",  "stage 2", "2.10 21 3.26 28 2.15 18", "timing"),
    _row("Standard Fine-tuning",         "stage 1", "1.92 17 2.28 23 1.90 18", "timing"),
), "Stage-1 is Standard Fine-tuning; the paper prints its memory in GB.", ranked=False)  # fmt: skip

TABLE_4 = PaperTable(4, "Quantitative and Ablation Results on MM-DiT", EIGHT, (
    *_on_mmdit(_BASELINES),
    replace(_OURS_MMDIT, label="Ours (SD3.5-M)"),
    *_on_mmdit((
        _row("Ours (w/o L_M-text)", "without_m_text", "5.24 0.41 0.39 0.67 53.24 0.25 0.25 1.10"),
        _row("Ours (w/o L_M-fine)", "without_m_fine", "7.72 0.48 0.27 0.54 31.94 0.22 0.25 1.18"),
        _row("Ours (w/o SFCM)",     "without_sfcm",   "3.72 0.11 0.89 0.92 87.24 0.12 0.23 1.14"))),
), f"{_OVERLY_ALIGNED} The paper prints the numbers of Table 1 for the first six rows.")  # fmt: skip

_FIVE = (*EIGHT[:5], *EIGHT[6:], EIGHT[5])  # Overall before Responsiveness
TABLE_5 = PaperTable(5, "Quantitative Comparisons with other architecture", _FIVE, (
    _row("Full Weights",           "full_weights",         "7.82 0.40 0.309 0.81 48.39 0.22 0.87 0.26"),
    _row("LoRA on Cross-Atten",    "lora_cross_attention", "7.10 0.39 0.487 0.61 68.37 0.24 1.21 0.26"),
    _row("Adapter on Cross-Atten", "adapter",              "5.93 0.37 0.520 0.80 61.70 0.25 1.31 0.27"),
    _row("Ours",                   "ours",                 "4.50 0.35 0.55 0.83 75.74 0.28 1.49 0.30"),
))  # fmt: skip

TABLE_6 = PaperTable(6, "Ablation Study of the training Stage", EIGHT, (
    replace(_BASELINES[0], label="Only Stage-1 (Standard Fine-tuning)"),
    _row("Only Stage-2",       "only_stage2", "7.18 0.38 0.13 0.71 63.72 0.19 0.24 1.12"),
    _row("Stage-1&2 (Ours)",   "ours",        "4.50 0.35 0.55 0.83 75.74 0.30 0.28 1.49"),
))  # fmt: skip

TABLES: dict[int, PaperTable] = {table.number: table for table in (TABLE_1, TABLE_3, TABLE_4, TABLE_5, TABLE_6)}
"""By number. Table 2 is the paper's notation (``spf.notation``)."""
