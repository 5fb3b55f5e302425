"""Keys and shapes of published weights, as their publishers' own code or files have them; each file says its source."""

import re
from pathlib import Path

Shape = tuple[int, ...]


def read_manifest(name: str) -> dict[str, Shape]:
    """``NAME.txt`` -> {key: shape}; ``{0-31}`` in a key stands for every number of the range."""
    lines = (Path(__file__).parent / f"{name}.txt").read_text().splitlines()
    return {key: shape for line in lines if line and not line.startswith("#") for key, shape in _expanded(line)}


def _expanded(line: str) -> list[tuple[str, Shape]]:
    key, _, sizes = line.rpartition(" ")
    shape = () if sizes == "-" else tuple(map(int, sizes.split(",")))
    found = re.search(r"\{(\d+)-(\d+)\}", key)
    if not found:
        return [(key, shape)]
    numbers = range(int(found[1]), int(found[2]) + 1)
    return [row for number in numbers for row in _expanded(f"{key[:found.start()]}{number}{key[found.end():]} {sizes}")]
