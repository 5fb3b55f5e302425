"""Backbone: what SPF-Portrait asks of a text-to-image model, and the five questions each model answers.

The two paths of Fig. 3 are two backbones: the response path learns, the reference path is its ``frozen_copy``.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spf.backbones.capture import Capture, Projections, check_gradients
from spf.backbones.process import Process
from spf.backbones.remembered import OncePerPrompt
from spf.files import unused, whole
from spf.notation import Conditions, Prediction
from spf.text import Prompt


class Backbone(nn.Module, ABC):
    """A latent text-to-image model: frozen ``vae`` and ``encoders``, a ``denoiser`` that may learn, its ``process``."""

    pipeline: ClassVar[str]  # the diffusers pipeline that reads a saved folder
    denoiser_folder: ClassVar[str]  # the denoiser's name in it
    unused_parts: ClassVar[Mapping[str, Any]] = {}  # what that pipeline's index must name and we have not
    text_side: ClassVar[tuple[str, ...]]  # of the modules in `attention_parameters`, those that read the text

    def __init__(
        self,
        denoiser: nn.Module,
        vae: AutoencoderKL,
        encoders: Mapping[str, nn.Module],
        tokenizers: Mapping[str, Any],
        scheduler: Any,
        process: Process,
    ) -> None:
        """``encoders`` and ``tokenizers`` are keyed by folder name; ``scheduler`` is the base's own, from diffusers."""
        super().__init__()
        self.denoiser = denoiser
        self.vae = vae.requires_grad_(False)
        self.encoders = nn.ModuleDict(encoders).requires_grad_(False)
        self.tokenizers = dict(tokenizers)
        self.scheduler = scheduler
        self.process = process
        self._remembered: OncePerPrompt | None = None
        self._capture = Capture(denoiser, self.projections())
        self.eval()

    # ---- the five questions ----

    @abstractmethod
    def read(self, texts: Sequence[Prompt]) -> Conditions:
        """E = tau_text(y) of the prompts' full texts, without gradient, wherever the encoders are."""

    @abstractmethod
    def forward_denoiser(self, x_t: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """epsilon_theta or v_theta (B,C,h,w) for x_t (B,C,h,w) in the denoiser's precision and t (B,)."""

    @abstractmethod
    def projections(self) -> Projections:
        """{layer: {field of AttentionRecord: (module name in the denoiser, how its output splits into heads)}}."""

    @abstractmethod
    def attention_parameters(self) -> list[str]:
        """Names (in the denoiser) of the weights that stage 2 trains."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The parts of the denoiser that run one after the other, and hold nearly all of its weights."""

    # ---- and how others know it ----

    @abstractmethod
    def original_state(self) -> dict[str, Tensor]:
        """The weights in the names of the model's original single-file checkpoints, and those that such a file has.

        Raises ValueError for a layer that has no name there.
        """

    # ---- what follows is the same for every model ----

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return next(self.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The denoiser's precision: that of its first weight, where some are held in less the one it computes in."""
        return next(self.denoiser.parameters()).dtype

    def condition(self, texts: Sequence[Prompt]) -> Conditions:
        """E = tau_text(y) of the prompts' full texts, without gradient, on the backbone's device."""
        return (self._remembered or self.read)(texts).to(self.device)

    def remember_texts(self, dtype: torch.dtype = torch.float32) -> None:
        """From now on each text is read once, and the encoders stay where they are, whatever the backbone moves to.

        ``dtype`` is as of ``OncePerPrompt``.
        """
        self._hide(self.encoders)
        self._remembered = OncePerPrompt(self.read, next(self.encoders.parameters()).device, dtype)

    def denoise(self, x_t: Tensor, t: Tensor, conditions: Conditions, capture: bool = False) -> Prediction:
        """The denoiser's output for x_t (B,C,h,w), t (B,); with ``capture`` also one record a cross-attention layer.

        Raises RuntimeError when the denoiser trains but what was captured carries no gradient.
        """
        x_t, t = x_t.to(self.dtype), t.to(x_t.device)
        if not capture:
            return Prediction(self.forward_denoiser(x_t, t, conditions))
        with self._capture.open() as seen:
            output = self.forward_denoiser(x_t, t, conditions)
        attention = self._capture.records(seen, (x_t.shape[-2], x_t.shape[-1]))
        check_gradients(self.denoiser, attention)
        return Prediction(output, attention)

    @torch.no_grad()
    def encode(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """Image (B,3,H,W) in [0,1] -> x_0 (B,C,h,w) float32: the posterior's mode, or by noise a sample."""
        posterior = self.vae.encode((2 * image - 1).to(self.vae.dtype)).latent_dist
        latent = posterior.mode() if noise is None else posterior.mean + posterior.std * noise
        return (latent.float() - self._shift) * self.vae.config.scaling_factor

    def decode(self, x0: Tensor) -> Tensor:
        """x_0 (B,C,h,w) -> image (B,3,H,W), about [0,1] but not clamped; gradients flow to x_0."""
        latent = x0 / self.vae.config.scaling_factor + self._shift
        return self.vae.decode(latent.to(self.vae.dtype)).sample.float() / 2 + 0.5

    @property
    def _shift(self) -> float:
        return self.vae.config.get("shift_factor") or 0.0

    @property
    def _cell(self) -> int:
        """Pixels along the side of one latent cell."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def _patch(self) -> int:
        """Latent cells along the side of what the denoiser reads as one."""
        return self.denoiser.config.get("patch_size") or 1

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, int, int]:
        """(C, h, w) of an image of that many pixels; None is the size the model was trained at.

        Raises ValueError for a size that is no multiple of the VAE's cell, or of the denoiser's patch of them.
        """
        native, patch = self.denoiser.config.sample_size * self._cell, self._cell * self._patch
        height, width = height or native, width or native
        if height % patch or width % patch:
            raise ValueError(f"height and width must be multiples of {patch} pixels, not {height} x {width}")
        return self.vae.config.latent_channels, height // self._cell, width // self._cell

    def train(self, mode: bool = True) -> Backbone:
        """Only the denoiser ever trains."""
        super().train(mode)
        self.vae.eval()
        self.encoders.eval()
        return self

    def frozen_copy(self) -> Backbone:
        """The reference path: a copy of the denoiser with nothing to learn; everything frozen is shared, not copied."""
        shared = (self.vae, self.encoders, self.tokenizers, self.scheduler, self._remembered, *self.denoiser.buffers())
        # deepcopy keeps what its memo already holds
        return copy.deepcopy(self, {id(part): part for part in shared}).requires_grad_(False).eval()

    def share(self, other: Backbone) -> None:
        """Take VAE, text encoders and what they have read from ``other``, a model that has the same ones."""
        self.vae, self._remembered = other.vae, other._remembered
        self._hide(other.encoders)

    def _hide(self, encoders: nn.ModuleDict) -> None:
        """Text encoders that are no part of the module: not moved, sharded or broadcast with it."""
        del self.encoders
        object.__setattr__(self, "encoders", encoders)  # unseen by torch

    def hold_frozen(self, dtype: torch.dtype) -> None:
        """Keep in ``dtype`` what does not learn and autocast rounds at each use: matrices of VAE, encoders, denoiser.

        Biases, norms and embeddings stay as they are. Under autocast to ``dtype`` everything then computes what it
        did, bit for bit; without autocast it computes no more.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d) and not layer.weight.requires_grad:
                layer.weight.data = layer.weight.data.to(dtype)

    def enable_gradient_checkpointing(self) -> None:
        """Trade time for memory in the denoiser and in ``decode``: diffusers' blocks, non-reentrant."""
        self.denoiser.enable_gradient_checkpointing()
        self.vae.enable_gradient_checkpointing()

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write a diffusers folder with weights in ``dtype``; it appears whole or not at all.

        Raises FileExistsError when ``folder`` holds anything.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} is not empty; give a new folder or remove it")
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, part in self._parts().items():
            part.save_pretrained(partial / name)
        for weights in partial.rglob("*.safetensors"):
            stored = load_file(weights)
            cast = {key: value.to(dtype) for key, value in stored.items() if value.is_floating_point()}
            save_file({**stored, **cast}, weights, metadata={"format": "pt"})
        (partial / "model_index.json").write_text(json.dumps(self._index(), indent=2) + "\n")
        os.replace(partial, folder)

    def save_single_file(self, file: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write ``original_state`` in ``dtype`` as one .safetensors file; it appears whole or not at all.

        Raises FileExistsError when it is there, ValueError for another type of file or as of ``original_state``.
        """
        file = unused(Path(file))
        if file.suffix != ".safetensors":
            raise ValueError(f"a model in a single file ends with .safetensors, not as {file}")
        weights = {name: weight.to(dtype).contiguous() for name, weight in self.original_state().items()}
        with whole(file) as partial:
            save_file(weights, partial, metadata={"format": "pt"})

    def _parts(self) -> dict[str, Any]:
        denoiser = {self.denoiser_folder: self.denoiser}
        return {**denoiser, "vae": self.vae, **self.encoders, **self.tokenizers, "scheduler": self.scheduler}

    def _index(self) -> dict[str, Any]:
        kinds = {name: type(part) for name, part in self._parts().items()}
        classes = {name: [kind.__module__.split(".")[0], kind.__name__] for name, kind in kinds.items()}
        version = {"_class_name": self.pipeline, "_diffusers_version": diffusers.__version__}
        return {**version, **self.unused_parts, **classes}
