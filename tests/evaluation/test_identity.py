"""ID: what a pair with and without faces gives, and that it can be kept."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spf.evaluation.faces import Face
from spf.evaluation.identity import Identity
from spf.evaluation.metric import Encoding
from spf.evaluation.store import Store
from spf.evaluation.weights import WeightsAbsent
from spf.text import Prompt

AHEAD, BESIDE, BEHIND, NONE = range(4)


def embed(image: Tensor) -> Face | None:
    """A face whose direction is written in the image's first byte."""
    turned = int(image[0, 0, 0])
    directions = torch.tensor([[1.0, 0], [0.6, 0.8], [-1, 0]])
    return None if turned == NONE else Face(F.normalize(directions[turned], dim=0), tried=turned)


def encoded(*turned: int) -> list[Encoding]:
    images = torch.stack([torch.full((3, 8, 8), one, dtype=torch.uint8) for one in turned])
    return Identity(embed, {}).encode(images, [Prompt("")] * len(turned), None)


def test_what_a_pair_gives() -> None:
    originals, customised = encoded(AHEAD, AHEAD, AHEAD, NONE, NONE), encoded(BESIDE, BEHIND, NONE, AHEAD, NONE)
    rows = Identity(embed, {}).score(originals, customised, [Prompt("")] * 5)
    same = {"face_found": 1.0, "id_ref_missing": 0.0}
    assert rows[0] == pytest.approx({"id": 0.6, "id_detected": 0.6, **same})
    assert rows[1] == pytest.approx({"id": -1.0, "id_detected": -1.0, **same})
    assert rows[2] == {"id": 0.0, "face_found": 0.0, "id_ref_missing": 0.0}
    assert rows[3] == rows[4] == {"id_ref_missing": 1.0}
    means = {column.key: [row[column.key] for row in rows if column.key in row] for column in Identity.columns}
    assert {key: sum(values) / len(values) for key, values in means.items()} == pytest.approx(
        {"id": -0.4 / 3, "id_detected": -0.2, "face_found": 2 / 3})


def test_a_missing_face_is_kept_too(tmp_path: Path) -> None:
    encodings = encoded(BESIDE, NONE)
    assert [int(encoding["step"]) for encoding in encodings] == [BESIDE, -1]
    store = Store(tmp_path)
    store.put("key", encodings)
    kept = store.get("key", 2)
    assert kept is not None and [set(encoding) for encoding in kept] == [{"embedding", "step"}, {"step"}]
    assert torch.equal(kept[0]["embedding"], encodings[0]["embedding"])


def test_absent_networks_are_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsAbsent, match="det_10g.onnx is absent .*non-commercial") as caught:
        Identity.published(tmp_path, "cpu")
    assert "\n" not in str(caught.value) and "buffalo_l.zip" in str(caught.value)
