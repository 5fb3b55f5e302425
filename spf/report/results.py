"""Result files: read, checked, and held against each other, so that no table mixes what was not measured alike."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spf.notation import Column

STEP_TIME = "step_time.json"
"""The one file of a results folder that is no row of a method: what a training step costs."""

FIELDS = {"row": str, "id": str, "base": str, "columns": list, "summary": dict, "test_set": dict, "manifest": dict}
TIMED = {"device": str, "batch": int, "rows": dict, "manifest": dict}
COLUMN = {"key": str, "label": str, "group": str, "higher_is_better": bool, "decimals": int}


@dataclass(frozen=True)
class Summary:
    """One number of a row: the mean of ``n`` pairs, None where none could be scored."""

    mean: float | None
    n: int = 1
    missing: int = 0
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Result:
    """What one file says of one row."""

    file: Path
    id: str
    row: str
    base: str
    summary: dict[str, Summary]  # by column key
    columns: dict[str, Column] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)  # by column key: which network, and what fetches it
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)  # by metric: count, first
    test_set: dict[str, Any] = field(default_factory=dict)  # sha256, count, seeds (first, last)
    manifest: dict[str, Any] = field(default_factory=dict)  # date, commit, versions, metrics (what each is), ...


def read_results(folder: Path) -> dict[str, Result]:
    """Every row of ``folder`` by id; none where there is no such folder.

    Raises as ``read_result``, and ValueError for a file that is not named by its id.
    """
    found = {file: read_result(file) for file in sorted(folder.glob("*.json")) if file.name != STEP_TIME}
    for file, result in found.items():
        if result.id != file.stem:
            raise ValueError(f"{file} holds the row of id {result.id!r}: name it {result.id}.json, or give it its id")
    return {result.id: result for result in found.values()}


def read_result(file: Path) -> Result:
    """One row. Raises ValueError, naming the file and the remedy, where it is damaged or lacks something."""
    content = _checked(_parsed(file), FIELDS, file)
    columns = [_checked(one, COLUMN, file, "columns: ") for one in content["columns"]]
    return Result(
        file, content["id"], content["row"], content["base"],
        summary={key: _summary(one, key, file) for key, one in content["summary"].items()},
        columns={one["key"]: Column(**{name: one[name] for name in COLUMN}) for one in columns},
        absent=content.get("absent", {}), failures=content.get("failures", {}),
        test_set=_checked(content["test_set"], {"sha256": str, "count": int, "seeds": list}, file, "test_set: "),
        manifest=content["manifest"])


def read_step_time(file: Path) -> dict[str, Result]:
    """Rows of Table 3 by name, with columns such as ``bf16-mixed.seconds``; none where there is no such file.

    Raises ValueError as ``read_result``.
    """
    if not file.is_file():
        return {}
    content = _checked(_parsed(file), TIMED, file)
    about = {"device": content["device"], "batch": content["batch"], **content["manifest"]}
    rows = {}
    for row, precisions in content["rows"].items():
        timed = {name: _checked(one, {"seconds": (int, float)}, file, f"{row}, {name}: ")
                 for name, one in precisions.items()}
        summary = {f"{name}.{key}": Summary(one.get(key)) for name, one in timed.items() for key in ("seconds", "gib")}
        rows[row] = Result(file, row, row, str(about.get("base", "")), summary, manifest=about)
    return rows


def differences(results: Sequence[Result], keys: Collection[str]) -> Iterator[str]:
    """Why rows cannot stand in one table, a line for each two files: another test set, or another metric of ``keys``.

    Test sets are compared within a folder, which is of one base: each base paints its own originals.
    """
    first: dict[str, tuple[Path, Any]] = {}
    for result in results:
        for what, fact in _facts(result, keys).items():
            file, expected = first.setdefault(what, (result.file, fact))
            if fact != expected:
                yield f"{file} and {result.file} differ in {what}: {_shown(expected, fact)}"


def _facts(result: Result, keys: Collection[str]) -> dict[str, Any]:
    """What must be the same in every row of a table; the count too, since a part of a test set has the whole's hash."""
    facts: dict[str, Any] = {f"the test set of {result.file.parent.name}": result.test_set} if result.test_set else {}
    facts |= {"the number of pairs": result.test_set["count"]} if result.test_set else {}
    facts |= {f"the column {key}": vars(column) for key, column in result.columns.items() if key in keys}
    return facts | {f"the metric {name}": made for name, made in result.manifest.get("metrics", {}).items()}


def _shown(one: Any, other: Any) -> str:
    """The first part in which two facts differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        name = next(name for name in {**one, **other} if one.get(name, "") != other.get(name, ""))
        return f"{name} {_shown(one.get(name, 'none'), other.get(name, 'none'))}"
    return " against ".join(str(part)[:40] for part in (one, other))


def _summary(content: Any, key: str, file: Path) -> Summary:
    """A mean that is not finite is none."""
    found = _checked(content, {"mean": (int, float, type(None)), "n": int}, file, f"summary of {key}: ")
    interval = found.get("ci95")
    return Summary(found["mean"], found["n"], found.get("missing", 0), tuple(interval) if interval else None)


def _parsed(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"), parse_constant=lambda _: None)  # NaN is no number
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _refused(file, f"it is damaged ({error})") from error


def _checked(content: Any, fields: Mapping[str, Any], file: Path, where: str = "") -> dict[str, Any]:
    """The same, or ValueError where a field is missing or of another kind."""
    if not isinstance(content, dict):
        raise _refused(file, f"{where or 'it '}is not an object")
    for name, kind in fields.items():
        if name not in content:
            raise _refused(file, f"{where}{name!r} is missing")
        if not isinstance(content[name], kind):
            raise _refused(file, f"{where}{name!r} is {str(content[name])[:40]!r}")
    return content


def _refused(file: Path, reason: str) -> ValueError:
    maker = "`python benchmarks/step_time.py`" if file.name == STEP_TIME else "`make eval`"
    return ValueError(f"{file} cannot be read as a result: {reason}; remove it and make it again by {maker}")
