import io
import json
import multiprocessing
import os
import pickle
import struct
import zlib
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from spf.portraits.formats import PortraitError
from spf.portraits.reader import decode_portrait, read_portraits
from tests.portraits.sources import picture, write_folder, write_parquet, write_tar

TEXTS = {
    "a": {"base_text": "a woman in a brown jacket", "target_text": "blonde hair", "phrases": ["brown jacket"]},
    "b": {"base_text": "une femme âgée, 微笑 🙂", "target_text": "kurze Haare"},
}


def check_table(table: datasets.Dataset, ids: list[str]) -> None:
    assert table.column_names == ["image", "base_text", "target_text", "phrases", "id", "problem"]
    assert table["problem"][:] == ["", ""]
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


def has_problem(source: Path, *words: str, **options) -> datasets.Dataset:
    """The source is read, and a row of it has a problem that holds the words, in one line."""
    table = read_portraits(source, **options)
    lines = [text for text in table["problem"] if "\n" not in text]
    assert any(all(word in text for word in words) for text in lines), table["problem"][:]
    return table


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
    has_problem(source, "metadata.jsonl, row 1", "has no base_text; it has file_name, caption", "columns")
    has_problem(source, "has no captoin", columns={"base_text": "captoin"})
    has_problem(source, "has no edit", columns={"base_text": "caption", "target_text": "edit"})
    fails(source, "text is none of ours", "base_text", columns={"text": "caption"})


def test_parquet_without_captions_or_images(source: Path):
    file = write_parquet(source / "0.parquet", image=[picture()], url=["x"])
    has_problem(source, "0.parquet, row 0", "has no base_text; it has image, url")
    write_parquet(file, image=[{"bytes": None, "path": "a.png"}], base_text=["a"])
    has_problem(source, "0.parquet, row 0", "has no image")


def test_tar_without_caption_or_image(source: Path):
    file = write_tar(source / "0.tar", {"a.png": picture(), "b.png": picture(), "a.txt": "a"})
    has_problem(source, "0.tar::a", "no caption next to it", "tar --sort=name")
    write_tar(file, {"a.txt": "a"})
    has_problem(source, "0.tar::a", "has no image")
    write_tar(file, {"a.txt": "a", "a.png": picture(), "a.jpg": picture()})
    has_problem(source, "0.tar::a", "several images")


def test_an_image_that_is_missing_from_a_folder_may_be_put_back(source: Path):
    metadata = write_folder(source, [{"file_name": "a.png", "base_text": "a"}])
    metadata.write_text(metadata.read_text() + json.dumps({"base_text": "b"}) + "\n")
    image = (source / "a.png").read_bytes()
    (source / "a.png").unlink()
    table = has_problem(source, "row 2 ()", "has no image")
    with pytest.raises(PortraitError, match=r"a\.png: the image cannot be decoded \(.*No such file"):
        decode_portrait(table[0]["image"])
    (source / "a.png").write_bytes(image)
    assert decode_portrait(read_portraits(source)[0]["image"]).mode == "RGB"


@pytest.mark.parametrize("place", [512 * 4, 512 * 4 + 20, 512 * 5])
def test_a_shard_damaged_in_a_header_or_cut_between_members_is_unreadable(source: Path, place: int):
    file = write_tar(source / "0.tar", {f"{name}.{kind}": b"a" for name in "abc" for kind in ("txt", "png")})
    whole = file.read_bytes()
    for broken in (whole[:place], whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1:]):
        file.write_bytes(broken)
        if place // 512 % 2 == 0 or len(broken) < len(whole):  # a flipped bit of an image is the decoder's to find
            fails(source, "0.tar", "Copy or write the file again")


def test_a_quote_that_never_ends(source: Path):
    (source / "metadata.csv").write_text('file_name,base_text\na.png,"' + "x" * 200_000)
    fails(source, "metadata.csv", "cannot be read", "again")


@pytest.mark.parametrize("caption", ["", "  ", None, 3])
def test_empty_captions(source: Path, caption: object):
    write_tar(source / "0.tar", {"a.png": picture(), "a.json": {"base_text": caption}})
    has_problem(source, "0.tar::a", "caption is empty")


def test_texts_of_the_wrong_type(source: Path):
    for wrong in ({"phrases": "red hair"}, {"phrases": [1]}, {"phrases": 1}, {"phrases": '"red"'}):
        write_tar(source / "0.tar", {"a.png": picture(), "a.json": {"base_text": "a"} | wrong})
        has_problem(source, "0.tar::a", "phrases is not a list of texts")
    write_tar(source / "0.tar", {"a.png": picture(), "a.json": {"base_text": "a", "target_text": ["x"]}})
    has_problem(source, "0.tar::a", "target text is not text")


def test_duplicate_ids(source: Path):
    write_tar(source / "0.tar", {"a.png": picture(), "a.txt": "a"})
    write_tar(source / "1.tar", {"a.png": picture(), "a.txt": "a"})
    table = has_problem(source, "1.tar::a: the id 'a' is taken by", "0.tar::a", "columns: {id: ...}")
    assert (table["id"][:], table["base_text"][:]) == (["a", "a"], ["a", ""])


def test_a_bad_portrait_keeps_its_place_and_takes_no_id(source: Path):
    members = {"a.txt": "a", "b.png": picture(), "b.txt": "b", "c.png": picture(), "c.txt": " "}
    write_tar(source / "0.tar", members)
    write_tar(source / "1.tar", {"a.png": picture(), "a.txt": "again"})
    table = read_portraits(source)
    assert table["id"][:] == ["a", "b", "c", "a"]
    assert [bool(problem) for problem in table["problem"]] == [True, False, True, False]


def test_unreadable_files(source: Path):
    for name in ("0.tar", "0.parquet", "metadata.jsonl"):
        (source / name).write_bytes(b"\xff not what the name says")
        fails(source, name, "again")
        (source / name).unlink()
    write_tar(source / "0.tar", {"a.png": picture(), "a.json": "{"})
    has_problem(source, "0.tar::a", "json or txt cannot be read")
    write_tar(source / "0.tar", {"a.png": picture(), "a.json": "[]"})
    has_problem(source, "0.tar::a", "json or txt cannot be read")
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
    write_tar(source / "0.tar", {"a.png": picture(), "a.json": TEXTS["a"], "b.txt": "b"})
    assert len(read_portraits(source, require_target=True)) == 2  # of a bad portrait none is required


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


def decoded(image: Image.Image, kind: str = "PNG", **options) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    result = decode_portrait({"bytes": file.getvalue(), "path": "x"})
    assert result.mode == "RGB"
    return result


def test_rotated_images_are_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    image = Image.new("L", (10, 20))
    image.paste(255, (0, 10, 10, 20))  # the lower half, which becomes the left one
    upright = decoded(image, "JPEG", exif=exif)
    assert upright.size == (20, 10)
    assert upright.getpixel((2, 5)) > (200,) * 3 and upright.getpixel((17, 5)) < (50,) * 3


def test_cmyk_and_palettes_become_rgb():
    red = decoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG").getpixel((4, 4))
    assert red[0] > 240 and max(red[1:]) < 15
    assert decoded(Image.new("RGB", (8, 8), "blue").convert("P")).getpixel((4, 4)) == (0, 0, 255)
    assert decoded(Image.new("1", (8, 8), 1)).getpixel((4, 4)) == (255, 255, 255)


def test_what_is_transparent_becomes_white():
    assert decoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0))).getpixel((4, 4)) == (255, 255, 255)
    assert decoded(Image.new("RGBA", (8, 8), (0, 0, 0, 51))).getpixel((4, 4)) == (204, 204, 204)
    assert decoded(Image.new("LA", (8, 8), (0, 0)), "WEBP", lossless=True).getpixel((4, 4)) == (255, 255, 255)
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette([0] * 768)
    assert decoded(palette, transparency=3).getpixel((4, 4)) == (255, 255, 255)
    assert decoded(palette, transparency=4).getpixel((4, 4)) == (0, 0, 0)


def test_16_bits_are_scaled_and_not_clipped():
    grey = Image.fromarray(np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16))
    levels = np.asarray(decoded(grey))[..., 0].flatten()
    assert levels.tolist() == list(range(256))
    colour = decode_portrait({"bytes": png_16_bit_rgb(0x1234, 0x8000, 0xFFFF), "path": "x"})
    assert colour.getpixel((0, 0)) == (0x12, 0x80, 0xFF)


def png_16_bit_rgb(*colour: int) -> bytes:
    """One pixel; Pillow reads such files and writes none."""
    header, data = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0), zlib.compress(b"\0" + struct.pack(">HHH", *colour))
    chunks = {b"IHDR": header, b"IDAT": data, b"IEND": b""}
    made = (struct.pack(">I", len(c)) + t + c + struct.pack(">I", zlib.crc32(t + c)) for t, c in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


# The cache


def test_cache_is_used_until_a_file_changes(source: Path, monkeypatch: pytest.MonkeyPatch):
    file = write_tar(source / "0.tar", {"a.png": picture(), "a.txt": "old"})
    first = read_portraits(source)
    with monkeypatch.context() as blind:
        blind.setattr("spf.portraits.formats.FORMATS", {".tar": None})  # would fail if the source were read again
        assert read_portraits(source)[0]["base_text"] == "old"
    write_tar(file, {"a.png": picture(), "a.txt": "new"})  # same size, so that only the time tells
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert read_portraits(source)[0]["base_text"] == "new"
    write_tar(source / "1.tar", {"b.png": picture(), "b.txt": "more"})
    assert len(read_portraits(source)) == 2
    assert first[0]["base_text"] == "old"


def test_a_failed_read_leaves_no_table_behind(source: Path):
    file = write_tar(source / "0.tar", {"a.png": picture(), "a.txt": "a", "b.txt": "b" * 2000})
    file.write_bytes(file.read_bytes()[:4000])
    for _ in range(2):
        fails(source, "0.tar", "cannot be read")
    write_tar(file, {"a.png": picture(), "a.txt": "a"})
    assert len(read_portraits(source)) == 1


def test_two_processes_read_the_same_source(source: Path):
    endings = {"png": picture(), "txt": "a"}
    write_tar(source / "0.tar", {f"{n}.{ending}": content for n in range(300) for ending, content in endings.items()})
    with multiprocessing.get_context("fork").Pool(2) as pool:
        tables = pool.map(read_portraits, [source, source], chunksize=1)
    assert [len(set(table["id"])) for table in tables] == [300, 300]
    assert tables[0].cache_files == tables[1].cache_files
