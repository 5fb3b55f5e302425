"""The miniature of Stable Diffusion 3.5: an MM-DiT with two CLIPs and a T5, on the VAE of the other miniature."""

import json
import shutil
from pathlib import Path

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from transformers import CLIPModel

from spf.miniature.contrast import text_tower
from spf.miniature.t5 import train_t5

TRANSFORMER = {
    "sample_size": 16, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 4,
    "num_attention_heads": 2, "attention_head_dim": 64, "caption_projection_dim": 128, "joint_attention_dim": 256,
    "pooled_projection_dim": 256, "pos_embed_max_size": 32, "dual_attention_layers": (0, 1), "qk_norm": "rms_norm",
}  # fmt: skip
SHIFT = 1.5  # 3.5 Medium has 3, for a hundred times as many cells


INDEX = {
    "_class_name": "StableDiffusion3Pipeline", "_diffusers_version": diffusers.__version__,
    "feature_extractor": [None, None], "image_encoder": [None, None],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "text_encoder_3": ["transformers", "T5EncoderModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"], "tokenizer_3": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "SD3Transformer2DModel"], "vae": ["diffusers", "AutoencoderKL"]}  # fmt: skip


def lay_out_mmdit(folder: Path, miniature: Path, t5_steps: int = 600) -> None:
    """All of a pipeline's folder but the transformer's weights, with the VAE and the CLIP of the folder ``miniature``.

    That CLIP stands for CLIP-L and for CLIP-G.
    """
    folder.mkdir(parents=True, exist_ok=True)
    train_t5(folder, t5_steps)
    clip = text_tower(CLIPModel.from_pretrained(miniature / "clip").float())
    for end in ("", "_2"):
        clip.save_pretrained(folder / f"text_encoder{end}")
        shutil.copytree(miniature / "tokenizer", folder / f"tokenizer{end}", dirs_exist_ok=True)
    shutil.copytree(miniature / "vae", folder / "vae", dirs_exist_ok=True)
    vae = json.loads((miniature / "vae" / "config.json").read_text())
    (folder / "vae" / "config.json").write_text(json.dumps({**vae, "shift_factor": 0.0}, indent=2) + "\n")
    SD3Transformer2DModel(**TRANSFORMER).save_config(folder / "transformer")
    FlowMatchEulerDiscreteScheduler(shift=SHIFT).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")
