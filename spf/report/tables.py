"""``spf tables``: the paper's tables from the result files of a base and of its MM-DiT sibling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Literal

from spf.files import whole
from spf.notation import Column
from spf.report.captions import provenance, remedy, stand_ins
from spf.report.cells import Cell, Row, Table, with_best
from spf.report.formats import FORMATS
from spf.report.paper import EIGHT, TABLES, PaperRow, PaperTable, Role
from spf.report.results import STEP_TIME, Result, differences, read_results, read_step_time

Found = Mapping[tuple[Role, str], Result]
"""What was measured, by where it lies and id."""

SIBLINGS = {"sd15": "sd35m"}
"""Bases whose MM-DiT sibling is not called NAME_mmdit."""


def tables(
    results: str = "results/miniature",
    table: int | Sequence[int] = (),
    format: Literal["markdown", "latex", "csv", "json"] = "markdown",
    paper: bool = False,
    force: bool = False,
    out: str | None = None,
    more: bool = False,
) -> None:
    """Print Tables 1, 3, 4, 5 and 6 of the paper from what was measured; what was not is "-", in JSON null.

    Args:
        results: folder of a base's results; its MM-DiT sibling's (miniature_mmdit, sd35m) is found beside it.
        table: its number, or several as [1,4]; by default all, and the rows that stand in none of them.
        format: of what is printed.
        paper: the paper's numbers too, in parentheses.
        force: put rows into one table although they were measured on other test sets or by other metrics.
        out: a file to write to instead.
        more: the columns that the paper does not print too, and 95 % intervals.

    Raises ValueError for a damaged result file, for rows that cannot stand in one table, and for other numbers.
    """
    folders = bases(Path(results))
    found = read_all(folders)
    assembly = Assembly(found, folders, paper, force, more)
    made = [assembly.table(one) for one in chosen_tables([table] if isinstance(table, int) else table, found)]
    text = FORMATS[format](made)
    if out is None:
        print(text, end="")
        return
    with whole(Path(out)) as partial:
        partial.write_text(text, encoding="utf-8")
    print(f"tables written to {out}")


def bases(folder: Path) -> dict[Role, Path]:
    """The folders of a base and of its MM-DiT sibling, whichever of them is given."""
    named = {mmdit: own for own, mmdit in SIBLINGS.items()}
    own = named.get(folder.name, folder.name.removesuffix("_mmdit"))
    return {"own": folder.parent / own, "mmdit": folder.parent / SIBLINGS.get(own, f"{own}_mmdit")}


def read_all(folders: Mapping[Role, Path]) -> dict[tuple[Role, str], Result]:
    """Every result of both folders, and the timing of a step on the base itself. Raises ValueError where damaged."""
    found: dict[tuple[Role, str], Result] = {
        (role, name): result for role, folder in folders.items() for name, result in read_results(folder).items()}
    return found | {("timing", row): one for row, one in read_step_time(folders["own"] / STEP_TIME).items()}


def chosen_tables(numbers: Sequence[int], found: Found) -> list[PaperTable]:
    """The paper's tables of these numbers; for none all, and the measured rows that stand in none of them."""
    if unknown := sorted(set(numbers) - set(TABLES)):
        raise ValueError(f"the paper has no results in Table {unknown[0]}: give some of {', '.join(map(str, TABLES))}")
    if numbers:
        return [TABLES[number] for number in numbers]
    named = {(row.role, row.id) for one in TABLES.values() for row in one.rows}
    others = tuple(PaperRow(result.row if role == "own" else f"{result.row} ({result.base})", name, role=role)
                   for (role, name), result in found.items() if role != "timing" and (role, name) not in named)
    return [*TABLES.values(), *[PaperTable(None, "Other rows", EIGHT, others, ranked=False)] * bool(others)]


@dataclass(frozen=True)
class Assembly:
    """What tables are made from, and what is asked of them (see ``tables``)."""

    found: Found
    folders: Mapping[Role, Path]
    paper: bool = False
    force: bool = False
    more: bool = False

    def table(self, made: PaperTable) -> Table:
        """One table. Raises ValueError, naming two files, for rows that were not measured alike, unless forced."""
        results = [self.found[row.role, row.id] for row in made.rows if (row.role, row.id) in self.found]
        columns = self._columns(made, results)
        keys, notes = [column.key for column in columns], dict[str, int]()
        mixed = list(dict.fromkeys(differences(results, keys)))
        if mixed and not self.force:
            raise ValueError(f"{mixed[0]}: measure both again (`make eval`), or mix them by --force true")
        rows = [Row(row.label, row.id, self._base(row), self._cells(row, keys, made, notes)) for row in made.rows]
        absent = dict.fromkeys(line for result in results for key, line in result.absent.items() if key in keys)
        return Table(made.number, made.title, columns, with_best(columns, rows) if made.ranked else tuple(rows),
                     self._facts(made, results, mixed), tuple(notes), tuple(absent))

    def _columns(self, made: PaperTable, results: Sequence[Result]) -> tuple[Column, ...]:
        """The paper's, by the facts that the results carry of them; ``more``: and those that only results have."""
        carried = {key: column for result in reversed(results) for key, column in result.columns.items()}
        own = [replace(carried.get(column.key, column), group=column.group) for column in made.columns]
        known = {column.key for column in own}
        extra = {key: column for result in results for key, column in result.columns.items() if key not in known}
        return (*own, *(extra.values() if self.more else ()))

    def _base(self, row: PaperRow) -> str:
        return self.folders["mmdit" if row.role == "mmdit" else "own"].name

    def _cells(self, row: PaperRow, keys: Sequence[str], made: PaperTable, notes: dict[str, int]) -> tuple[Cell, ...]:
        result = self.found.get((row.role, row.id))
        printed = dict(zip([column.key for column in made.columns], row.numbers, strict=False)) if self.paper else {}
        return tuple(self._cell(result, key, printed.get(key), notes) for key in keys)

    def _cell(self, result: Result | None, key: str, printed: Decimal | None, notes: dict[str, int]) -> Cell:
        """One number; a footnote, the same for the same text, where pairs are missing from it."""
        one = result.summary.get(key) if result else None
        if result is None or one is None:
            return Cell(paper=printed)
        note = None
        if one.missing:
            first = [f", first {line}" for line in result.failures.get(key, {}).get("first", [])[:1]]
            text = "".join([f"{one.missing} of {one.n + one.missing} pairs are missing", *first])
            note = notes.setdefault(text, len(notes) + 1)
        return Cell(one.mean, one.ci95 if self.more else None, printed, note)

    def _facts(self, made: PaperTable, results: Sequence[Result], mixed: Sequence[str]) -> tuple[str, ...]:
        """The caption after the title."""
        facts = [made.note, *stand_ins(made, self.folders), *provenance(results)]
        facts += [f"Mixed by force: {one}." for one in mixed]
        facts += ["In parentheses are the paper's own numbers."] * (self.paper and bool(made.number))
        facts += [] if results else [remedy(made, self.folders)]
        return tuple(filter(None, facts))
