"""Rows do not depend on shares, order, resumption or cache; failures and interruptions cost nothing but themselves."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from spf.evaluation.encoding import Pair
from spf.evaluation.measuring import Share, exactly, measure
from spf.evaluation.metric import Encoding
from spf.evaluation.store import Store
from spf.text import Prompt
from tests.evaluation.fakes import Brightness, noise_pairs
from tests.full_disk import room_for

NOWHERE = Store(None)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Five, to be read only: chunks of two end with a half one."""
    return noise_pairs(tmp_path_factory.mktemp("pairs"), 5)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_chunks_are_the_same_for_any_number_of_shares(pairs: list[Pair], world: int) -> None:
    alone, metrics = Brightness(), [Brightness() for _ in range(world)]
    whole = measure(alone, pairs, NOWHERE, chunk=2)
    shares = [measure(metric, pairs, NOWHERE, Share(rank, world), chunk=2) for rank, metric in enumerate(metrics)]
    ids = [name for share in shares for name in share.rows]
    assert sorted(ids) == [pair.id for pair in pairs] and len(set(ids)) == len(ids)
    assert {name: row for share in shares for name, row in share.rows.items()} == whole.rows
    assert sorted(batch for metric in metrics for batch in metric.batches) == sorted(alone.batches)
    assert [len(batch) for batch in alone.batches] == [2, 2, 2, 2, 1, 1]


def test_order_changes_no_row(pairs: list[Pair]) -> None:
    one, other = (measure(Brightness(), some, NOWHERE, chunk=2) for some in (pairs, pairs[::-1]))
    assert one.rows == other.rows and list(one.rows) == list(other.rows)[::-1]
    assert one.whole["brightness"] == pytest.approx(other.whole["brightness"], rel=1e-12)


def test_what_all_pairs_make_together_is_made_of_the_good_ones(tmp_path: Path) -> None:
    pairs = noise_pairs(tmp_path, 5)
    pairs[1].customised.unlink()
    pairs[4].original.write_bytes(b"")  # the whole last chunk
    found = measure(Brightness(), pairs, NOWHERE, chunk=2)
    assert found.rows.keys() == {"000", "002", "003"} and found.failures.keys() == {"001", "004"}
    good = Brightness()
    expected = measure(good, [pairs[0], *pairs[2:4]], NOWHERE)
    assert found.whole == pytest.approx(expected.whole, rel=1e-12)
    assert found.rows == expected.rows


def test_without_a_good_pair_there_is_no_number_of_all(tmp_path: Path) -> None:
    pairs = noise_pairs(tmp_path, 2)
    for pair in pairs:
        pair.customised.unlink()
    found = measure(Brightness(), pairs, NOWHERE)
    assert found.whole == {} == found.rows and len(found.failures) == 2


def test_what_is_kept_gives_the_same_rows(pairs: list[Pair], tmp_path: Path) -> None:
    first, second = Brightness(), Brightness()
    one, other = (measure(metric, pairs, Store(tmp_path), chunk=2) for metric in (first, second))
    assert one == other and (first.encoded, second.encoded) == (10, 0)
    damaged = sorted(tmp_path.rglob("*.safetensors"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    third = Brightness()
    assert measure(third, pairs, Store(tmp_path), chunk=2) == one and 1 <= third.encoded <= 2
    assert measure(Brightness(), pairs, Store(tmp_path), Share(1, 2), chunk=2).rows.keys() == {"002", "003"}


class Interrupted(Brightness):
    """Somebody loses patience at the second chunk."""

    def encode(self, images: Tensor, prompts: Sequence[Prompt], originals: Tensor | None) -> list[Encoding]:
        """Two batches, one of each side."""
        if len(self.batches) == 2:
            raise KeyboardInterrupt
        return super().encode(images, prompts, originals)

    def describe(self) -> dict[str, str]:
        """As if it were the other."""
        return {"network": "Brightness"}


def test_an_interruption_loses_nothing(pairs: list[Pair], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        measure(Interrupted(), pairs, Store(tmp_path), chunk=2)
    after = Brightness()
    assert measure(after, pairs, Store(tmp_path), chunk=2) == measure(Brightness(), pairs, NOWHERE, chunk=2)
    assert after.encoded == 6  # of ten


def test_a_full_disk_is_named_and_leaves_nothing_half_written(pairs: list[Pair], tmp_path: Path) -> None:
    named = rf"{tmp_path}/.*\.safetensors was not written .*see that there is room"
    with room_for(50), pytest.raises(OSError, match=named):
        measure(Brightness(), pairs, Store(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert measure(Brightness(), pairs, Store(tmp_path)) == measure(Brightness(), pairs, NOWHERE)


def test_no_setting_of_the_caller_moves_a_number(pairs: list[Pair]) -> None:
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    plain = measure(Brightness(), pairs, NOWHERE)
    with torch.autocast("cpu", torch.bfloat16), torch.enable_grad():  # Brightness looks that neither is on
        assert measure(Brightness(), pairs, NOWHERE) == plain
        with pytest.raises(KeyboardInterrupt), exactly():
            assert not any(flag.allow_tf32 for flag in flags)
            raise KeyboardInterrupt
    assert [flag.allow_tf32 for flag in flags] == before
