"""What a test set asks for: from files that people write, and from the painted world."""

import json
from pathlib import Path

import pytest

from spf.evaluation.captions import requests_of
from spf.evaluation.portraits import Request
from spf.miniature.people import TARGETS, base_text
from spf.miniature.shards import Order, paint_portraits
from spf.text import Prompt, phrase_spans

ROW = {"base_text": "a man", "target_text": "old"}


def lines(file: Path, *rows: object) -> str:
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(file)


def test_the_painted_world_asks_for_people_with_targets_in_turn() -> None:
    six = requests_of("miniature", ["glasses", "hat"], 6, 40)
    assert [request.seed for request in six] == list(range(40, 46))
    assert [request.prompt.target_text for request in six] == [TARGETS["glasses"][0], TARGETS["hat"][0]] * 3
    assert len({request.prompt.base_text for request in six}) > 1 and len({request.id for request in six}) == 6
    assert all(phrase_spans(request.prompt) for request in six), "every phrase stands in its base text"
    assert requests_of("miniature", ["glasses", "hat"], 3, 40) == six[:3], "no request depends on their number"
    assert {request.prompt.target_text for request in requests_of("miniature", [], 3, 0)} == {TARGETS["glasses"][0]}
    with pytest.raises(ValueError, match="has no target moustache, wings; it has hat, glasses, "):
        requests_of("miniature", ["wings", "glasses", "moustache"], 3, 0)


def test_json_lines_bring_what_they_like(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", {"base_text": "a man\u2028by a wall", "target_text": "old", "id": "one.A-1_ä",
                                        "phrases": ["a man"]}, "", {"base_text": "a woman"})
    first, second = requests_of(file, ["a hat"], 10, 5)
    assert first == Request("one.A-1_ä", Prompt("a man\u2028by a wall", "old", ("a man",)), 5)
    assert second == Request("000001", Prompt("a woman", "a hat"), 6)
    assert requests_of(file, ["a hat"], 1, 5) == [first]


def test_text_files_are_a_caption_and_a_target_a_line(tmp_path: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_bytes("\ufeffa man\r\n\r\n  a woman \r\na child\r\n".encode())
    targets = lines(tmp_path / "targets.txt", "old", "a hat")
    found = requests_of(str(captions), [targets, "laughing"], 5, 0)
    assert [(r.prompt.base_text, r.prompt.target_text) for r in found] == [
        ("a man", "old"), ("a woman", "a hat"), ("a child", "laughing")]


@pytest.mark.parametrize(("rows", "reason"), [
    ([ROW, "", "{base_text: a man}"], "a.jsonl, line 3 is no JSON"),
    ([ROW, ["a man"]], "a.jsonl, line 2 has no base_text"), ([{"target_text": "old"}], "line 1 has no base_text"),
    ([ROW | {"base_text": "  "}], "line 1 has no base_text"), ([ROW | {"base_text": 5}], "line 1 has no base_text"),
    ([ROW, {"base_text": "a man"}], "a.jsonl, row 2 has no target_text: add it there, or give --targets"),
    ([ROW | {"id": "a"}, ROW | {"id": "b"}, ROW | {"id": "a"}], "the id 'a' stands there twice; make ids unique"),
    ([ROW, ROW | {"id": "000000"}], "the id '000000' stands there twice"),
    ([ROW | {"id": "../a"}], "the id '../a' names a file: use letters"),
    ([ROW | {"id": "a b"}], "the id 'a b' names a file"), ([ROW | {"id": "a\n"}], r"the id 'a\\n' names a file"),
    ([], "a.jsonl is empty")])
def test_bad_lines_are_named(tmp_path: Path, rows: list[object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        requests_of(lines(tmp_path / "a.jsonl", *rows), [], 10, 0)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file captions\.jsonl: give \.jsonl, \.txt or `miniature`"):
        requests_of("captions.jsonl", [], 1, 0)
    (tmp_path / "a.txt").write_bytes("ein Mädchen".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt is no UTF-8 .*write it again in UTF-8"):
        requests_of(str(tmp_path / "a.txt"), ["old"], 1, 0)


def test_the_captions_of_portraits_may_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    source = paint_portraits(tmp_path / "p", 3)
    requests, people = requests_of(str(source), (), 2, 5), Order.of(source).people(0, 2)
    assert [request.prompt.base_text for request in requests] == [base_text(person) for person in people]
    assert [request.seed for request in requests] == [5, 6] and requests[0].prompt.phrases
    assert {request.prompt.target_text for request in requests} == {TARGETS["glasses"][0]}
