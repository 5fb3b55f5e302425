"""The plane in words: a Markdown table, and a sheet of portraits to look at."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from plane.rows import Row
from plane.standing import Standing
from spf.pictures import labelled_grid

SHOWN = 8
HEAD = ("row", "kind", "accuracy", "over stage 1", "recovered preservation", "recovered identity",
        "height over the free curve", "preservation distance", "identity distance", "residual")


def table(rows: Sequence[Row], standings: Mapping[str, Standing]) -> str:
    """Markdown; intervals are 95 %."""
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    for row in rows:
        s, judged = standings[row.name], row.judged
        height = str(s.height) if row.kind == "row" else ""
        means = (f"{float(column.mean()):.4f}" for column in (judged.preservation, judged.identity, judged.residual))
        cells = (row.name, row.kind, s.accuracy, s.accuracy_gain, s.preservation, s.identity, height, *means)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def contact_sheet(originals: Tensor, rows: Sequence[Row], targets: Sequence[str]) -> Tensor:
    """original | each row, for the first eight triples: (3,height,width) in [0,1]."""
    columns = torch.stack([originals[:SHOWN], *(row.portraits[:SHOWN] for row in rows)], 1)
    names = ["original", *(row.name[:20] for row in rows)]  # more would run into the next column
    return labelled_grid(columns, names, targets[:SHOWN])
