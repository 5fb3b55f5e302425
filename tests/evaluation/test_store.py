"""Encodings on disk: kept by content, made again where they are damaged, whole or absent."""

from pathlib import Path

import pytest
import torch

from spf.evaluation.store import Store, content_key
from tests.full_disk import room_for

ENCODINGS = [{"vector": torch.arange(6.0)[::2], "step": torch.tensor(-1)}, {"step": torch.tensor(2)},
             {"vector": torch.tensor([torch.pi], dtype=torch.float64)}]


def test_what_is_kept_is_had_again(tmp_path: Path) -> None:
    store, key = Store(tmp_path), content_key({"network": "a"}, ["image"])
    assert store.get(key, 3) is None
    store.put(key, ENCODINGS)
    again = store.get(key, 3)
    assert again is not None and [one.keys() for one in again] == [one.keys() for one in ENCODINGS]
    assert all(torch.equal(one[part], other[part]) and one[part].dtype == other[part].dtype
               for one, other in zip(again, ENCODINGS, strict=True) for part in one)
    assert [file.name for file in tmp_path.rglob("*.*")] == [f"{key}.safetensors"]
    assert list(tmp_path.rglob("*.partial")) == []


def test_without_a_folder_nothing_is_kept() -> None:
    Store(None).put("key", ENCODINGS)
    assert Store(None).get("key", 3) is None


@pytest.mark.parametrize("damage", [lambda content: content[:-3], lambda content: b"", lambda content: content[9:]])
def test_damage_is_absence(tmp_path: Path, damage: object) -> None:
    store = Store(tmp_path)
    store.put("key", ENCODINGS)
    file, = tmp_path.rglob("*.safetensors")
    file.write_bytes(damage(file.read_bytes()))
    assert store.get("key", 3) is None
    store.put("key", ENCODINGS)
    assert store.get("key", 3) is not None


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with room_for(1000), pytest.raises(OSError, match=r"key\.safetensors was not written .*see that there is room"):
        Store(tmp_path).put("key", [{"vector": torch.zeros(1000)}])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_everything_that_counts_is_in_the_key() -> None:
    keys = {content_key({"network": network, "threshold": threshold}, [images, texts]) for network in "ab"
            for threshold in (0.5, 0.6) for images in (["x", "y"], ["y", "x"], ["x"]) for texts in ([], ["a hat"])}
    assert len(keys) == 2 * 2 * 3 * 2
    assert content_key({"a": 1, "b": 2}, []) == content_key({"b": 2, "a": 1}, [])
