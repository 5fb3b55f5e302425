"""The metrics' benchmark: packages find the suite's numbers or nothing is timed, ratios are paired."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from spf.evaluation.measuring import Measured
from spf.evaluation.registry import asked
from tests.house import ROOT


@pytest.fixture(scope="module", autouse=True)
def metering() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from metering.portraits import Portraits

    return Portraits.painted(tmp_path_factory.mktemp("portraits"), 2, 64)


@pytest.fixture
def files(portraits: Any, tmp_path: Path) -> Any:
    from metering.racing import Round

    return Round.begin(portraits, tmp_path / "round", turn=1)


def test_a_round_has_its_own_copies(portraits: Any, files: Any) -> None:
    own = {pair.original for side in (files.suite, files.package, files.second) for pair in side}
    assert len(own) == 6 and all(file.is_file() for file in own)
    first, second = files.suite[0], files.second[0]
    assert first.original.read_bytes() == second.original.read_bytes() and first.prompt == second.prompt
    assert first.customised.read_bytes() != second.customised.read_bytes()
    assert files.suite_first


@pytest.mark.filterwarnings("ignore::FutureWarning:insightface")
def test_every_metric_of_the_suite_is_raced_and_packages_agree(portraits: Any, files: Any) -> None:
    from metering.contests import contests
    from metering.racing import lap

    built = contests("tiny")
    assert list(built) == asked("published")
    for name, build in built.items():
        contest = build(False, portraits)
        found = lap(contest, files)
        columns = {column.key for column in contest.metric().columns}
        assert min(found.suite.seconds, found.second.seconds) > 0 and set(found.suite.result.rows) == {"000", "001"}
        if found.package:
            assert columns & found.package.result.keys(), f"{name}: the package has another number"
        assert (found.package is None) == (name in ("fid_clean", "mps", "image_reward"))


def test_a_package_with_other_numbers_is_not_timed(portraits: Any, files: Any) -> None:
    from metering.contests import contests
    from metering.racing import lap

    contest = contests("tiny")["lpips"](False, portraits)
    package: Callable[..., dict[str, list[float]]] = contest.package
    wrong = replace(contest, package=lambda pairs: {"lpips": [1.1 * value for value in package(pairs)["lpips"]]})
    with pytest.raises(AssertionError, match="lpips"):
        lap(wrong, files)


def test_the_second_method_has_the_originals_encodings(portraits: Any, files: Any) -> None:
    from metering.contests import contests
    from metering.racing import lap

    contest = contests("tiny")["clip"](False, portraits)
    seen: list[int] = []

    def counted() -> Any:
        metric = contest.metric()
        encode = metric.encode
        metric.encode = lambda images, *others: seen.append(len(images)) or encode(images, *others)
        return metric

    lap(replace(contest, metric=counted), files)
    assert seen == [2, 2, 2]  # both sides of the first, the customised alone of the second


def found(suite: list[float], second: list[float], package: list[float] | None, pairs: int = 5) -> Any:
    from metering.racing import Found, Lap, Run

    laps = [Lap(Run(Measured(), a, 3.0), Run(Measured(), b), Run({}, c, 4.0) if c else None)
            for a, b, c in zip(suite, second, package or [None] * len(suite), strict=True)]
    return Found("a network", "a package", pairs, laps)


def test_ratios_are_of_the_same_round() -> None:
    from metering.racing import images_per_second, over_packages, second_speedup

    slow, alone = found([4.0, 8.0, 4.0], [2.0, 4.0, 1.0], [5.0, 10.0, 1.0]), found([1.0, 1.0, 1.0], [0.5] * 3, None)
    assert over_packages([slow]) == pytest.approx(0.8) == over_packages([slow, alone])
    assert second_speedup([slow]) == 2 and second_speedup([slow, alone]) == pytest.approx(2)
    assert images_per_second([slow]) == 2.5 and images_per_second([slow, alone]) == 2


def test_the_table_has_a_row_a_metric_and_says_what_is_missed() -> None:
    from metering.table import HEAD, bars, row, whole

    one, alone = found([4.0] * 3, [2.5] * 3, [5.0] * 3), found([1.0] * 3, [1.0] * 3, None)
    columns = HEAD.splitlines()[0].count("|")
    rows = [row("lpips", one, 1.0), row("mps", alone, 1.0)]
    assert [line.count("|") for line in rows] == [columns] * 2
    assert "| 0.80 | 1.60 | 2.00 | 3.00 |" in rows[0] and rows[1].endswith("| 1.00 | 2.00 |  |")
    assert ["**missed**" in str(bar) for bar in bars([one], 9.9)] == [False, True, False]
    assert "0.80 of the packages' time, 0.80 without Seg-Cons" in "".join(whole({"lpips": one, "seg_cons": one}))


@pytest.mark.parametrize("name", ["fid", "kid"])
def test_what_a_rank_holds_and_sends_does_not_grow_with_ranks(name: str) -> None:
    from metering.scale import by_package, by_suite, by_torchmetrics, exchange, features

    one, many = (exchange(name, world, count=100, width=8) for world in (1, 4))
    assert one.value == pytest.approx(many.value, rel=1e-9)
    assert one.state == many.state == one.reduced == many.reduced > 0
    one_side, other = features(1100, 8)
    ours, theirs = float(by_suite(name, one_side, other).compute()), by_package(name, one_side, other)
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert name == "kid" or ours == pytest.approx(by_torchmetrics(name, one_side, other), rel=1e-3)


def test_the_real_sizes_are_the_published_ones() -> None:
    from metering import faces, networks

    from spf.evaluation.clip_score import ClipScore, ClipScoreB32
    from spf.evaluation.hps import Hps

    configs = {name: open_clip.get_model_config(called) for name, called in networks.CLIPS.items()}
    assert configs == {"clip": ClipScore.clip.config, "clip_b32": ClipScoreB32.clip.config,
                       "hpsv2_1": Hps.clip.config}
    assert faces.REAL == ((64, 128, 256, 512), (3, 4, 14, 3))


def test_a_tuned_sam_has_something_to_match(portraits: Any) -> None:
    from metering import networks

    from spf.evaluation.images import read_picture
    from spf.evaluation.sam import SamMasks

    image = read_picture(portraits.folder / "originals" / "000.png")
    masks = SamMasks(*networks.sam("tiny", image))(image)
    shares = masks.flatten(1).float().mean(1)
    assert len(masks) > 1 and (shares < 0.95).any()


def test_memory_is_watched_in_a_new_process() -> None:
    from machine.memory import fresh, peak

    held, gib = peak(lambda: torch.ones(2**26).sum())  # 256 MiB
    assert held == 2**26 and gib > 0.25
    assert fresh(pow, 2, 5) == 32
