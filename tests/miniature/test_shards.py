import json
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from spf.miniature.painter import paint
from spf.miniature.people import base_text, draw_people, target_text
from spf.miniature.shards import Order, paint_portraits
from spf.portraits.reader import decode_portrait, read_portraits


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_what_is_painted_is_what_the_reader_reads(tmp_path: Path) -> None:
    source = paint_portraits(tmp_path / "p", 5, "away", ("hat", "glasses"), seed=3, shard_size=3)
    table = read_portraits(source, require_target=True)
    people = draw_people(5, 3, ("hat", "glasses"), "away")
    rows = sorted(table, key=lambda row: row["id"])
    assert [row["base_text"] for row in rows] == [base_text(p) for p in people]
    assert [row["target_text"] for row in rows] == [target_text(p.target) for p in people]
    image: Image.Image = decode_portrait(rows[4]["image"])
    expected = (paint(people)[4] * 255).round().byte().permute(1, 2, 0)
    assert torch.equal(torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(128, 128, 3), expected)


def test_the_same_order_gives_the_same_bytes_and_resumes(tmp_path: Path) -> None:
    first = paint_portraits(tmp_path / "a", 4, seed=1, shard_size=2)
    second = paint_portraits(tmp_path / "b", 2, seed=1, shard_size=2)
    paint_portraits(second, 4, seed=1, shard_size=2)
    with pytest.raises(FileExistsError, match="another count"):
        paint_portraits(second, 3, seed=1, shard_size=2)
    names = sorted(path.name for path in first.glob("*.tar"))
    assert len(names) == 2
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_varied_wordings_differ_and_name_no_target_when_there_is_none(tmp_path: Path) -> None:
    source = paint_portraits(tmp_path / "p", 30, "home", (), "varied")
    with tarfile.open(next(source.glob("*.tar"))) as tar:
        texts = [json.load(tar.extractfile(m)) for m in tar.getmembers() if m.name.endswith(".json")]
    assert len({text["base_text"].count(",") for text in texts}) > 2
    assert {text["target_text"] for text in texts} == {""}


def test_mistakes_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no target crown; there are hat"):
        paint_portraits(tmp_path / "x", 2, targets=("crown",))
    paint_portraits(tmp_path / "p", 2, seed=1)
    with pytest.raises(FileExistsError, match="give another folder"):
        paint_portraits(tmp_path / "p", 2, seed=2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.txt").write_text("")
    with pytest.raises(FileExistsError, match="holds no painted portraits"):
        paint_portraits(tmp_path / "mine", 2)


@pytest.mark.parametrize("wordings", ["canonical", "varied"])
def test_the_truth_of_a_painted_folder_follows_from_its_order(tmp_path: Path, wordings: str) -> None:
    source = paint_portraits(tmp_path / "p", 4, targets=("hat",), wordings=wordings, seed=3)
    order = Order.of(source)
    for row in read_portraits(source):
        person, = order.people(int(row["id"]))
        said = order.caption(person, int(row["id"]))
        assert person == draw_people(4, 3, ("hat",), "away")[int(row["id"])]
        assert tuple(row["phrases"]) == said.phrases and all(phrase in row["base_text"] for phrase in said.phrases)
        assert said.claims[-1] == -1 and len(said.names) == len(said.phrases)
    with pytest.raises(FileNotFoundError, match="portraits of known truth"):
        Order.of(tmp_path)
