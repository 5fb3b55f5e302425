from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny

from spf.backbones import Backbone
from spf.clip import Clip
from spf.stages.one_step import OneStepImages
from spf.text import Prompt


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip.load("miniature")


def test_the_least_noisy_samples_with_a_target_are_decoded(backbone: Backbone, clip: Clip) -> None:
    times = [900, 100, 500, 50]
    prompts = [Prompt("a", "hat"), Prompt("a", "hat"), Prompt("a", "hat"), Prompt("a")]
    assert OneStepImages(backbone, clip).chosen(times, prompts) == [1, 2, 0]
    assert OneStepImages(backbone, clip, share=0.5).chosen(times, prompts) == [1, 2]
    assert OneStepImages(backbone, clip, share=0.01).chosen(times, prompts) == [1]
    assert OneStepImages(backbone, clip).chosen(times[3:], prompts[3:]) == []


@pytest.mark.parametrize("share", [0, 1.5])
def test_a_share_is_a_share(backbone: Backbone, clip: Clip, share: float) -> None:
    with pytest.raises(ValueError, match=r"decoded_share .* \(0, 1\]"):
        OneStepImages(backbone, clip, share=share)


def test_every_decoder_passes_gradients_and_the_checkpointed_one_the_same(backbone: Backbone, clip: Clip,
                                                                          tmp_path: Path) -> None:
    torch.manual_seed(0)
    AutoencoderTiny(latent_channels=4, encoder_block_out_channels=(16,) * 4, decoder_block_out_channels=(16,) * 4,
                    num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4).save_pretrained(tmp_path / "taesd")
    gradients = {}
    for decoder in ("vae", "checkpointed", str(tmp_path / "taesd")):
        x0 = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        images = OneStepImages(backbone, clip, decoder)
        image = images.decoded(x0)
        images.embedded(image).sum().backward()
        gradients[decoder] = x0.grad
        assert image.shape == (1, 3, 64, 64) and x0.grad.abs().sum() > 0
    assert torch.allclose(gradients["vae"], gradients["checkpointed"])


def test_embeddings_are_exact_under_autocast(backbone: Backbone, clip: Clip) -> None:
    images, image = OneStepImages(backbone, clip), torch.rand(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = images.embedded(image)
    assert torch.equal(rounded, clip.image(image))


def test_an_absent_tiny_decoder_is_one_clear_error(backbone: Backbone, clip: Clip) -> None:
    with pytest.raises(FileNotFoundError, match="hf download madebyollin/taesd"):
        OneStepImages(backbone, clip, "models/nowhere")
