"""Tables as Markdown, LaTeX (booktabs), CSV and JSON. What was not measured is "-", in JSON null."""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from spf.notation import Column
from spf.report.cells import Cell, Row, Table, number

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
           ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
           **{sign: f"\\{sign}" for sign in "&%$#_{}"}}


# ---- Markdown ----

def markdown(tables: Sequence[Table]) -> str:
    """A heading, the caption, the table and its footnotes each."""
    return "\n".join(map(_markdown, tables))


def _markdown(table: Table) -> str:
    rows = [["Method", *(f"{column.label} ({'↑' if column.higher_is_better else '↓'})" for column in table.columns)],
            ["---", *["---:"] * len(table.columns)],
            *([row.label, *map(_markdown_cell, row.cells, table.columns)] for row in table.rows)]
    lines = ["| " + " | ".join(text.replace("|", r"\|") for text in row) + " |" for row in rows]
    below = [f"<sup>{place}</sup> {note}.  " for place, note in enumerate(table.notes, 1)]
    below += [f"- {line}" for line in table.absent]
    parts = [f"### {table.heading}", " ".join(table.facts), "\n".join(lines), "\n".join(below)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _markdown_cell(cell: Cell, column: Column) -> str:
    shown = _value(cell, column)
    note = f"<sup>{cell.note}</sup>" if cell.note else ""
    return (f"**{shown}**" if cell.best else shown) + note + _beside(cell, column)


# ---- LaTeX ----

def latex(tables: Sequence[Table]) -> str:
    """Floats for a preamble with booktabs, amsmath and textcomp."""
    return "% needs \\usepackage[T1]{fontenc}, booktabs, amsmath\n" + "\n".join(map(_latex, tables))


def _latex(table: Table) -> str:
    arrows = ["\\uparrow" if column.higher_is_better else "\\downarrow" for column in table.columns]
    header = ["Method", *(f"{_escaped(column.label)} (${arrow}$)" for column, arrow in
                          zip(table.columns, arrows, strict=True))]
    notes = [f"$^{{{place}}}$ {_escaped(note)}." for place, note in enumerate(table.notes, 1)]
    notes += map(_escaped, table.absent)
    return "\n".join([
        r"\begin{table}[t]", r"\centering", rf"\caption{{{_escaped(_caption(table))}}}",
        rf"\begin{{tabular}}{{l{'c' * len(table.columns)}}}", r"\toprule", *_groups(table.columns),
        " & ".join(header) + r" \\", r"\midrule", *(_latex_row(row, table.columns) for row in table.rows),
        r"\bottomrule", r"\end{tabular}", *(rf"\par{{\footnotesize {note}}}" for note in notes), r"\end{table}", ""])


def _caption(table: Table) -> str:
    """LaTeX numbers tables itself."""
    of_the_paper = f" (Table {table.number} of the paper)" if table.number else ""
    return " ".join([f"{table.title}{of_the_paper}.", *table.facts])


def _groups(columns: Sequence[Column]) -> list[str]:
    """The groups' names over their columns, and a rule under each."""
    names, rules, first = [""], [], 2
    for group, some in groupby(columns, lambda column: column.group):
        width = len(list(some))
        names.append(rf"\multicolumn{{{width}}}{{c}}{{{_escaped(group)}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    return [" & ".join(names) + r" \\", " ".join(rules)]


def _latex_row(row: Row, columns: Sequence[Column]) -> str:
    label = re.sub(r"L\\_([A-Za-z-]+)", r"$\\mathcal{L}_{\\text{\1}}$", _escaped(row.label))
    return " & ".join([label, *map(_latex_cell, row.cells, columns)]) + r" \\"


def _latex_cell(cell: Cell, column: Column) -> str:
    shown = _value(cell, column)
    bold = rf"\textbf{{{shown}}}" if cell.best else shown
    return re.sub(r"-(?=\d)", "$-$", bold + _beside(cell, column)) + (f"$^{{{cell.note}}}$" if cell.note else "")


def _escaped(text: str) -> str:
    """Plain text in LaTeX; what stands between backticks is a typewriter's."""
    escaped = "".join(SPECIAL.get(sign, sign) for sign in text)
    return re.sub(r"`([^`]*)`", r"\\texttt{\1}", escaped)


# ---- for machines ----

def to_csv(tables: Sequence[Table]) -> str:
    """One header over all tables, a line a row, numbers unrounded; a column that a table does not have is empty."""
    lines = [line for table in tables for line in map(lambda row, table=table: _flat(row, table), table.rows)]
    written = io.StringIO()
    writer = csv.DictWriter(written, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return written.getvalue()


def _flat(row: Row, table: Table) -> dict[str, Any]:
    line: dict[str, Any] = {"table": table.number or table.title, "method": row.label, "result": row.result,
                            "base": row.base}
    for column, cell in zip(table.columns, row.cells, strict=True):
        line[column.key] = "-" if cell.value is None else cell.value
        if cell.ci95:
            line |= {f"{column.key}_low": cell.ci95[0], f"{column.key}_high": cell.ci95[1]}
        if cell.paper is not None:
            line[f"{column.key}_paper"] = str(cell.paper)
    return line


def to_json(tables: Sequence[Table]) -> str:
    """A list of tables: columns with their facts, and rows with a number or null for every column."""
    return json.dumps([{
        "table": table.number, "title": table.title, "columns": list(map(asdict, table.columns)),
        "rows": [_entry(row, table.columns) for row in table.rows],
        "facts": table.facts, "notes": table.notes, "absent": table.absent} for table in tables],
        indent=1, ensure_ascii=False) + "\n"


def _entry(row: Row, columns: Sequence[Column]) -> dict[str, Any]:
    cells = {column.key: cell for column, cell in zip(columns, row.cells, strict=True)}
    entry = {"method": row.label, "result": row.result, "base": row.base,
             "values": {key: cell.value for key, cell in cells.items()},
             "best": [key for key, cell in cells.items() if cell.best],
             "notes": {key: cell.note for key, cell in cells.items() if cell.note},
             "ci95": {key: cell.ci95 for key, cell in cells.items() if cell.ci95},
             "paper": {key: float(cell.paper) for key, cell in cells.items() if cell.paper is not None}}
    return {name: value for name, value in entry.items() if value != {}}


# ---- of both kinds for people ----

def _value(cell: Cell, column: Column) -> str:
    return "-" if cell.value is None else number(cell.value, column)


def _beside(cell: Cell, column: Column) -> str:
    """The interval in brackets and the paper's number in parentheses, where they are shown."""
    interval = f" [{number(cell.ci95[0], column)}, {number(cell.ci95[1], column)}]" if cell.ci95 else ""
    return interval + (f" ({cell.paper})" if cell.paper is not None else "")


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "markdown": markdown, "latex": latex, "csv": to_csv, "json": to_json}
"""By the name that ``spf tables --format`` takes."""
