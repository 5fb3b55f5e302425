"""What a test set asks for: captions and targets, from a file or from the painted world."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spf.evaluation.portraits import Request
from spf.miniature.people import PHRASE_PARTS, TARGETS, base_text, draw_people, phrase, target_text
from spf.portraits.reader import read_portraits
from spf.text import Prompt


def requests_of(captions: str, targets: Sequence[str], count: int, seed: int) -> list[Request]:
    """``count`` requests; the i-th has the seed ``seed + i``, and does not depend on ``count``.

    Args:
        captions: ``miniature`` (people whom no training sees); or a file: .jsonl with ``base_text`` and perhaps
            ``target_text``, ``phrases``, ``id``, or .txt with a caption a line; or a folder of portraits, whose
            captions are taken (for priors, not for a test).
        targets: texts, or .txt files with one a line, or names of the painted world's targets; they take turns where
            the captions bring no target of their own.
        count: how many; fewer where the file holds fewer.

    Raises FileNotFoundError, or ValueError for an unknown target, a missing caption, no target at all, an id twice.
    """
    rows = _painted(targets, count, seed) if captions == "miniature" else _read(Path(captions))[:count]
    texts = [] if captions == "miniature" else _texts(targets)
    requests = []
    for i, row in enumerate(rows):
        target = row.get("target_text") or (texts[i % len(texts)] if texts else "")
        if not target:
            raise ValueError(f"{captions}, row {i + 1} has no target_text: add it there, or give --targets")
        prompt = Prompt(row["base_text"], target, tuple(row.get("phrases") or ()))
        requests.append(Request(str(row.get("id") or f"{i:06d}"), prompt, seed + i))
    ids = [request.id for request in requests]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise ValueError(f"{captions}: the id {twice!r} stands there twice; make ids unique, or leave them out")
    return requests


def _painted(targets: Sequence[str], count: int, seed: int) -> list[dict[str, Any]]:
    targets = targets or ("glasses",)
    if unknown := sorted(set(targets) - set(TARGETS)):
        raise ValueError(f"the painted world has no target {', '.join(unknown)}; it has {', '.join(TARGETS)}")
    people = draw_people(count, seed, held_out=True)
    return [{"base_text": base_text(person), "target_text": target_text(targets[i % len(targets)]),
             "phrases": [phrase(person, name) for name in PHRASE_PARTS]} for i, person in enumerate(people)]


def _texts(targets: Sequence[str]) -> list[str]:
    return [text for given in targets for text in _given(given)]


def _given(target: str) -> list[str]:
    return [text for _, text in _lines(Path(target))] if target.endswith(".txt") else [target]


def _read(file: Path) -> list[dict[str, Any]]:
    if file.is_dir():
        rows = read_portraits(file).select_columns(["base_text", "target_text", "phrases", "problem"])
        return [row for row in rows if not row["problem"]]
    if file.suffix != ".jsonl":
        return [{"base_text": line} for _, line in _lines(file)]
    rows = []
    for number, line in _lines(file):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}, line {number} is no JSON: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get("base_text"), str) or not row["base_text"].strip():
            raise ValueError(f"{file}, line {number} has no base_text: write the caption of the original there")
        rows.append(row)
    return rows


def _lines(file: Path) -> list[tuple[int, str]]:
    """What is not blank, and the number of its line."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}: give .jsonl, .txt or `miniature`, or a folder of portraits")
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no UTF-8 ({error}); write it again in UTF-8") from error
    found = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise ValueError(f"{file} is empty: it needs a line for each text")
    return found
