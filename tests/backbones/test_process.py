"""Eq. 1 and Eq. 9 against diffusers."""

import pytest
import torch
from diffusers import DDPMScheduler

from spf.backbones.process import Diffusion

CONFIG = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
X0, NOISE = torch.randn(2, 4, 2, 3, 2, generator=torch.Generator().manual_seed(0)).unbind(1)[:2]
X0, NOISE = X0.contiguous(), NOISE.contiguous()
T = torch.tensor([3, 900])


def process(prediction_type: str = "epsilon") -> Diffusion:
    return Diffusion({**CONFIG, "prediction_type": prediction_type})


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_agrees_with_diffusers(prediction_type: str) -> None:
    reference, ours = DDPMScheduler(**CONFIG), process(prediction_type)
    assert torch.allclose(ours.noised(X0, NOISE, T), reference.add_noise(X0, NOISE, T))
    expected = NOISE if prediction_type == "epsilon" else reference.get_velocity(X0, NOISE, T)
    assert torch.allclose(ours.target(X0, NOISE, T), expected)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_one_step_undoes_noising(prediction_type: str) -> None:
    ours = process(prediction_type)
    estimate = ours.one_step(ours.target(X0, NOISE, T), ours.noised(X0, NOISE, T), T)
    assert torch.allclose(estimate, X0, atol=1e-4)


def test_one_step_carries_gradient() -> None:
    output = NOISE.clone().requires_grad_()
    process().one_step(output, X0, T).sum().backward()
    assert output.grad.abs().min() > 0


def test_a_halved_network_keeps_an_exact_schedule() -> None:
    exact, ours = process(), process().to(torch.bfloat16)
    assert torch.equal(ours.alphas_cumprod, exact.alphas_cumprod)
    x_t = ours.noised(X0.bfloat16(), NOISE.bfloat16(), T)
    assert x_t.dtype == torch.float32
    assert torch.equal(x_t, exact.noised(X0.bfloat16().float(), NOISE.bfloat16().float(), T))


def test_times_are_uniform_and_repeatable() -> None:
    drawn = process().times(4000, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, process().times(4000, torch.Generator().manual_seed(1)))
    assert drawn.dtype == torch.int64 and 0 <= drawn.min() < 5 and 994 < drawn.max() <= 999
    assert abs(drawn.float().mean() - 499.5) < 20


def test_an_unknown_prediction_type_is_refused() -> None:
    with pytest.raises(ValueError, match="'sample' is unknown"):
        process("sample")
