"""The stages without weights: what a training would hold and compute, on the meta device, for counting alone."""

from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from spf.backbones import Backbone
from spf.backbones.weightless import weightless
from spf.baselines.masks import SIDE
from spf.clip import Clip
from spf.portraits.datamodule import PortraitBatch
from spf.stages.dual_path import DualPathAlignment
from spf.stages.fine_tuning import StandardFineTuning
from spf.stages.one_step import OneStepImages
from spf.text import Prompt

PHRASES = ("A woman", "a brown jacket", "a curtain background")
PROMPT = Prompt("A woman in a brown jacket, with a curtain background", "blonde hair", PHRASES)  # of Fig. 3


class WeightlessFineTuning(StandardFineTuning):
    """Stage 1, its networks on the meta device."""

    def _initial(self) -> Backbone:
        return weightless(self.hparams["base"])


class WeightlessAlignment(DualPathAlignment):
    """Stage 2, its networks on the meta device; ``start``, ``priors`` and ``masks`` need not be there."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._masks = NoMasks()
        if self.images:
            width = self.images.clip.model.config.projection_dim
            self._texts = lambda texts: torch.zeros(len(texts), width)

    def _initial(self) -> Backbone:
        h = self.hparams
        original = weightless(h["base"])
        original.requires_grad_(False).eval().denoiser.to(memory_format=torch.channels_last)
        self._frozen: tuple[Any, ...] = (original,)
        if h["start"] is None or str(h["start"]).endswith(".ckpt"):
            return original.frozen_copy()
        return weightless(h["start"])  # with a VAE and encoders of its own

    def _one_step_images(self, clip: str, decoder: str, share: float) -> OneStepImages:
        images = OneStepImages(self.backbone, Clip.weightless(clip), share=share)
        images.decoder = decoder
        if decoder not in ("vae", "checkpointed"):
            with torch.device("meta"):
                tiny = AutoencoderTiny(latent_channels=self.backbone.vae.config.latent_channels)
            images.tiny = tiny.eval().requires_grad_(False)
        return images

    def _read_priors(self, source: str) -> "NoPriors":
        return NoPriors()

    @property
    def frozen(self) -> list[nn.Module]:
        """What torch does not see as a part of the module."""
        images = self.images
        return [self.reference, *(filter(None, (images.clip, images.tiny)) if images else [])]


class NoPriors:
    """In the place of prior portraits: as many, of the portraits' own size."""

    def beside(self, batch: PortraitBatch, backbone: Backbone,
               seed: int) -> tuple[list[Prompt], Tensor, Tensor, Tensor]:
        """As ``Priors``'."""
        count, shape = len(batch.ids), backbone.latent_shape(*batch.image.shape[-2:])
        noise = torch.zeros(count, *shape)
        return [PROMPT.base] * count, torch.zeros(count, dtype=torch.long), noise, noise.clone()


class NoMasks:
    """In the place of the masks of phrases."""

    def batch(self, names: list[str], prompts: list[Prompt], count: int) -> Tensor:
        """As those of ``PhraseMasks``."""
        return torch.zeros(len(names), count + 1, SIDE, SIDE)


WEIGHTLESS = {"StandardFineTuning": WeightlessFineTuning, "DualPathAlignment": WeightlessAlignment}
"""By the name of the stage."""


def portraits(count: int, resolution: int) -> PortraitBatch:
    """So many black portraits with the prompt of Fig. 3."""
    return PortraitBatch(torch.zeros(count, 3, resolution, resolution), [PROMPT.base_text] * count,
                         [PROMPT.target_text] * count, [PROMPT.phrases] * count, [str(row) for row in range(count)])
