"""`make miniature`: every network of the miniature from nothing, each resumable, in the folder layout of diffusers.

The UNet is trained by ``spf fit -c experiments/miniature/pretrain.yaml``, the very code that fine-tunes SD1.5.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn

from spf.miniature.contrast import train_clip
from spf.miniature.judge import train_reader
from spf.miniature.shards import paint_portraits
from spf.miniature.tokenizer import save_tokenizer
from spf.miniature.vae import train_vae


@dataclass(frozen=True)
class Steps:
    """How long each of the general networks trains; 0 < each."""

    vae: int = 2400
    vae_second: int = 1200
    clip: int = 800
    clip_second: int = 400
    clip_image: int = 500
    reader: int = 1500
    reader_second: int = 1000


FULL = Steps()


def pretrain_general_models(folder: Path, steps: Steps) -> None:
    """Tokenizer, VAE, CLIP and the reader judge: the models that have seen everything."""
    vae = train_vae(folder, steps.vae, steps.vae_second)
    train_clip(folder, vae, save_tokenizer(folder), steps.clip, steps.clip_second,
               steps.clip_image)
    train_reader(folder, vae, steps.reader, steps.reader_second)


def lay_out_base_model(folder: Path) -> None:
    """What a pipeline's folder needs beside VAE and text encoder: the UNet's config, the scheduler and the index."""
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=16, out_channels=16, layers_per_block=1, block_out_channels=(96, 128, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128, attention_head_dim=(3, 4, 4), norm_num_groups=16)
    unet.save_config(folder / "unet")
    # 16 x 16 cells: under SD1.5's epsilon, colours and pose, which are decided where all is noise, come last of all
    DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
                  rescale_betas_zero_snr=True, clip_sample=False, timestep_spacing="trailing").save_pretrained(
        folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None], "requires_safety_checker": False, "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def paint_pretraining_portraits(out: Path, count: int = 12_000) -> Path:
    """The home studio without targets, in varied words: all the base model ever sees."""
    return paint_portraits(out, count, "home", (), "varied", seed=303, shard_size=2000)


def ship(model: Path, name: str, denoiser: nn.Module, checkpoint: Path, out: Path) -> None:
    """Put the denoiser, as the checkpoint has it, into its folder ``name`` beside the rest; all of it in float16."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(model, out, ignore=shutil.ignore_patterns("checkpoints"))
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    trained = {key.removeprefix("backbone.denoiser."): value for key, value in state.items()}
    denoiser.load_state_dict({**denoiser.state_dict(), **trained})  # some of its tensors never learn
    whole = {key: value.contiguous() for key, value in denoiser.state_dict().items()}
    save_file(whole, out / name / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    for weights in out.rglob("*.safetensors"):
        half = {name: value.half() if value.is_floating_point() else value
                for name, value in load_file(weights).items()}
        save_file(half, weights, metadata={"format": "pt"})
