"""What the paper only speaks of: a second target on top of the first, and base texts that say something abstract."""

from collections.abc import Iterator, Mapping
from statistics import mean

from comparing.layout import columns, means, shown, table, titled
from comparing.reading import Archive, Rows

AFTER = "_second_round"
METHODS = ("standard_fine_tuning", "ours")


def second_round(archive: Archive) -> Iterator[str]:
    """What is left of the first target and of the original, and what the second target came to."""
    own, second = archive.own, archive.folders.get(f"{archive.base}-second", {})
    if not any(name + AFTER in own for name in METHODS):
        yield "No second round is measured: `make second-round` does it."
        return
    yield "A further target (a scarf) was taught on top of each result. On the first one's test set, before and after:"
    some = columns(own)
    asked = [name + after for name in METHODS for after in ("", AFTER)]
    yield from table(["row", *titled(some)], ([name, *means(own, name, some)] for name in asked))
    yield "On the second target's own test set, against the first original:"
    yield from table(["row", *titled(some)], ([name, *means(second, name, some)] for name in METHODS))


def abstract(archive: Archive) -> Iterator[str]:
    """The same people, seeds and target, their setting said concretely or abstractly."""
    vague = archive.folders.get(f"{archive.base}-abstract", {})
    if not vague:
        yield f"No abstract base phrases are measured: `make eval BASE={archive.base}-abstract` does it."
        return
    some = [column for column in columns(vague) if column.key != "fid"]  # of all pairs together
    samples = {row["sample"] for one in vague.values() for row in one.rows}
    yield (f"The same {len(samples)} people, seeds and target; their setting is said concretely (a teal curtain) or "
           "abstractly (a softly blurred background, a calm and quiet mood, gentle light).")
    said: Mapping[str, Rows] = {"concrete": archive.own, "abstract": vague}
    yield from table(["row", *titled(some)], (
        [f"{name}, {how}", *(shown(_mean(rows, name, column.key, samples), column) for column in some)]
        for name in METHODS for how, rows in said.items()))


def _mean(rows: Rows, name: str, key: str, samples: set[str]) -> float | None:
    """Of these samples alone."""
    values = [value for sample, value in rows[name].by_sample(key).items() if sample in samples] if name in rows else []
    return mean(values) if values else None
