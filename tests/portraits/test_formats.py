from pathlib import Path

import pytest

from spf.portraits.formats import PortraitError, format_of, read_records
from tests.portraits.sources import picture, write_folder, write_parquet, write_tar


def test_formats_are_known_by_the_name():
    names = ("a/0.tar", "0.parquet", "metadata.jsonl", "metadata.csv", "other.csv", "a.png", "0.tar.gz")
    known = [format_of(Path(name)) for name in names]
    assert known == [".tar", ".parquet", "metadata.jsonl", "metadata.csv", None, None, None]


def test_every_format_gives_the_same_record(source: Path):
    fields = {"base_text": "a man"}
    files = {
        write_tar(source / "0.tar", {"a.png": picture(), "a.json": fields}): "a",
        write_parquet(source / "0.parquet", image=[picture()], base_text=["a man"], mask=[b"not read"]): "0/0",
        write_folder(source, [{"file_name": "a.png"} | fields]): "a.png",
        write_folder(source, [{"file_name": "a.png"} | fields], "csv"): "a.png",
    }
    for file, key in files.items():
        (record,) = read_records(file, {})
        assert (record.key, record.fields["base_text"], record.problem) == (key, "a man", "")
        assert record.where.startswith(str(file)) and record.fields.get("mask") is None
        assert record.image["bytes"] or Path(record.image["path"]).is_file()


def test_a_portrait_that_cannot_be_read_is_a_record_that_says_so(source: Path):
    members = {"a.png": picture(), "b.png": picture(), "b.json": "{", "c.png": picture(), "c.txt": "c"}
    several = {"d.png": picture(), "d.jpg": picture(), "d.txt": "d"}
    records = list(read_records(write_tar(source / "0.tar", members | several), {}))
    assert [record.key for record in records] == list("abcd")
    assert "0.tar::a: has no caption next to it" in records[0].problem
    assert "0.tar::b: its json or txt cannot be read" in records[1].problem
    assert records[2].problem == ""
    assert "0.tar::d: has several images" in records[3].problem


@pytest.mark.parametrize("name", ["0.tar", "0.parquet", "metadata.jsonl"])
def test_a_file_that_cannot_be_read_is_an_error(source: Path, name: str):
    (source / name).write_bytes(b"\xff not what the name says")
    with pytest.raises(PortraitError, match=rf"{name}.*(cannot be read|no JSON object)(.|\n)*again"):
        list(read_records(source / name, {}))
