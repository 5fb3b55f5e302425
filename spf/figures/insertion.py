"""Fig. 2b: what disturbs the original more, the target as a text or as a reference image (an IP-Adapter)."""

from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from jsonargparse.typing import PositiveInt
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from spf.backbones import Backbone, load_backbone
from spf.customised import load_customised
from spf.evaluation.weights import WeightsAbsent
from spf.figures.asked import Asked, device, set_page
from spf.sampling import initial_noise

ADAPTER, ENCODER = "models/ip-adapter_sd15.safetensors", "models/image_encoder"
PARTS = (ADAPTER, f"{ENCODER}/config.json", f"{ENCODER}/model.safetensors")
"""What is needed of the published IP-Adapter (Ye et al. 2023, `h94/IP-Adapter`, Apache-2.0), by its own names."""


def insertion(base_text: str, target: str, reference: Path, checkpoint: str | None = None, base: str | None = None,
              adapter: Path = Path("models/ip-adapter"), scale: float = 0.6, seed: int = 7, count: PositiveInt = 2,
              steps: PositiveInt = 20, guidance_scale: float = 7.5,
              out: Path = Path("runs/figures/insertion.png")) -> Path:
    """Original, the target inserted as a text, the target inserted as an image, from the same seeds: Fig. 2b.

    Without the IP-Adapter's weights, or on a base that they do not fit, one line says so and its column is left out.

    Args:
        base_text: what the original model is asked for, or a .txt file with one such text per line.
        target: the taught attribute, as a text.
        reference: an image that shows it.
        checkpoint: the model that reads the target as a text; default: the original itself.
        base: the original model (the IP-Adapter fits SD 1.5 and its derivatives); default: the one the checkpoint was
            trained from, without one the miniature.
        adapter: folder of the IP-Adapter.
        scale: how much the image counts beside the text, from 0 to 1.
        seed: of the first portrait; the others count up from it.
        count: portraits per base text.
        steps: solver steps.
        guidance_scale: of classifier-free guidance.
        out: file of the page; a folder beside it holds the single images.
    """
    image = Image.open(reference).convert("RGB")
    original, reads = load_customised(checkpoint, base) if checkpoint else [load_backbone(base or "miniature")] * 2
    asked = Asked.of(base_text, target, seed, count, steps, guidance_scale)
    columns = {"original": asked.base.by(original), "text insertion": asked.by(reads)}
    try:
        pipeline = with_adapter(original, adapter)
    except (WeightsAbsent, ValueError) as error:
        print(f"- image insertion is left out: {error}")
    else:
        pipeline.set_ip_adapter_scale(scale)
        columns["image insertion"] = image_insertion(pipeline, image, asked)
    return set_page(columns, asked, out, f"right of the original: + {target}")


def with_adapter(model: Backbone, folder: Path) -> StableDiffusionPipeline:
    """A copy of ``model`` as a stock pipeline that also reads an image.

    Raises WeightsAbsent, or ValueError where the adapter is not made for such a model.
    """
    if missing := [part for part in PARTS if not (folder / part).is_file()]:
        command = f"hf download h94/IP-Adapter {' '.join(PARTS)} --local-dir {folder}"
        raise WeightsAbsent(f"IP-Adapter: {folder / missing[0]} is absent (2,573 MB with the image encoder, "
                            f"Apache-2.0); fetch it by `{command}`")
    own = model.frozen_copy()
    if not _fits(own, folder / ADAPTER):
        raise ValueError(f"{folder / ADAPTER} is made for SD 1.5, and this base model has other cross-attention: give "
                         "--base sd15, or a derivative of it")
    scheduler = DDIMScheduler.from_config(own.scheduler.config, clip_sample=False)  # as spf.sampling has it
    pipeline = StableDiffusionPipeline(
        own.vae, own.encoders["text_encoder"], own.tokenizers["tokenizer"], own.denoiser, scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.load_ip_adapter(str(folder), *ADAPTER.split("/"), image_encoder_folder=ENCODER.split("/")[1],
                             local_files_only=True, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device())


def _fits(model: Backbone, file: Path) -> bool:
    """Whether the file has projections of the right shape for every cross-attention layer, and for no other."""
    layers = [module for name, module in model.denoiser.named_modules() if name.endswith(".attn2")]
    with safe_open(file, "pt") as weights:
        keys = [key for key in weights.keys() if key.endswith("to_k_ip.weight")]
        stored = sorted(tuple(weights.get_slice(key).get_shape()) for key in keys)
    return stored == sorted(tuple(layer.to_k.weight.shape) for layer in layers)


@torch.no_grad()
def image_insertion(pipeline: StableDiffusionPipeline, image: Image.Image, asked: Asked) -> Tensor:
    """The portraits (B,3,H,W) of base text and reference image, from the noise that all models begin with."""
    side = pipeline.unet.config.sample_size
    shape = (pipeline.vae.config.latent_channels, side, side)
    return torch.cat([
        pipeline(prompt.base.full_text, ip_adapter_image=image, num_inference_steps=asked.steps,
                 guidance_scale=asked.guidance_scale, latents=initial_noise([seed], shape).to(device()),
                 output_type="pt").images.float().cpu()
        for prompt, seed in zip(asked.prompts, asked.seeds, strict=True)])
