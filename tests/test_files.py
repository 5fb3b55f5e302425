"""Files are whole or absent: full disks, damage, errors in the middle; and lines that hold line separators."""

import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spf.files import read_json, read_lines, unused, whole, write_json, write_lines
from tests.full_disk import room_for


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    content = {"text": "Ä woman\u2028with \u0085 a hat\n", "numbers": [1, 0.1, None]}
    write_json(content, tmp_path / "deep" / "one.json")
    write_lines([content, content], tmp_path / "some.jsonl")
    assert read_json(tmp_path / "deep" / "one.json") == content
    assert read_lines(tmp_path / "some.jsonl") == [content, content]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "one.json", "some.jsonl"]
    write_lines([], tmp_path / "some.jsonl")
    assert read_lines(tmp_path / "some.jsonl") == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), OSError(errno.ENOSPC, "No space left")])
def test_what_goes_wrong_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    write_json("old", tmp_path / "one.json")
    with pytest.raises(type(error)), whole(tmp_path / "one.json") as partial:
        partial.write_text("half")
        raise error
    assert read_json(tmp_path / "one.json") == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    write_json("old", tmp_path / "one.json")
    named = r"one\.json was not written \(File too large\): see that there is room"
    with room_for(1000), pytest.raises(OSError, match=named) as caught:
        write_json("x" * 2000, tmp_path / "one.json")
    assert caught.value.errno == errno.EFBIG
    assert read_json(tmp_path / "one.json") == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_named_when_safetensors_finds_it(tmp_path: Path) -> None:
    named = r"one\.safetensors was not written \(.*File too large.*\): see that there is room"
    with room_for(1000), pytest.raises(OSError, match=named), whole(tmp_path / "one.safetensors") as partial:
        save_file({"x": torch.zeros(1000)}, partial)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    assert unused(tmp_path / "one.json") == tmp_path / "one.json"
    write_json(1, tmp_path / "one.json")
    with pytest.raises(FileExistsError, match=r"one\.json is there; give another name or remove it"):
        unused(tmp_path / "one.json")


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/one\.json was not written"):
        write_json(1, tmp_path / "file" / "one.json")


def test_damage_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"a": 1')
    (tmp_path / "half.jsonl").write_text('{"a": 1}\n\n{"a"')
    with pytest.raises(ValueError, match=r"half\.json is damaged .* make it again"):
        read_json(tmp_path / "half.json")
    with pytest.raises(ValueError, match=r"half\.jsonl is damaged .* make it again"):
        read_lines(tmp_path / "half.jsonl")
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        read_json(tmp_path / "absent.json")
