"""The timing of a step: its peer finds the same losses, its floor counts what it says, and its parts are all there."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from spf.method.objective import Objective
from spf.method.response import phrase_attention, text_response
from spf.portraits.datamodule import PortraitBatch
from spf.report.results import read_step_time
from spf.stages.dual_path import DualPathAlignment
from spf.text import Prompt, phrases
from tests.house import ROOT


@pytest.fixture(scope="module", autouse=True)
def timing() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield


@pytest.fixture(scope="module")
def batch() -> PortraitBatch:
    prompt = Prompt("A woman in a brown jacket, with a curtain background", "blonde hair")
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return PortraitBatch(image, [prompt.base_text] * 2, [prompt.target_text] * 2, [phrases(prompt)] * 2, ["0", "1"])


@pytest.fixture(scope="module")
def training(tiny_sd15: Path, batch: PortraitBatch) -> Any:
    """Stage 2 on the tiny SD 1.5, its response moved a little from the reference."""
    from timing.training import Training

    module = DualPathAlignment(base=str(tiny_sd15), cache_latents=True)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in filter(lambda each: each.requires_grad, module.parameters()):
            weight += 0.01 * torch.randn_like(weight)
    return Training(module, batch, "32-true", 1.0)


def test_explicit_maps_are_ours(training: Any) -> None:
    from timing.explicit import MapStore, explicit_maps

    module, store = training.module, MapStore()
    prompts, _, t, noise, _ = module.drawn(training.batch)
    conditions = module.backbone.condition(prompts)
    records = module.backbone.denoise(noise, t, conditions, capture=True).attention
    for record in records:
        keep = torch.rand(2, record.query.shape[2])
        for ours, peers in ((text_response(record), store.text_response(record)),
                            (text_response(record, keep), store.text_response(record, keep)),
                            (phrase_attention(record, conditions.phrase_weights),
                             store.phrase_attention(record, conditions.phrase_weights))):
            torch.testing.assert_close(peers, ours, rtol=1e-5, atol=1e-5)
    with explicit_maps() as used:
        training.forward()
    assert len(used.maps) == 3 * len(records)  # F of both paths, and the phrases


def test_the_peer_is_held_to_the_same_losses(training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from timing.explicit import MapStore
    from timing.training import check_peer

    check_peer(training)
    assert not training.explicit
    wrong = MapStore.text_response
    monkeypatch.setattr(MapStore, "text_response", lambda *arguments: 1.1 * wrong(*arguments))
    with pytest.raises(AssertionError, match="loss"):
        check_peer(training)


def test_the_floor_counts_both_paths_and_the_backward_pass(training: Any) -> None:
    from timing.floor import count, necessary, whole

    assert count(lambda: torch.ones(2, 3) @ torch.ones(3, 5))[0] == 2 * 2 * 3 * 5
    training.forward()  # latents and embeddings are kept
    parts = necessary(training)
    assert parts["reference"] == pytest.approx(parts["response"]) and parts["reference"] > 0
    assert parts["decode + CLIP"] > 0 and parts["backward"] > parts["response"]
    assert sum(parts.values()) < whole(training) < 1.2 * sum(parts.values())


def test_without_enhancement_nothing_is_decoded(training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from timing.floor import necessary

    monkeypatch.setattr(training.module, "objective", Objective(enhanced=0.0))
    assert necessary(training)["decode + CLIP"] == 0


def test_the_split_names_all_that_takes_time(training: Any) -> None:
    from timing.split import PARTS, split

    assert type(training.module.objective).__call__ is Objective.__call__
    found = split(training, 1)
    assert list(found) == list(PARTS) and min(found.values()) > 0
    assert type(training.module.objective).__call__ is Objective.__call__ and "refer" not in vars(training.module)


def test_the_rows_are_the_shipped_recipes() -> None:
    from timing.bases import prepared
    from timing.rows import CHECKPOINTED, PLAIN, QUARTER_TINY, SHIPPED, build, read_recipe

    with prepared("miniature") as base:
        rows = {row: build(row, base, 2, "bf16-mixed") for row in (PLAIN, SHIPPED, CHECKPOINTED, QUARTER_TINY)}
    recipe = read_recipe("miniature", 2)["model"]["init_args"]
    shipped = rows[SHIPPED].module
    assert shipped.objective == Objective(**recipe["objective"]) and shipped.images.share == recipe["decoded_share"]
    assert shipped.hparams["learning_rate"] == recipe["learning_rate"] and shipped.hparams["start"] is None
    assert rows[PLAIN].module.objective.terms == shipped.objective.terms[:-1]
    assert rows[CHECKPOINTED].module.images.decoder == "checkpointed"
    assert rows[QUARTER_TINY].module.images.tiny is not None
    before = [weight.clone() for weight in rows[SHIPPED].optimizer.param_groups[0]["params"]]
    rows[SHIPPED].step()
    assert any((a != b).any() for a, b in zip(before, rows[SHIPPED].optimizer.param_groups[0]["params"], strict=True))


def test_bars_are_on_paired_ratios() -> None:
    from timing.floor import Floor
    from timing.rows import PLAIN, SHIPPED, STAGE1
    from timing.table import Measured, bars, section

    seconds = {STAGE1: [1.0, 2.0, 1.0], PLAIN: [1.2, 2.4, 9.0], SHIPPED: [1.7, 3.4, 1.7]}
    measured = Measured("bf16-mixed", seconds, Floor(10.0, {"reference": 3.0, "response": 9.0, "backward": 5.0}, 18.0))
    assert measured.over(PLAIN) == pytest.approx(1.2) and measured.over_floor == pytest.approx(1.0)
    assert ["**missed**" in str(bar) for bar in bars(measured)] == [False, True, False]
    assert "1.90 s (18 GB)" in "\n".join(section(measured))


def test_the_report_is_also_what_table_3_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import step_time
    from timing.floor import Floor
    from timing.rows import PLAIN, SHIPPED, STAGE1
    from timing.table import Measured

    def measured(base: Any, precision: str, *_: Any) -> Measured:
        seconds = {STAGE1: [1.0, 2.0, 1.5], PLAIN: [1.2, 2.4, 9.0], SHIPPED: [1.7, 3.4, 1.8]}
        return Measured(precision, seconds, Floor(10.0, {"reference": 3.0}, 18.0))

    monkeypatch.setattr(step_time, "measure", measured)
    monkeypatch.setattr(step_time, "CHANGES", {STAGE1: {}, PLAIN: {}, SHIPPED: {}})
    monkeypatch.setattr(step_time, "peak_memory", lambda row, *_: {STAGE1: 0.4, PLAIN: 0.5, SHIPPED: 0.6}[row])
    options = Namespace(base="miniature", batch=16, pairs=3, threads=1, slow=False, out=tmp_path / "miniature")
    assert step_time.report(None, options).precision == "bf16-mixed"
    rows = read_step_time(options.out / "step_time.json")
    assert rows["stage 1"].summary["32-true.seconds"].mean == 1.5
    assert rows["stage 2"].summary["bf16-mixed.gib"].mean == 0.6
    assert rows["stage 2"].manifest["batch"] == 16 and rows["stage 2"].manifest["versions"]["torch"]
    assert (options.out / "step_time.md").is_file()
