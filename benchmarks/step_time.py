"""What a training step of stage 2 costs beside one of stage 1 (Table 3), and beside its own floor.

    python benchmarks/step_time.py [--quick] [--base miniature|sd15] [--backbone unet|mmdit] [--batch N] [--pairs N]
                                   [--threads N] [--out DIR]

Timed is the ``training_step`` of the shipped recipes, with backward, clipping and AdamW, on one batch of portraits over
and over; rows take turns, and ratios are medians over rounds of a row over stage 1 in the same round. The peer writes
its attention maps out, and must find the same losses before it is timed. The floor is counted in FLOPs.

SD 1.5 has its real size and random weights; its rows come one after the other, since two do not fit into a small
machine. Without a GPU it is timed in bf16 and without the decoders: a step takes a minute, and stage 1 some 18 GB.

The last line is JSON, of the recipes' own precision:

- ``stage2_over_stage1_plain``, ``stage2_over_stage1``: seconds over seconds, without and with the enhancement
- ``explicit_over_ours``: stage 2 by explicit attention maps over stage 2
- ``time_over_floor``: ``stage2_over_stage1`` over the same ratio in FLOPs

``--quick`` times only that; without it ``step_time.md`` is written, with every row and precision, memory and the split,
and ``step_time.json``, from which ``spf tables`` has Table 3 if it lies in a results folder (``--out results/BASE``).
"""

import argparse
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch
from machine.memory import fresh
from machine.processor import processor
from timing.bases import Base, prepared
from timing.floor import necessary, whole
from timing.memory import MEANT, peak_memory
from timing.rows import CHANGES, EXPLICIT, PLAIN, SHIPPED, STAGE1, build, recipe_batch
from timing.split import split
from timing.table import Measured, bars, by_row, section
from timing.training import check_peer, in_turn

from spf.evaluation.provenance import provenance
from spf.files import write_json

QUICK = (STAGE1, PLAIN, SHIPPED, EXPLICIT)
OWN = "bf16-mixed"  # the recipes' precision
ROUNDS = {"quick": 5, "miniature": 12, "miniature_mmdit": 12, "sd15": 2}


def main() -> None:
    """Measure and print."""
    options = _options()
    torch.set_num_threads(options.threads)
    with prepared(options.base) as base:
        found = measure(base, OWN, QUICK, options) if options.quick else report(base, options)
    print("\n".join(map(str, bars(found))))
    figures = {"stage2_over_stage1_plain": found.over(PLAIN), "stage2_over_stage1": found.over(SHIPPED),
               "explicit_over_ours": found.over(EXPLICIT, SHIPPED), "time_over_floor": found.over_floor}
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def measure(base: Base, precision: str, rows: Sequence[str], options: argparse.Namespace) -> Measured:
    """Time, arithmetic and, unless in a hurry, the split of a step."""
    found = Measured(precision)
    if options.base != "sd15":
        return _measure_together(rows, base, found, options)
    for row in rows:  # a process each: what two of SD 1.5's size leave behind is too much for a small machine
        found = fresh(_measure_together, [row], base, found, options)
        print(f"{row}: {found.seconds[row]} s a step", flush=True)
    return found


def _measure_together(rows: Sequence[str], base: Base, found: Measured, options: argparse.Namespace) -> Measured:
    trainings = {row: build(row, base, options.batch, found.precision) for row in rows}
    if SHIPPED in trainings:
        check_peer(trainings[SHIPPED])
    found.seconds |= in_turn(trainings, options.pairs)  # what is kept in memory is there before FLOPs are counted
    if STAGE1 in trainings:
        found.floor.stage1 = whole(trainings[STAGE1])
    if SHIPPED in trainings:
        found.floor.parts, found.floor.executed = necessary(trainings[SHIPPED]), whole(trainings[SHIPPED])
        found.split = {} if options.quick else split(trainings[SHIPPED], options.pairs)
    return found


def report(base: Base, options: argparse.Namespace) -> Measured:
    """Every row and precision, in ``step_time.md`` and ``.json``; the figures of the recipes' own precision."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{options.threads} threads, {processor()}"
    lines = [f"# A training step of stage 2, {date.today()}", "", f"{options.base}, batch {options.batch}, {device}; "
             f"medians of {options.pairs} rounds.", f"Memory: {MEANT['cuda' if torch.cuda.is_available() else 'cpu']}.",
             "The paper: SD 1.5 on 8 V100, its batch not stated for Table 3.", ""]
    by_precision, rows = {}, QUICK if options.slow else tuple(CHANGES)
    for precision in (OWN,) if options.slow else ("32-true", OWN, *["16-mixed"] * torch.cuda.is_available()):
        found = by_precision[precision] = measure(base, precision, rows, options)
        found.memory = {row: peak_memory(row, base, options.batch, precision) for row in rows}
        lines += section(found)
        print("\n".join(section(found)), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "step_time.md").write_text("\n".join(lines) + "\n")
    about = {**provenance(), "base": options.base, "rounds": options.pairs}
    write_json({"device": device, "batch": options.batch, "rows": by_row(by_precision.values()), "manifest": about},
               options.out / "step_time.json")
    return by_precision[OWN]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the JSON alone, on the miniature, in 40 s")
    parser.add_argument("--base", choices=("miniature", "sd15"), default="miniature")
    parser.add_argument("--backbone", choices=("unet", "mmdit"), default="unet", help="of the miniature")
    parser.add_argument("--batch", type=int, help="portraits; the recipe's, but 1 for SD 1.5 without a GPU")
    parser.add_argument("--pairs", type=int, help="rounds in which every row takes one step")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    if options.base == "sd15" and (options.quick or options.backbone == "mmdit"):
        parser.error("--quick and --backbone mmdit are of the miniature")
    options.base += "_mmdit" * (options.backbone == "mmdit")
    options.pairs = options.pairs or ROUNDS["quick" if options.quick else options.base]
    options.slow = options.base == "sd15" and not torch.cuda.is_available()
    options.batch = options.batch or (1 if options.slow else recipe_batch(options.base))
    return options


if __name__ == "__main__":
    main()
