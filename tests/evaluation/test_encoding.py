"""From files to encodings: what cannot be used is named and costs no other pair anything; what is kept is not made."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spf.evaluation.encoding import Encoder, Pair
from spf.evaluation.metric import Metric
from spf.evaluation.store import Store
from spf.text import Prompt
from tests.evaluation.fakes import Apart, Blind, Brightness, Worded, noise_file, noise_pairs

NOWHERE = Store(None)


def encoded(metric: Metric, pairs: list[Pair], store: Store = NOWHERE) -> tuple[dict[str, list], dict[str, str]]:
    """Both encodings by id, and the failures."""
    failures: dict[str, str] = {}
    with torch.no_grad():
        good, originals, customised = Encoder(metric, store).encode(list(enumerate(pairs)), failures)
    return {pair.id: [one, other] for (_, pair), one, other in zip(good, originals, customised, strict=True)}, failures


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-150])


def larger(path: Path) -> None:
    noise_file(path, 0, (16, 8))


def black(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path)


FAULTS: list[tuple[type[Metric], str, Callable[[Path], None], str]] = [
    (Brightness, "customised", Path.unlink, "customised/001.png is missing: generate it"),
    (Brightness, "originals", Path.unlink, "originals/001.png is missing: generate it"),
    (Brightness, "customised", half, "customised/001.png is no picture, or a damaged one: .* copy it again"),
    (Brightness, "originals", half, "originals/001.png is no picture"),
    (Apart, "originals", half, "originals/001.png is no picture"),
    (Apart, "customised", larger, "customised/001.png has 16 x 8 pixels and its original 8 x 8; .*bring both to it"),
    (Blind, "customised", black, "customised/001.png: Blind gave a number that is not finite; look at the picture"),
    (Blind, "originals", black, "originals/001.png: Blind gave a number that is not finite"),
]


@pytest.mark.parametrize(("kind", "side", "harm", "reason"), FAULTS)
def test_a_failure_is_named_and_costs_no_other_pair(tmp_path: Path, kind: type[Metric], side: str,
                                                    harm: Callable[[Path], None], reason: str) -> None:
    pairs = noise_pairs(tmp_path, 4)
    whole, none = encoded(kind(), pairs)
    assert not none and len(whole) == 4
    harm(tmp_path / side / "001.png")
    good, failures = encoded(kind(), pairs)
    assert good.keys() == whole.keys() - {"001"} and all(good[name] == whole[name] for name in good)
    assert failures.keys() == {"001"}
    assert re.search(reason, failures["001"])


def test_unequal_sizes_trouble_only_what_compares_places(tmp_path: Path) -> None:
    pairs = noise_pairs(tmp_path, 3)
    larger(pairs[1].customised)
    metric = Brightness()
    good, failures = encoded(metric, pairs)
    assert len(good) == 3 and not failures
    assert [len(batch) for batch in metric.batches] == [3, 2, 1]  # originals, and the customised by size
    assert float(good["001"][1]["mean"]) == pytest.approx(np.asarray(Image.open(pairs[1].customised)).mean(), abs=1e-4)


def test_every_kind_of_image_counts(tmp_path: Path) -> None:
    rgb = Image.open(noise_file(tmp_path / "rgb.png", 1))
    kinds = {"grey": rgb.convert("L"), "deep": Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257),
             "clear": rgb.convert("RGBA"), "palette": rgb.convert("P"), "rgb": rgb}
    pairs = []
    for name, picture in kinds.items():
        picture.save(tmp_path / f"{name}.png")
        pairs.append(Pair(name, tmp_path / "rgb.png", tmp_path / f"{name}.png", Prompt("")))
    good, failures = encoded(Apart(), pairs)
    apart = {name: float(other["apart"]) for name, (_, other) in good.items()}
    assert not failures and apart["clear"] == apart["rgb"] == 0
    assert apart["deep"] == apart["grey"] > 0 and apart["palette"] > 0


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    pairs, store = noise_pairs(tmp_path, 3), Store(tmp_path / "kept")
    first, second = Brightness(), Brightness()
    before, after = encoded(first, pairs, store)[0], encoded(second, pairs, store)[0]
    assert (first.encoded, second.encoded) == (6, 0) and before == after
    noise_file(pairs[0].customised, 99)  # another method: its originals are known
    third = Brightness()
    assert encoded(third, pairs, store)[0]["001"] == before["001"] and third.encoded == 3


def test_what_one_method_lacks_costs_no_other_the_originals(tmp_path: Path) -> None:
    pairs, store = noise_pairs(tmp_path, 3), Store(tmp_path / "kept")
    pairs[1].customised.unlink()
    gaps, whole = Brightness(), Brightness()
    assert encoded(gaps, pairs, store)[1].keys() == {"001"} and gaps.encoded == 5
    noise_file(pairs[1].customised, 99)
    assert len(encoded(whole, pairs, store)[0]) == 3 and whole.encoded == 3  # all customised, no original


class Frail(Brightness):
    """Its network fails where an image is black."""

    def encode(self, images: torch.Tensor, prompts: Sequence[Prompt],
               originals: torch.Tensor | None) -> list[dict[str, torch.Tensor]]:
        if (images.flatten(1) == 0).all(1).any():
            raise RuntimeError("no such\n  thing")
        return super().encode(images, prompts, originals)


def test_a_network_that_fails_fails_for_the_culprit_alone(tmp_path: Path) -> None:
    pairs = noise_pairs(tmp_path, 4)
    whole, _ = encoded(Frail(), pairs)
    black(pairs[2].customised)
    good, failures = encoded(Frail(), pairs)
    assert failures == {"002": f"{pairs[2].customised}: Frail failed: no such thing"}
    assert good == {name: both for name, both in whole.items() if name != "002"}


def test_a_chunk_with_a_failure_is_not_kept(tmp_path: Path) -> None:
    pairs, store = noise_pairs(tmp_path, 3), Store(tmp_path / "kept")
    black(pairs[1].customised)
    assert encoded(Blind(), pairs, store)[1].keys() == {"001"} == encoded(Blind(), pairs, store)[1].keys()
    assert len(list((tmp_path / "kept").rglob("*.safetensors"))) == 1  # the originals


@pytest.mark.parametrize(("kind", "again"), [(Brightness, 0), (Worded, 4)])
def test_words_count_where_an_encoding_depends_on_them(tmp_path: Path, kind: type[Brightness], again: int) -> None:
    pairs, store = noise_pairs(tmp_path, 2), Store(tmp_path / "kept")
    encoded(kind(), pairs, store)
    other = kind()
    encoded(other, [replace(pair, prompt=Prompt("a man", "glasses")) for pair in pairs], store)
    assert other.encoded == again


def test_a_pair_is_kept_by_both_its_images(tmp_path: Path) -> None:
    pairs, store = noise_pairs(tmp_path, 2), Store(tmp_path / "kept")
    before = encoded(Apart(), pairs, store)[0]
    noise_file(pairs[0].original, 99)
    after = encoded(Apart(), pairs, store)[0]
    assert before["000"] != after["000"] and before["001"] == after["001"]
