"""The miniature's AutoencoderKL: f8, 16 channels, so that encoding is the code SD1.5 uses."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from spf.miniature.painter import paint, paint_with_parts
from spf.miniature.people import EVERYTHING, draw_people
from spf.miniature.training import train

SEED, KL_WEIGHT, FACE_WEIGHT = 101, 2e-4, 5.0


def build_vae() -> AutoencoderKL:
    """3 x 128 x 128 in [-1, 1] <-> 16 x 16 x 16; widths in multiples of 32, which CPUs multiply fastest."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 96, 96), layers_per_block=1, latent_channels=16, norm_num_groups=8,
        mid_block_add_attention=False, sample_size=128)


def train_vae(folder: Path, steps: int = 2400, second_round: int = 1200, batch: int = 12) -> AutoencoderKL:
    """Train on both studios and every target (the VAE stands for a general model); saved under ``folder/vae``.

    A second round at half the learning rate sharpens what is small: freckles, earrings, the iris.
    """
    torch.manual_seed(SEED)
    vae = build_vae().to(memory_format=torch.channels_last).train()
    train("vae", vae, lambda step: _loss(vae, step, batch), steps, 2e-3, folder / "checkpoints" / "vae.pt")
    train("vae, second round", vae, lambda step: _loss(vae, steps + step, batch), second_round, 1e-3,
          folder / "checkpoints" / "vae_second.pt")
    vae.eval().register_to_config(scaling_factor=_scaling_factor(vae))
    vae.save_pretrained(folder / "vae")
    return vae


def _loss(vae: AutoencoderKL, step: int, batch: int) -> tuple[Tensor, dict[str, float]]:
    studio = "away" if step % 4 == 3 else "home"
    image, parts = paint_with_parts(draw_people(batch, SEED, EVERYTHING, studio, start=step * batch))
    image = (image * 2 - 1).contiguous(memory_format=torch.channels_last)
    weight = 1 + FACE_WEIGHT * (parts["eyes"] + parts["mouth"] + parts["target"])
    weight = (weight / weight.mean((1, 2), keepdim=True))[:, None]
    generator = torch.Generator().manual_seed(step)
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(image).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample
    decoded = decoded.float()
    error = decoded - image
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    loss = (weight * error.abs()).mean() + 2 * (weight * error**2).mean() + edges + KL_WEIGHT * kl
    return loss, {"psnr": float(psnr(decoded, image)), "kl": float(kl)}


def psnr(decoded: Tensor, image: Tensor) -> Tensor:
    """Mean peak signal-to-noise ratio in dB of images in [-1, 1] (B, 3, H, W)."""
    return (10 * torch.log10(4 / F.mse_loss(decoded.clamp(-1, 1), image, reduction="none").mean((1, 2, 3)))).mean()


@torch.no_grad()
def _scaling_factor(vae: AutoencoderKL) -> float:
    """1 / standard deviation of the latents, as Stable Diffusion defines it."""
    latents = vae.encode(paint(draw_people(256, SEED + 1)) * 2 - 1).latent_dist.mean
    return round(1 / float(latents.std()), 4)
