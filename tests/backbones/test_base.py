"""What every backbone does alike: images and latents, saving, freezing."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from spf.backbones import Backbone, load_backbone
from spf.text import Prompt
from tests.full_disk import room_for

IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_encode_is_the_scaled_posterior(backbone: Backbone) -> None:
    posterior = backbone.vae.encode(2 * IMAGE - 1).latent_dist
    assert torch.equal(backbone.encode(IMAGE), posterior.mean * 0.18215)
    noise = torch.randn(2, 4, 8, 8)
    assert torch.allclose(backbone.encode(IMAGE, noise), (posterior.mean + posterior.std * noise) * 0.18215)
    assert not backbone.encode(IMAGE).requires_grad


def test_a_shifted_vae_round_trips(backbone: Backbone) -> None:
    plain, decoded = backbone.encode(IMAGE), backbone.decode(backbone.encode(IMAGE))
    backbone.vae.register_to_config(scaling_factor=1.5, shift_factor=0.06)
    assert torch.allclose(backbone.encode(IMAGE), (plain / 0.18215 - 0.06) * 1.5)
    assert torch.allclose(backbone.decode(backbone.encode(IMAGE)), decoded, atol=1e-5)


def test_decode_lets_gradients_through_and_does_not_clamp(backbone: Backbone) -> None:
    x0 = (100 * torch.randn(1, 4, 8, 8)).requires_grad_()
    image = backbone.decode(x0)
    image.mean().backward()
    assert image.shape == (1, 3, 64, 64) and x0.grad.abs().sum() > 0
    assert image.min() < 0 or image.max() > 1


def test_checkpointing_leaves_the_gradient_of_decode_as_it_is(backbone: Backbone) -> None:
    def gradient() -> torch.Tensor:
        x0 = torch.ones(1, 4, 8, 8, requires_grad=True)
        backbone.decode(x0).square().mean().backward()
        return x0.grad

    plain = gradient()
    backbone.enable_gradient_checkpointing()
    assert torch.allclose(plain, gradient())


def test_latent_shape(backbone: Backbone) -> None:
    assert backbone.latent_shape() == (4, 8, 8)
    assert backbone.latent_shape(128, 64) == (4, 16, 8)
    with pytest.raises(ValueError, match="multiples of 8"):
        backbone.latent_shape(100, 64)


def test_only_the_denoiser_trains(backbone: Backbone) -> None:
    backbone.train()
    assert backbone.denoiser.training and not backbone.vae.training and not backbone.encoders.training
    learning = {name.split(".")[0] for name, weight in backbone.named_parameters() if weight.requires_grad}
    assert learning == {"denoiser"}


def test_half_precision_end_to_end(backbone: Backbone, prompt: Prompt) -> None:
    backbone.to(torch.bfloat16)
    conditions, x0 = backbone.condition([prompt] * 2), backbone.encode(IMAGE)
    x_t = backbone.process.noised(x0, torch.randn_like(x0), torch.tensor([1, 2]))
    output = backbone.denoise(x_t, torch.tensor([1, 2]), conditions).output
    assert (x0.dtype, x_t.dtype, output.dtype) == (torch.float32, torch.float32, torch.bfloat16)
    assert backbone.decode(x0).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_saved_folder_is_a_diffusers_pipeline(backbone: Backbone, tmp_path: Path, dtype: torch.dtype) -> None:
    backbone.save(tmp_path / "saved", dtype)
    weights = load_file(tmp_path / "saved/unet/diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in weights.values()} == {dtype}
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "saved")
    assert pipeline.safety_checker is None and type(pipeline.scheduler).__name__ == "PNDMScheduler"
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]


def test_saving_never_overwrites(backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty"):
        backbone.save(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["note"]


def test_a_broken_save_leaves_no_folder(backbone: Backbone, tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise OSError("disk full")

    backbone.scheduler.save_pretrained = fail
    with pytest.raises(OSError, match="disk full"):
        backbone.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    del backbone.scheduler.save_pretrained
    backbone.save(tmp_path / "saved")  # what the broken save left is swept away
    load_backbone(tmp_path / "saved")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_single_file_has_the_original_names(backbone: Backbone, tmp_path: Path, dtype: torch.dtype) -> None:
    backbone.save_single_file(tmp_path / "saved.safetensors", dtype)
    saved, state = load_file(tmp_path / "saved.safetensors"), backbone.original_state()
    assert saved.keys() == state.keys() and {weight.dtype for weight in saved.values()} == {dtype}
    assert all(torch.equal(weight, state[name].to(dtype)) for name, weight in saved.items())
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved.safetensors"]


def test_a_single_file_never_overwrites_and_is_safetensors(backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_text("mine")
    with pytest.raises(FileExistsError, match=r"mine\.safetensors is there"):
        backbone.save_single_file(tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match=r"ends with \.safetensors, not as .*model\.ckpt"):
        backbone.save_single_file(tmp_path / "model.ckpt")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("mine.safetensors", "mine")]


def test_a_single_file_on_a_full_disk_leaves_nothing(backbone: Backbone, tmp_path: Path) -> None:
    with room_for(100_000), pytest.raises(OSError, match=r"model\.safetensors was not written"):
        backbone.save_single_file(tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_the_frozen_copy_keeps_its_own_capture(backbone: Backbone, prompt: Prompt) -> None:
    reference = backbone.frozen_copy()
    with torch.no_grad():
        for weight in backbone.denoiser.parameters():
            weight.zero_()
    x_t, t = torch.ones(1, 4, 8, 8), torch.tensor([5])
    attention = reference.denoise(x_t, t, reference.condition([prompt]), capture=True).attention
    assert attention[0].query.abs().sum() > 0
