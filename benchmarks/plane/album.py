"""Generated portraits, made once: kept on disk under a key of everything that they depend on."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from spf.backbones import Backbone
from spf.sampling import generate
from spf.stages.atomic import partial_name
from spf.text import Prompt

LAYOUT = 1  # of the files, and of what their key says


@dataclass(frozen=True)
class Sampling:
    """DDIM under classifier-free guidance; all rows of a comparison share it, chunk and precision included."""

    steps: int = 20
    guidance_scale: float = 4.0
    chunk: int = 16
    bf16: bool = True


@dataclass(frozen=True)
class Album:
    """Portraits of a folder. A portrait is what its file holds, 8 bits a channel, whether new or read back."""

    folder: Path
    sampling: Sampling = Sampling()

    def portraits(self, model: Backbone, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Tensor:
        """(n,3,R,R) in [0,1], generated only where these weights, texts, seeds and settings were not before."""
        file = self.folder / f"{self._key(model, prompts, seeds)}.safetensors"
        if not file.is_file():
            save_whole({"portraits": self._generated(model, prompts, seeds)}, file)
        return load_file(file)["portraits"].float() / 255

    def _key(self, model: Backbone, prompts: Sequence[Prompt], seeds: Sequence[int]) -> str:
        content = (LAYOUT, fingerprint(model), asdict(self.sampling), [p.full_text for p in prompts], list(seeds))
        return hashlib.blake2b(repr(content).encode(), digest_size=12).hexdigest()

    def _generated(self, model: Backbone, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Tensor:
        settings, device = self.sampling, model.device.type
        with torch.autocast(device, torch.bfloat16) if settings.bf16 else nullcontext():
            images = generate(model, prompts, seeds, steps=settings.steps, guidance_scale=settings.guidance_scale,
                              chunk=settings.chunk, progress=False)
        return (images * 255).round().byte()


def fingerprint(model: Backbone) -> str:
    """A hash of every weight: denoiser, VAE, text encoders."""
    digest = hashlib.blake2b(digest_size=12)
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def save_whole(tensors: dict[str, Tensor], file: Path) -> None:
    """Write safetensors under a temporary name first: a file that is there is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_name(file)
    save_file(tensors, partial)
    os.replace(partial, file)
