"""Images depend on prompt and seed alone, and equal a stock pipeline's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
)
from torch import Tensor

from spf.backbones import Backbone, load_backbone
from spf.notation import AttentionRecord, Conditions, Denoise, Guidance
from spf.sampling import generate, initial_noise
from spf.text import Prompt
from tests.sd35 import ABSENT

QUICK: dict[str, Any] = {"steps": 3, "chunk": 2, "progress": False}
MAN = Prompt("a man in a red shirt", "a hat")


def test_initial_noise_is_each_seeds_own() -> None:
    both = initial_noise([5, 7], (4, 8, 8))
    assert torch.equal(both[1:], initial_noise([7], (4, 8, 8)))
    assert torch.equal(both[0], torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("scheduler", ["ddim", "base"])
@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
def test_equals_a_stock_pipeline(
    backbone: Backbone, tiny_sd15: Path, prompt: Prompt, scheduler: Any, guidance_scale: float
) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd15)
    pipeline.set_progress_bar_config(disable=True)
    if scheduler == "ddim":
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    noise = initial_noise([1, 2], backbone.latent_shape())
    texts = [prompt.full_text, MAN.full_text]
    options = {"num_inference_steps": 3, "guidance_scale": guidance_scale, "height": 64, "width": 64}
    stock = pipeline(texts, latents=noise, output_type="pt", **options).images
    ours = generate(backbone, [prompt, MAN], [1, 2], scheduler=scheduler, guidance_scale=guidance_scale, **QUICK)
    assert (ours - stock).abs().max() <= 1 / 255


@pytest.mark.parametrize(
    ("tiny", "guidance_scale", "scheduler"),
    [("tiny_sd35", 7.0, "base"), ("tiny_sd35", 1.0, "ddim"), ("tiny_sd35_without_t5", 7.0, "ddim")],
)
def test_a_flow_equals_a_stock_pipeline(
    tiny: str, guidance_scale: float, scheduler: Any, prompt: Prompt, request: pytest.FixtureRequest
) -> None:
    """Whichever solver is asked for: a flow has only its own."""
    folder = request.getfixturevalue(tiny)
    backbone, pipeline = load_backbone(folder), StableDiffusion3Pipeline.from_pretrained(folder, **ABSENT[tiny])
    pipeline.set_progress_bar_config(disable=True)
    noise = initial_noise([1, 2], backbone.latent_shape(64, 96))
    options = {"num_inference_steps": 3, "guidance_scale": guidance_scale, "height": 64, "width": 96}
    stock = pipeline([prompt.full_text, MAN.full_text], latents=noise, output_type="pt", **options).images
    ours = generate(backbone, [prompt, MAN], [1, 2], scheduler=scheduler, guidance_scale=guidance_scale, height=64,
                    width=96, **QUICK)
    assert stock.std() > 0.01 and (ours - stock).abs().max() <= 1 / 255


def test_an_image_depends_neither_on_number_nor_on_order(backbone: Backbone, prompt: Prompt) -> None:
    three = generate(backbone, [prompt, MAN, prompt], [1, 2, 3], **QUICK)
    assert torch.equal(three[[2, 1]], generate(backbone, [prompt, MAN], [3, 2], **QUICK))
    assert torch.equal(three[:1], generate(backbone, [prompt], [1], **QUICK))
    assert three.shape == (3, 3, 64, 64) and 0 <= three.min() <= three.max() <= 1 and three.dtype == torch.float32


@pytest.mark.parametrize("kind", [DDPMScheduler, EulerDiscreteScheduler])
def test_other_base_schedulers(backbone: Backbone, prompt: Prompt, kind: type) -> None:
    """A stochastic one draws from the sample's own generator; one in sigmas scales its input."""
    backbone.scheduler = kind.from_config(backbone.scheduler.config)
    two = generate(backbone, [prompt, MAN], [1, 2], scheduler="base", **QUICK)
    assert torch.equal(two[1:], generate(backbone, [MAN], [2], scheduler="base", **QUICK))


def test_a_pair_shares_its_noise(backbone: Backbone, prompt: Prompt) -> None:
    original = generate(backbone, [prompt.base], [1], **QUICK)
    assert torch.equal(original, generate(backbone, [Prompt(prompt.base_text)], [1], **QUICK))
    assert not torch.equal(original, generate(backbone, [prompt], [1], **QUICK))


def test_size_and_mode(backbone: Backbone, prompt: Prompt) -> None:
    backbone.train()
    assert generate(backbone, [prompt], [1], height=64, width=128, **QUICK).shape == (1, 3, 64, 128)
    assert backbone.training


class Recorder(Guidance):
    """Edits the features, moves x_t and adds to the output, and remembers what it was given."""

    def edit(self, texts: Sequence[Any], conditions: Conditions, backbone: Any) -> Conditions:
        self.texts, self.given = list(texts), conditions
        return conditions

    def adjust(self, x_t: Tensor, t: Tensor, denoise: Denoise) -> Tensor:
        self.t = t
        x_t.mul_(0.5)
        return denoise(x_t, t) + 0.1


def test_guidance_sees_the_prompts_and_changes_the_images(backbone: Backbone, prompt: Prompt) -> None:
    recorder = Recorder()
    changed = generate(backbone, [prompt], [1], guidance=recorder, **QUICK)
    assert not torch.equal(changed, generate(backbone, [prompt], [1], **QUICK))
    assert recorder.texts == [prompt, prompt] and len(recorder.given.sequence) == 2 and recorder.t.shape == (2,)


class Looker(Guidance):
    """Moves x_t down the slope of what the attention sees; remembers where in the sampling it was."""

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []
        self.seen: list[tuple[AttentionRecord, ...]] = []

    def adjust(self, x_t: Tensor, t: Tensor, denoise: Denoise) -> Tensor:
        self.places.append((denoise.step, denoise.steps))
        with torch.enable_grad():
            leaf = x_t.detach().requires_grad_()
            self.seen.append(denoise.attention(leaf, t))
            (gradient,) = torch.autograd.grad(self.seen[-1][0].query.square().sum(), leaf)
        x_t -= gradient / gradient.norm()
        return denoise(x_t, t)


def test_a_guidance_may_take_gradients_of_the_attention(backbone: Backbone, prompt: Prompt) -> None:
    """Of the prompts alone; also where a trainer generates, in inference mode, and bit for bit the same."""
    looker = Looker()
    moved = generate(backbone, [prompt, MAN], [1, 2], guidance=looker, **QUICK)
    assert looker.places == [(0, 3), (1, 3), (2, 3)]
    assert [len(records) for records in looker.seen] == [16] * 3 and looker.seen[0][0].query.shape[0] == 2
    assert not torch.equal(moved, generate(backbone, [prompt, MAN], [1, 2], **QUICK))
    with torch.inference_mode():
        assert torch.equal(generate(backbone, [prompt, MAN], [1, 2], guidance=Looker(), **QUICK), moved)


def test_the_attention_is_that_of_the_scaled_x_t(backbone: Backbone, prompt: Prompt) -> None:
    backbone.scheduler = EulerDiscreteScheduler.from_config(backbone.scheduler.config)
    looker, noise = Looker(), initial_noise([1], backbone.latent_shape())
    generate(backbone, [prompt], [1], guidance=looker, scheduler="base", steps=3, chunk=1, progress=False)
    backbone.scheduler.set_timesteps(3)
    t = backbone.scheduler.timesteps[:1]
    x_t = backbone.scheduler.scale_model_input(noise * backbone.scheduler.init_noise_sigma, t[0])
    expected = backbone.denoise(x_t, t, backbone.condition([prompt]), capture=True).attention[0]
    assert torch.allclose(looker.seen[0][0].query, expected.query, atol=1e-4)


def test_each_image_needs_a_prompt_and_a_seed(backbone: Backbone, prompt: Prompt) -> None:
    for prompts, seeds in (([prompt], [1, 2]), ([], [])):
        with pytest.raises(ValueError, match="needs one of both"):
            generate(backbone, prompts, seeds)


def test_progress_is_shown_unless_disabled(
    backbone: Backbone, prompt: Prompt, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(backbone, [prompt], [1], steps=1, chunk=1, progress=False)
    assert "image" not in capsys.readouterr().err
    generate(backbone, [prompt], [1], steps=1, chunk=1)
    assert "1/1" in capsys.readouterr().err
