"""Eq. 13 against diffusers."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from spf.backbones.flow import RectifiedFlow

X0, NOISE = torch.randn(2, 4, 16, 3, 2, generator=torch.Generator().manual_seed(0))
REFERENCE = FlowMatchEulerDiscreteScheduler(shift=3.0)
PROCESS = RectifiedFlow(REFERENCE.config)


def test_agrees_with_diffusers() -> None:
    t = REFERENCE.timesteps[[0, 3, 600, 999]]
    assert torch.allclose(PROCESS.noised(X0, NOISE, t), REFERENCE.scale_noise(X0, t, NOISE), atol=1e-6)
    assert torch.equal(PROCESS.target(X0, NOISE, t), NOISE - X0)


@pytest.mark.parametrize("t", [torch.tensor([0, 1, 500, 999]), torch.tensor([0.1, 1.5, 500.25, 999.9])])
def test_one_step_undoes_noising_at_every_kind_of_time(t: torch.Tensor) -> None:
    estimate = PROCESS.one_step(PROCESS.target(X0, NOISE, t), PROCESS.noised(X0, NOISE, t), t)
    assert torch.allclose(estimate, X0, atol=1e-5)


def test_one_step_carries_gradient() -> None:
    output = NOISE.clone().requires_grad_()
    PROCESS.one_step(output, X0, torch.full((4,), 10.0)).sum().backward()
    assert torch.allclose(output.grad, torch.tensor(-0.01))


def test_a_halved_network_keeps_exact_times() -> None:
    halved, t = RectifiedFlow(REFERENCE.config).to(torch.bfloat16), torch.tensor([1.0, 333.3, 700.7, 999.0])
    x_t = halved.noised(X0.bfloat16(), NOISE.bfloat16(), t)
    assert x_t.dtype == torch.float32
    assert torch.equal(x_t, PROCESS.noised(X0.bfloat16().float(), NOISE.bfloat16().float(), t))
    assert halved.one_step(NOISE.bfloat16(), x_t, t).dtype == torch.float32


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_times_are_shifted_logit_normal_and_repeatable(shift: float) -> None:
    process = RectifiedFlow({"num_train_timesteps": 1000, "shift": shift})
    drawn = process.times(4000, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, process.times(4000, torch.Generator().manual_seed(1)))
    assert drawn.dtype == torch.float32 and 0 < drawn.min() and drawn.max() < process.steps == 1000
    sigma = drawn / 1000
    normal = torch.logit(sigma / (shift - (shift - 1) * sigma))  # the shift undone
    assert abs(normal.mean()) < 0.05 and abs(normal.std() - 1) < 0.05


def test_times_are_float32_whatever_torch_draws_by_default() -> None:
    torch.set_default_dtype(torch.bfloat16)  # as a trainer in half precision sets it
    try:
        assert PROCESS.times(2).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", ["ddim", "base"])
def test_both_solvers_are_diffusers_own_steps(name: str) -> None:
    ours, stock = PROCESS.solver(REFERENCE, name), FlowMatchEulerDiscreteScheduler(shift=3.0)
    for solver in (ours, stock):
        solver.set_timesteps(4)
    assert torch.equal(ours.timesteps, stock.timesteps) and ours.init_noise_sigma == 1
    t, x_t = stock.timesteps[0], ours.scale_model_input(NOISE, stock.timesteps[0])
    assert torch.equal(ours.step(X0, t, x_t).prev_sample, stock.step(X0, t, NOISE).prev_sample)


def test_a_shift_by_size_is_refused() -> None:
    with pytest.raises(ValueError, match="use_dynamic_shifting is unknown"):
        RectifiedFlow(FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).config)
