"""The whole comparison in words; a part whose results are absent says so in one line."""

import re
from collections.abc import Iterator
from itertools import groupby

from comparing.beyond import abstract, second_round
from comparing.budgets import ALIKE, TRAINED, budgets, spread
from comparing.checks import Checks
from comparing.grids import GRIDS, Cell, cells, chosen, edges
from comparing.layout import columns, means, shown, table, titled
from comparing.orderings import Ordering, orderings
from comparing.reading import Archive, Committed, Rows
from comparing.seeds import agreement, moved, over_seeds, pairs, repeated
from comparing.sweep import SWEEP, settings

UNSAID = "not said"


def report(archive: Archive, checks: Checks) -> str:
    """Markdown."""
    parts = {
        "Where every number comes from": _provenance(archive), "Rows": _rows(archive.own),
        "Orderings of the paper": _orderings(orderings(archive.own)), "Budgets": _budgets(archive.own),
        "Seeds": _seeds(archive), "Grids": _grids(archive.grids),
        "The weights of Eq. 12 (Figure 14)": _sweep(archive.own),
        "A second round": second_round(archive), "Abstract base phrases": abstract(archive)}
    lines = [f"# The paper's comparison on the base {archive.base}", "", *verdict(checks)]
    for title, part in parts.items():
        lines += ["", f"## {title}", "", *part]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def verdict(checks: Checks) -> Iterator[str]:
    """What the checks found."""
    together = ", ".join(f"{key} {times}" for key, times in checks.together.items())
    yield (f"{checks.followed} columns of results follow from their rows: mean, std, n, missing, 95 % interval."
           + f" Of all pairs together, so that only n could be checked: {together}." * bool(together))
    yield from (f"- {fault}" for fault in checks.faults)


def _rows(own: Rows) -> Iterator[str]:
    some = columns(own)
    yield "Means of seed 0; columns that no row has are left out."
    yield from table(["row", *titled(some)], ([name, *means(own, name, some)] for name in own))


# ---- orderings ----

def _orderings(found: list[Ordering]) -> Iterator[str]:
    if not found:
        yield "No two rows are measured that the paper orders."
        return
    held = [one for one in found if one.held]
    yield (f"{len(held)} of {len(found)} are held, {sum(one.certain for one in held)} of them certainly; "
           f"{sum(one.certain for one in found if not one.held)} of the others are certainly the other way. Certain: "
           "the 95 % interval of the difference, by paired bootstrap over pairs, excludes 0; numbers of all pairs "
           "together have none.")
    for (row, other), some in groupby(found, lambda one: (one.sign.row, one.sign.other)):
        yield from _group(row, other, list(some))


def _group(row: str, other: str, some: list[Ordering]) -> Iterator[str]:
    yield ""
    yield f"**{row}** against {other}: {sum(one.held for one in some)} of {len(some)} held."
    yield from table(["column", "paper", row, other, "difference", "95 %", "held"], map(_ordering, some))


def _ordering(one: Ordering) -> list[str]:
    column = one.sign.column
    edges_of = " to ".join(shown(edge, column) for edge in one.interval) if one.interval else "-"
    return [*titled([column]), "better" if one.sign.better else "worse", shown(one.row, column),
            shown(one.other, column), shown(one.difference, column), edges_of,
            ("held" if one.held else "**not held**") + ", certain" * one.certain]


# ---- trainings ----

def _budgets(own: Rows) -> Iterator[str]:
    seen = budgets(own)
    if not seen:
        yield "No trained row says how many samples it has seen."
        return
    ratio = spread(seen)
    yield (f"The largest budget is {ratio:.3f} times the smallest, "
           + ("within 10 %" if ratio <= ALIKE else "**more than 10 % apart**")
           + "; samples are those of the learning network, its stage 1 included.")
    yield from table(["row", "samples"], ([name, str(seen.get(name, UNSAID if name in own else "not measured"))]
                                          for name in TRAINED))


def _seeds(archive: Archive) -> Iterator[str]:
    seeds, names = archive.seeds, repeated(archive.seeds)
    if not names:
        yield "No row is measured with more than one seed."
        return
    some = columns(archive.own)
    yield f"Mean ± standard deviation (N - 1) over the seeds {', '.join(map(str, seeds))}, as far as they have the row."
    spreads = {name: [moved(over_seeds(seeds, name, column.key)) for column in some] for name in names}
    yield from table(["row", *titled(some)], (
        [name, *(" ± ".join(shown(part, column) for part in one) if one else "-"
                 for one, column in zip(spreads[name], some, strict=True))] for name in names))
    yield "The commonest sign of the difference, and how many seeds have it."
    yield from table(["difference", *titled(some)], (
        [f"{name} - {other}", *(f"{found[0]} {found[1]} of {found[2]}" if found else "-" for found in
                                (agreement(seeds, name, other, column.key) for column in some))]
        for name, other in pairs(seeds)))


# ---- grids and weights ----

def _grids(found: Rows) -> Iterator[str]:
    yield "Four settings a row, on the validation triples; chosen is the largest product of target read and ID."
    for row in GRIDS:
        tried = cells(row, found)
        yield ""
        yield from _grid(row, tried) if tried else [f"**{row}**: no cell is measured."]


def _grid(row: str, tried: list[Cell]) -> Iterator[str]:
    best = chosen(tried)
    edge = ", ".join(f"its {axis} is the {which} tried" for axis, which in edges(row, best.number).items())
    missing = f" Only {len(tried)} of {len(GRIDS[row])} cells are measured." * (len(tried) < len(GRIDS[row]))
    yield (f"**{row}**: cell {best.number} is chosen, "
           + (f"at the grid's edge: {edge}." if edge else "within the grid.") + missing)
    yield from table(["cell", "changed", "target read", "ID", "product", ""], (
        [str(cell.number), ", ".join(f"{name} {value}" for name, value in cell.setting.items()),
         f"{cell.target_read:.3f}", f"{cell.identity:.3f}", f"{cell.product:.4f}", "chosen" * (cell is best)]
        for cell in tried))


def _sweep(own: Rows) -> Iterator[str]:
    if not {row for rows in SWEEP.values() for row in rows.values()} - {"ours"} & own.keys():
        yield "No row with another weight is measured."
        return
    some = columns(own)
    yield from table(["weight", *titled(some)], ([label, *means(own, row, some)] for label, row in settings()))


# ---- provenance ----

def _provenance(archive: Archive) -> Iterator[str]:
    yield ("Steps are the optimizer's in the last training, samples what the learning network saw in all, pairs and "
           "their seeds those of the test set.")
    head = ["result", "seed", "steps", "samples", "learning rate", "pairs", "their seeds", "commit", "date"]
    yield from table(head, ([f"{folder}/{name}", *_origin(one)] for folder, rows in archive.folders.items()
                            for name, one in rows.items()))


def _origin(one: Committed) -> list[str]:
    manifest, test_set = one.result.manifest, one.result.test_set
    seed, step, samples, rate = (str(manifest.get(name, UNSAID)) for name in ("seed", "step", "samples",
                                                                              "learning_rate"))
    return [seed, step, samples, rate, str(test_set["count"]), " to ".join(map(str, test_set["seeds"])),
            manifest.get("commit") or UNSAID, str(manifest.get("date", UNSAID))[:10]]
