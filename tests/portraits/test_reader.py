import csv
import io
import json
import multiprocessing
import os
import pickle
import tarfile
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from spf.portraits.reader import PortraitError, decode_portrait, read_portraits

TEXTS = {
    "a": {"base_text": "a woman in a brown jacket", "target_text": "blonde hair", "phrases": ["brown jacket"]},
    "b": {"base_text": "une femme âgée, 微笑 🙂", "target_text": "kurze Haare"},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for every test; `datasets` has read the environment by now, so it is set there."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "portraits"
    folder.mkdir()
    return folder


def picture(kind: str = "PNG", colour: str = "red") -> bytes:
    file = io.BytesIO()
    image = Image.effect_noise((24, 32), 50) if colour == "noise" else Image.new("RGB", (24, 32), colour)
    image.convert("RGB").save(file, kind)
    return file.getvalue()


def write_tar(file: Path, members: dict[str, bytes | str | dict]) -> Path:
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            content = json.dumps(content) if isinstance(content, dict) else content
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def write_parquet(file: Path, **columns: list) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


def write_folder(folder: Path, rows: list[dict], kind: str = "jsonl") -> Path:
    for row in rows:
        (folder / row["file_name"]).parent.mkdir(exist_ok=True)
        (folder / row["file_name"]).write_bytes(picture())
    with (folder / f"metadata.{kind}").open("w", newline="") as file:
        if kind == "jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            names = list(dict.fromkeys(name for row in rows for name in row))
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
    return folder / f"metadata.{kind}"


def check_table(table: datasets.Dataset, ids: list[str]) -> None:
    assert table.column_names == ["image", "base_text", "target_text", "phrases", "id"]
    assert table["id"][:] == ids
    assert table["base_text"][:] == [TEXTS["a"]["base_text"], TEXTS["b"]["base_text"]]
    assert table["target_text"][:] == ["blonde hair", "kurze Haare"]
    assert table["phrases"][:] == [["brown jacket"], []]
    assert decode_portrait(table[0]["image"]).size == (24, 32)
    assert decode_portrait(table[1]["image"]).mode == "RGB"


def fails(source: Path, *words: str, **options) -> None:
    """Reading the source raises a PortraitError of one to three lines that holds the words."""
    with pytest.raises(PortraitError) as caught:
        read_portraits(source, **options)
    assert len(str(caught.value).splitlines()) <= 3
    for word in words:
        assert word in str(caught.value), str(caught.value)


# The three formats


def test_tar_shards_with_json(source: Path):
    write_tar(source / "00.tar", {"a.png": picture(), "a.json": TEXTS["a"]})
    write_tar(source / "01.tar", {"b.json": TEXTS["b"], "b.jpg": picture("JPEG")})
    check_table(read_portraits(source), ["a", "b"])
    check_table(read_portraits(f"{source}/*.tar"), ["a", "b"])
    assert len(read_portraits(source / "00.tar")) == 1


def test_tar_shards_with_txt_and_subfolders(source: Path):
    members = {"./x/1.webp": picture("WEBP"), "./x/1.txt": "a man\n", "./x/._1.png": b"junk", "./y/1.PNG": picture()}
    write_tar(source / "00.tar", members | {"./y/1.txt": "émile"})
    table = read_portraits(source)
    assert table["id"][:] == ["x/1", "y/1"]
    assert table["base_text"][:] == ["a man", "émile"]
    assert table["target_text"][:] == ["", ""]
    assert table["phrases"][:] == [[], []]


def test_tar_where_json_wins_over_txt_and_an_image_is_chosen_by_ending(source: Path):
    members = {"1.front.png": picture(), "1.side.png": picture(colour="blue"), "1.txt": "txt"}
    write_tar(source / "00.tar", members | {"1.json": {"base_text": "json", "id": 7}})
    table = read_portraits(source, columns={"image": "side.png"})
    assert (table[0]["base_text"], table[0]["id"]) == ("json", "7")
    assert decode_portrait(table[0]["image"]).getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("struct", [True, False])
def test_parquet(source: Path, struct: bool):
    images = [picture(), picture("JPEG")]
    write_parquet(
        source / "part.parquet",
        image=[{"bytes": image, "path": None} for image in images] if struct else images,
        base_text=[TEXTS["a"]["base_text"], TEXTS["b"]["base_text"]],
        target_text=["blonde hair", "kurze Haare"],
        phrases=[["brown jacket"], None],
        mask=[b"unused", b"unused"],
    )
    check_table(read_portraits(source), ["part/0", "part/1"])
    check_table(read_portraits(source / "part.parquet"), ["part/0", "part/1"])


def test_parquet_written_by_datasets(source: Path):
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    table = datasets.Dataset.from_dict(
        {"image": [Image.new("RGB", (8, 8), "red")], "caption": ["red"]}, features=features
    )
    table.to_parquet(source / "0.parquet")
    row = read_portraits(source, columns={"base_text": "caption"})[0]
    assert row["base_text"] == "red"
    assert decode_portrait(row["image"]).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_image_folder(source: Path, kind: str):
    rows = [{"file_name": "a.png"} | TEXTS["a"], {"file_name": "sub/b.png"} | TEXTS["b"]]
    if kind == "csv":
        rows[0]["phrases"] = json.dumps(rows[0]["phrases"])
    metadata = write_folder(source, rows, kind)
    check_table(read_portraits(source), ["a.png", "sub/b.png"])
    check_table(read_portraits(metadata), ["a.png", "sub/b.png"])


def test_foreign_column_names(source: Path):
    row = {"path": "a.png", "file_name": "a.png", "caption": "old", "edit": "new", "words": ["x"], "name": "n1"}
    write_folder(source, [row])
    columns = {"image": "path", "base_text": "caption", "target_text": "edit", "phrases": "words", "id": "name"}
    row = read_portraits(source, columns)[0]
    assert (row["base_text"], row["target_text"], row["phrases"], row["id"]) == ("old", "new", ["x"], "n1")


# What can be wrong with a source


def test_missing_empty_and_foreign_folders(source: Path, tmp_path: Path):
    fails(tmp_path / "nowhere", "nowhere", "no such folder")
    fails(tmp_path / "*.tar", "no such folder, file or glob")
    fails(source, "holds no portraits", ".parquet")
    (source / "a.png").write_bytes(picture())
    fails(source, "no captions", "metadata.jsonl")


def test_mixed_formats(source: Path):
    write_tar(source / "0.tar", {"a.png": picture(), "a.txt": "a"})
    (source / "metadata.csv").write_text("file_name,base_text\n")
    fails(source, "mixes .tar and metadata.csv", "glob")


def test_sources_without_rows(source: Path):
    write_folder(source, [])
    fails(source, "metadata.jsonl: no portrait in any file")


def test_unknown_and_missing_columns(source: Path):
    write_folder(source, [{"file_name": "a.png", "caption": "a"}])
    fails(source, "metadata.jsonl, row 1", "has no base_text; it has file_name, caption", "columns")
    fails(source, "has no captoin", columns={"base_text": "captoin"})
    fails(source, "has no edit", columns={"base_text": "caption", "target_text": "edit"})
    fails(source, "text is none of ours", "base_text", columns={"text": "caption"})


def test_parquet_without_captions_or_images(source: Path):
    file = write_parquet(source / "0.parquet", image=[picture()], url=["x"])
    fails(source, "0.parquet, row 0", "has no base_text; it has image, url")
    write_parquet(file, image=[{"bytes": None, "path": "a.png"}], base_text=["a"])
    fails(source, "0.parquet, row 0", "has no image")


def test_tar_without_caption_or_image(source: Path):
    file = write_tar(source / "0.tar", {"a.png": picture(), "b.png": picture(), "a.txt": "a"})
    fails(source, "0.tar::a", "no caption next to it", "tar --sort=name")
    write_tar(file, {"a.txt": "a"})
    fails(source, "0.tar::a", "has no image")
    write_tar(file, {"a.txt": "a", "a.png": picture(), "a.jpg": picture()})
    fails(source, "0.tar::a", "several images")


def test_folder_without_the_image(source: Path):
    write_folder(source, [{"file_name": "a.png", "base_text": "a"}])
    (source / "a.png").unlink()
    fails(source, "row 1 (a.png)", "has no image")


@pytest.mark.parametrize("caption", ["", "  ", None, 3])
def test_empty_captions(source: Path, caption: object):
    write_tar(source / "0.tar", {"a.png": picture(), "a.json": {"base_text": caption}})
    fails(source, "0.tar::a", "caption is empty")


def test_texts_of_the_wrong_type(source: Path):
    for wrong in ({"phrases": "red hair"}, {"phrases": [1]}, {"phrases": 1}, {"phrases": '"red"'}):
        write_tar(source / "0.tar", {"a.png": picture(), "a.json": {"base_text": "a"} | wrong})
        fails(source, "0.tar::a", "phrases is not a list of texts")
    write_tar(source / "0.tar", {"a.png": picture(), "a.json": {"base_text": "a", "target_text": ["x"]}})
    fails(source, "0.tar::a", "target text is not text")


def test_duplicate_ids(source: Path):
    write_tar(source / "0.tar", {"a.png": picture(), "a.txt": "a"})
    write_tar(source / "1.tar", {"a.png": picture(), "a.txt": "a"})
    fails(source, "1.tar::a: the id 'a' is taken by", "0.tar::a", "columns: {id: ...}")


def test_unreadable_files(source: Path):
    for name in ("0.tar", "0.parquet", "metadata.jsonl"):
        (source / name).write_bytes(b"\xff not what the name says")
        fails(source, name, "again")
        (source / name).unlink()
    write_tar(source / "0.tar", {"a.png": picture(), "a.json": "{"})
    fails(source, "0.tar::a", "json or txt cannot be read")
    write_tar(source / "0.tar", {"a.png": picture(), "a.json": "[]"})
    fails(source, "0.tar::a", "json or txt cannot be read")
    whole = write_tar(source / "0.tar", {"a.txt": "a", "a.png": os.urandom(5000)}).read_bytes()
    (source / "0.tar").write_bytes(whole[:3000])
    fails(source, "0.tar", "cannot be read")


def test_bad_json_line_is_named(source: Path):
    write_folder(source, [{"file_name": "a.png", "base_text": "a"}])
    with (source / "metadata.jsonl").open("a") as file:
        file.write("\n[]\n")
    fails(source, "metadata.jsonl, line 3", "no JSON object")


def test_target_texts_on_request(source: Path):
    write_tar(source / "0.tar", {"a.png": picture(), "a.json": TEXTS["a"], "b.png": picture(), "b.txt": "b"})
    assert read_portraits(source)["target_text"][:] == ["blonde hair", ""]
    fails(source, "portrait 'b' has no target text", require_target=True)


# Images


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_corrupt_and_truncated_images_name_shard_and_member(source: Path, kind: str):
    whole = picture(kind.upper(), colour="noise")
    flipped = bytearray(whole)
    flipped[len(whole) // 2 if kind == "png" else 1] ^= 0xFF
    members = {f"cut.{kind}": whole[: len(whole) // 2], f"flip.{kind}": bytes(flipped), f"none.{kind}": b""}
    members |= {f"{name.split('.')[0]}.txt": "a" for name in members}
    write_tar(source / "0.tar", dict(sorted(members.items())))
    for row in read_portraits(source):
        with pytest.raises(PortraitError, match=f"0.tar::{row['id']}.{kind}: the image cannot be decoded") as caught:
            decode_portrait(row["image"])
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # it crosses from loader workers


def test_images_of_a_folder_are_read_in_place(source: Path):
    write_folder(source, [{"file_name": "a.png", "base_text": "a"}])
    image = read_portraits(source)[0]["image"]
    assert image["bytes"] is None
    (source / "a.png").write_bytes(b"junk")
    with pytest.raises(PortraitError, match="a.png: the image cannot be decoded"):
        decode_portrait(image)


def test_portraits_are_turned_upright_and_made_rgb(source: Path):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.new("L", (10, 20)).save(file, "JPEG", exif=exif)
    upright = decode_portrait({"bytes": file.getvalue(), "path": "x"})
    assert (upright.size, upright.mode) == ((20, 10), "RGB")


# The cache


def test_cache_is_used_until_a_file_changes(source: Path, monkeypatch: pytest.MonkeyPatch):
    file = write_tar(source / "0.tar", {"a.png": picture(), "a.txt": "old"})
    first = read_portraits(source)
    with monkeypatch.context() as blind:
        blind.setattr("spf.portraits.reader.READERS", {".tar": None})  # would fail if the source were read again
        assert read_portraits(source)[0]["base_text"] == "old"
    write_tar(file, {"a.png": picture(), "a.txt": "new"})  # same size, so that only the time tells
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert read_portraits(source)[0]["base_text"] == "new"
    write_tar(source / "1.tar", {"b.png": picture(), "b.txt": "more"})
    assert len(read_portraits(source)) == 2
    assert first[0]["base_text"] == "old"


def test_a_failed_read_leaves_no_table_behind(source: Path):
    file = write_tar(source / "0.tar", {"a.png": picture(), "a.txt": "a", "b.txt": "b"})
    for _ in range(2):
        fails(source, "0.tar::b", "has no image")
    write_tar(file, {"a.png": picture(), "a.txt": "a"})
    assert len(read_portraits(source)) == 1


def test_two_processes_read_the_same_source(source: Path):
    endings = {"png": picture(), "txt": "a"}
    write_tar(source / "0.tar", {f"{n}.{ending}": content for n in range(300) for ending, content in endings.items()})
    with multiprocessing.get_context("fork").Pool(2) as pool:
        tables = pool.map(read_portraits, [source, source], chunksize=1)
    assert [len(set(table["id"])) for table in tables] == [300, 300]
    assert tables[0].cache_files == tables[1].cache_files
