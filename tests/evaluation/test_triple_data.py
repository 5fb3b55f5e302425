"""Every triple has its turn, on exactly one rank."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spf.evaluation.triple_data import TripleData
from spf.evaluation.triples import Triples
from tests.evaluation.fakes import six_triples


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_every_request_is_dealt_out_once(tiny_sd15: Path, world: int) -> None:
    originals = six_triples(tiny_sd15)
    turns: list[list[Sequence[Any]]] = []
    for rank in range(world):
        data = TripleData(str(originals))
        data.trainer = SimpleNamespace(global_rank=rank, world_size=world)
        data.setup("test")
        turns.append(list(data.test_dataloader()))
    assert len({len(some) for some in turns}) == 1, "all ranks have equally many turns"
    dealt = [request for some in turns for chunk in some for request in chunk]
    assert sorted(dealt, key=lambda request: request.seed) == Triples.load(originals).requests
    assert {len(chunk) for some in turns for chunk in some} <= {0, 2}
    assert TripleData(str(originals), chunk=4).chunk == 4 and data.chunk == 2
