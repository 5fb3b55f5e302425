"""The estimate of an experiment, and the settings that make it fit."""

from dataclasses import replace
from pathlib import Path

import pytest

from spf.cli import fits
from spf.cli.commands import parser
from spf.cli.fits import advice, changes, estimate, table
from spf.stages.fine_tuning import StandardFineTuning
from spf.stages.memory import Footprint, Setting
from spf.stages.weightless import WeightlessAlignment, WeightlessFineTuning
from spf.tuning import LoRA

GIB = 2**30
STAGE1, STAGE2 = (f"experiments/sd15/stage{stage}.yaml" for stage in (1, 2))
SMALL = ["--data.train_batch_size", "2", "--data.resolution", "64"]


def of(size: float) -> Footprint:
    return Footprint({"denoiser": 0}, 0, 0, 0, round(size * GIB))


def options(*training: str) -> list[list[str]]:
    return list(changes(parser("fit").parse_args(["fit", *training]).fit))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[StandardFineTuning, Setting]]:
    """What is to be counted, and is not."""
    found = list[tuple[StandardFineTuning, Setting]]()
    monkeypatch.setattr(fits, "footprint", lambda *given: found.append(given) or of(1))
    return found


def test_an_experiment_is_its_stage_as_configured(asked: list, tiny_sd15: Path) -> None:
    estimate(["-c", STAGE1, "-c", "experiments/sd15/lora.yaml", "--model.base", str(tiny_sd15), *SMALL])
    (module, given), = asked
    assert type(module) is WeightlessFineTuning and module.tuning == LoRA(8, 8.0)
    assert module.hparams["base"] == str(tiny_sd15) and module.hparams["gradient_checkpointing"]
    assert given == Setting(2, 64, "bf16-mixed")


def test_stage_2_needs_neither_its_start_nor_its_portraits(asked: list, tiny_sd15: Path) -> None:
    estimate(["-c", STAGE2, "--model.base", str(tiny_sd15), "--model.clip", "miniature", *SMALL, "--ema.decay", "0.9",
              "--trainer.accelerator", "cpu", "--trainer.precision", "32", "--trainer.gradient_clip_val", "1",
              "--data.global_batch_size", "4"])
    (module, given), = asked
    assert type(module) is WeightlessAlignment and module.images.decoder == "checkpointed"
    assert module.objective.m_text == 0.2 and not Path(module.hparams["start"]).exists()
    assert given == Setting(2, 64, "32-true", "cpu", averaged=True, accumulates=True, clips=True)


def test_the_table_has_a_line_a_part_and_the_sum() -> None:
    found = Footprint({"denoiser": 3 * GIB, "text encoders": 0}, GIB, 2 * GIB, 0, GIB // 2)
    assert [line.split("  ")[0] for line in table(found).splitlines()] == [
        "weights: denoiser", "gradients of what learns", "AdamW's two moments", "activations at the peak", "sum"]
    assert table(found).endswith("6.50 GiB")
    on_cpu = table(replace(found, kernels=GIB // 4)).splitlines()
    assert on_cpu[-2].split() == ["compiled", "kernels", "0.25", "GiB"] and on_cpu[-1].endswith("6.75 GiB")


def test_settings_are_tried_together_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, sizes = list[list[str]](), iter([30, 25, 21])
    monkeypatch.setattr(fits, "estimate", lambda training: tried.append(training) or of(next(sizes)))
    training = ["-c", STAGE2, "--data.train_batch_size", "4"]
    lines = list(advice(training, of(40), 24))
    assert lines[0].startswith("does not fit into 24 GiB") and len(lines) == 4
    assert lines[-1].split() == ["--data.train_batch_size", "2", "--trainer.accumulate_grad_batches", "2", "21.00",
                                 "GiB:", "fits"]
    added = [one[len(training):] for one in tried]
    assert added[0] == ["--model.gradient_checkpointing", "true"]
    assert added[1] == [*added[0], "--model.decoded_share", "0.25"]
    assert added[2] == [*added[1], "--data.train_batch_size", "2", "--trainer.accumulate_grad_batches", "2"]


def test_a_tenth_is_left_and_what_fits_needs_no_advice() -> None:
    assert [line[:4] for line in advice([], of(21.5), 24)] == ["fits"]


def test_nothing_may_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "estimate", lambda training: of(22))
    assert list(advice(["-c", STAGE1], of(30), 24))[-1].startswith("does not fit with any of these")


def test_only_what_applies_is_tried() -> None:
    halves = [["--data.train_batch_size", str(size), "--trainer.accumulate_grad_batches", str(8 // size)]
              for size in (4, 2, 1)]
    assert options("-c", STAGE1) == [*halves, ["--model.cache_texts", "true"]]
    assert options("-c", STAGE1, "--model.cache_texts", "true") == halves
    assert options("-c", STAGE1, "--data.global_batch_size", "16")[0] == ["--data.train_batch_size", "4"]
    assert options("-c", STAGE2, "--model.decoder", "vae")[:2] == [["--model.gradient_checkpointing", "true"],
                                                                  ["--model.decoder", "checkpointed"]]
    assert not any("decode" in " ".join(one) for one in options("-c", STAGE2, "--model.objective.enhanced", "0"))


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["-c", "experiments/miniature/pretrain.yaml"], "no estimate for model.class_path GroundedPretraining: give"),
    (["-c", STAGE1, "--trainer.precision", "64-true"], "no estimate for trainer.precision 64-true: give 32-true"),
    (["-c", STAGE1, "--data.resolution", "500"], "must be multiples of 8 pixels"),
    (["-c", STAGE1, "--model.base", "models/nowhere"], "'models/nowhere' is no diffusers folder here"),
])
def test_what_cannot_be_estimated_is_said(arguments: list[str], complaint: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=complaint):
        estimate(arguments)
