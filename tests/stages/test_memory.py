"""The memory of a step: persistent parts to the byte, and activations that answer to what makes them."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from spf.backbones import load_backbone
from spf.baselines.objective import AnyObjective
from spf.clip import Clip
from spf.stages.memory import Footprint, LiveBytes, Setting, footprint
from spf.stages.weightless import WeightlessAlignment, WeightlessFineTuning
from spf.tuning import LoRA

TWO = Setting(2, 64)


def size(module: torch.nn.Module, learning: bool = False) -> int:
    """Bytes of what a real module holds."""
    held = [weight for weight in module.parameters() if weight.requires_grad or not learning]
    return sum(one.nbytes for one in [*held, *([] if learning else module.buffers())])


@cache
def stage1(given: Setting = TWO, base: str = "miniature", **options: Any) -> Footprint:
    return footprint(WeightlessFineTuning(base=base, **options), given)


@cache
def stage2(given: Setting = TWO, base: str = "miniature", **options: Any) -> Footprint:
    return footprint(WeightlessAlignment(base=base, **options), given)


def test_storages_count_once_and_until_they_are_gone() -> None:
    with FakeTensorMode(), LiveBytes() as live:
        a = torch.empty(256, 4)
        assert live.now == 4096
        b = a.t()[:2] + 1.0  # a view is no storage
        assert live.now == 4096 + 2048
        a.add_(1)
        assert live.now == 4096 + 2048
        del b
        assert live.now == 4096
        del a
    assert live.now == 0 and live.peak == 4096 + 2048


def test_what_a_linear_layer_saves_is_counted() -> None:
    with FakeTensorMode(), LiveBytes() as live:
        x = torch.empty(8, 16)
        kept = (x.exp().exp()).mul(2)  # nothing learns: only the result stays
        assert live.now == 2 * 8 * 16 * 4
        x.requires_grad_()
        kept = x.exp().exp()
        assert live.now == 3 * 8 * 16 * 4 and kept.shape == (8, 16)  # each exp keeps its result


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_persistent_parts_are_exact(precision: str) -> None:
    model = load_backbone("miniature")
    if precision == "bf16-true":
        model.to(torch.bfloat16)
    learn = size(model.denoiser.requires_grad_(True), learning=True)
    found = stage1(Setting(2, 64, precision, averaged=True))
    assert found.weights == {"denoiser": size(model.denoiser), "VAE": size(model.vae),
                             "text encoders": size(model.encoders)}
    assert (found.gradients, found.optimizer) == (learn, 2 * learn)
    assert found.averages == sum(4 * weight.numel() for weight in model.denoiser.parameters())
    assert found.total == (sum(found.weights.values()) + found.gradients + found.optimizer + found.averages
                           + found.activations)


def test_stage_2_has_a_reference_and_clip_and_learns_attention_alone() -> None:
    model = load_backbone("miniature")
    found = stage2()
    weights = dict(model.denoiser.named_parameters())
    assert found.gradients == sum(weights[name].nbytes for name in model.attention_parameters())
    assert found.weights["reference"] == size(model.denoiser) + size(model.process)
    assert found.weights["CLIP"] == size(Clip.load("miniature"))
    assert found.activations > stage1().activations


def test_in_half_precision_both_denoisers_are_and_clip_is_not() -> None:
    half, whole = stage2(Setting(2, 64, "bf16-true")).weights, stage2().weights
    schedule = size(load_backbone("miniature").process)
    assert half["denoiser"] == whole["denoiser"] / 2 and half["CLIP"] == whole["CLIP"]
    assert half["reference"] == (whole["reference"] - schedule) / 2 + schedule


def test_a_term_without_a_weight_does_no_work() -> None:
    nothing = stage2(objective=AnyObjective(m_text=0, m_fine=0, enhanced=0))
    undecoded = stage2(objective=AnyObjective(enhanced=0))
    assert nothing.activations < undecoded.activations < stage2().activations
    assert "CLIP" not in nothing.weights


def test_activations_answer_to_what_makes_them() -> None:
    half, whole = (stage1(Setting(batch, 128)).activations for batch in (8, 16))
    assert half < whole == pytest.approx(2 * half, rel=0.1)
    assert TWO.resolution == 64 and stage1(TWO).activations < half / 4
    on_cpu, on_gpu = (stage1(Setting(16, 128, "bf16-mixed", device)) for device in ("cpu", "cuda"))
    assert on_cpu.activations < on_gpu.activations < whole and on_gpu.kernels == 0
    assert 0 < stage1(Setting(2, 64, device="cpu")).kernels < on_cpu.kernels < on_cpu.total - on_cpu.activations
    checkpointed = stage1(Setting(16, 128), gradient_checkpointing=True).activations
    assert checkpointed < 0.7 * whole


def test_low_rank_learns_little() -> None:
    full, low = stage1(), stage1(tuning=LoRA(rank=2))
    assert low.gradients < 0.05 * full.gradients and low.optimizer == 2 * low.gradients
    assert low.total < full.total


def test_gradients_that_are_accumulated_stay_through_the_backward_pass() -> None:
    several = stage1(Setting(2, 64, accumulates=True))
    assert several.total >= stage1().total


def test_a_transformer_is_counted_too(tiny_sd35: Path) -> None:
    model, found = load_backbone(tiny_sd35), stage1(base=str(tiny_sd35))
    assert found.weights["denoiser"] == size(model.denoiser) and found.weights["text encoders"] == size(model.encoders)
    assert 0 < stage1(base=str(tiny_sd35), gradient_checkpointing=True).activations < found.activations


@pytest.mark.parametrize("stage", [stage1, stage2])
def test_texts_that_are_read_once_leave_the_device(stage: Any) -> None:
    read, kept = stage(), stage(cache_texts=True)
    assert read.weights["text encoders"] > 0 and "text encoders" not in kept.weights
    assert kept.gradients == read.gradients and kept.activations <= read.activations


def test_what_never_learns_takes_half() -> None:
    half = Setting(2, 64, "bf16-mixed")
    whole, held = stage2(half), stage2(half, frozen_dtype="bfloat16")
    for part in ("VAE", "reference"):  # biases and norms stay whole
        assert 0.5 * whole.weights[part] < held.weights[part] < 0.53 * whole.weights[part]
    assert held.weights["CLIP"] == whole.weights["CLIP"] and held.gradients == whole.gradients
