import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from spf.evaluation.mps import Mps
from spf.text import Prompt
from tests.evaluation.clips import noise
from tests.evaluation.raters import TINY_MPS, Brightness, tiny_mps

PROMPTS = [Prompt("a woman", "a hat"), Prompt("a man."), Prompt("a girl", "glasses")]


def encoded(metric: Mps, scores: Sequence[float]) -> list[dict[str, Tensor]]:
    images = torch.stack([torch.full((3, 4, 4), int(score), dtype=torch.uint8) for score in scores])
    return metric.encode(images, PROMPTS[:len(scores)], None)


def test_rows_hold_the_raw_ratings() -> None:
    metric = Mps(Brightness())
    rows = metric.score(encoded(metric, [8, 9, 10]), encoded(metric, [10, 9, 9]), PROMPTS)
    assert [row["mps_raw"] for row in rows] == [10, 9, 9] and [row["mps_raw_original"] for row in rows] == [8, 9, 10]
    assert [row["mps_win"] for row in rows] == pytest.approx([1 / (1 + math.exp(-2)), 0.5, 1 / (1 + math.e)])
    assert [row["caption_truncated_mps"] for row in rows] == [1, 0, 1]


def test_odds_and_ratio_are_of_means_however_the_pairs_come() -> None:
    metric = Mps(Brightness())
    original, customised = torch.tensor([8.0, 9, 10, 9]), torch.tensor([10.0, 9, 9, 10])
    wanted = {"mps": math.exp(0.5), "mps_ratio": 9.5 / 9}
    for split in (4, 1, 3):
        together = metric.whole(4)
        for index, o, c in zip(torch.arange(4).split(split), original.split(split), customised.split(split),
                               strict=True):
            for one in together.values():
                one.update(index, o, c)
        assert {key: float(one.compute()) for key, one in together.items()} == pytest.approx(wanted, rel=1e-12)
    assert all(one.whole_of == "score" for one in together.values())
    assert wanted.keys() | set(metric.score(encoded(metric, [1]), encoded(metric, [1]), PROMPTS[:1])[0]) >= {
        column.key for column in metric.columns}


def test_published_weights_give_finite_numbers(tmp_path: Path) -> None:
    save_file({key: value.half().contiguous() for key, value in tiny_mps().state_dict().items()},
              tmp_path / Mps.weights.file)

    class Tiny(Mps):
        rater = TINY_MPS

    metric = Tiny.published(tmp_path, torch.device("cpu"))
    sides = [metric.encode(noise(3, 3, 50, 60, seed=seed), PROMPTS, None) for seed in (0, 1)]
    rows = metric.score(*sides, PROMPTS)
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert len({row["mps_raw"] for row in rows} | {row["mps_raw_original"] for row in rows}) == 6
    assert sides[0][0]["score"].dtype is torch.float32
