"""What watches a training: sample grids, throughput and memory."""

import resource
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from spf.pictures import labelled_grid, save_png
from spf.sampling import CHUNK, generate
from spf.stages.ema import Ema
from spf.text import Prompt


class SampleGrid(Callback):
    """Original beside current for fixed prompts, each with its own seed, at step 0 and every N steps, as large as the
    training's portraits.

    The original is made from the base text by the base model, the current one from base + target text: the pair the
    paper compares. In stage 2 the model of stage 1 stands between them. Grids go to TensorBoard and to ``samples/`` in
    the run directory.

    Args:
        base_texts: one row each.
        target_text: added to every base text for the current model; "" shows plain pollution.
        every_n_steps: in optimizer steps; 0 makes none.
        seed: the first row's; the others count up from it.
        steps: DDIM steps.
        guidance_scale: of classifier-free guidance.
        ema: show the averaged weights as the current ones; needs the callback that keeps them.
    """

    def __init__(self, base_texts: Sequence[str] = (), target_text: str = "", every_n_steps: int = 500, seed: int = 7,
                 steps: int = 20, guidance_scale: float = 7.5, ema: bool = False) -> None:
        self.prompts = [Prompt(text, target_text) for text in base_texts]
        self.seeds = list(range(seed, seed + len(self.prompts)))
        self.every_n_steps, self.steps, self.guidance_scale = every_n_steps, steps, guidance_scale
        self.ema = ema
        self._shown = -1

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Raises ValueError where averaged weights are to be shown and none are kept, or a denoiser is sharded."""
        if module.device_mesh is not None and self.prompts and self.every_n_steps:
            raise ValueError("one process makes the samples, and holds only its share of a sharded denoiser: give "
                             "--samples.every_n_steps 0")
        kept = [callback for callback in trainer.callbacks if isinstance(callback, Ema) and callback.decay]
        if self.ema and not kept:
            raise ValueError("samples.ema shows averaged weights, and none are kept: give --ema.decay, such as 0.999")
        self._as_shown = kept[0].in_place if self.ema else nullcontext

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.prompts or not self.every_n_steps:
            return
        self._size = trainer.datamodule.resolution
        base = [prompt.base for prompt in self.prompts]
        with module.computing():
            self.earlier = {name: self._sample(make().to(module.device), base if name == "original" else self.prompts)
                            for name, make in module.earlier().items()}
        self._show(trainer, module)

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        due = self.prompts and self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if due and trainer.global_step != self._shown:
            self._show(trainer, module)

    def _sample(self, backbone: Any, prompts: list[Prompt]) -> Tensor:
        return generate(backbone, prompts, self.seeds, steps=self.steps, guidance_scale=self.guidance_scale,
                        height=self._size, width=self._size, chunk=min(len(prompts), CHUNK), progress=False)

    def _show(self, trainer: Trainer, module: LightningModule) -> None:
        self._shown = trainer.global_step
        with self._as_shown(module), module.computing():
            current = self._sample(module.backbone, self.prompts)
        rows = torch.stack([*self.earlier.values(), current], 1)  # (B,2 or 3,3,H,W)
        now = f"step {trainer.global_step}{', EMA' * self.ema}"
        picture = labelled_grid(rows, columns=(*self.earlier, now))
        try:
            trainer.logger.experiment.add_image("samples/original_current", picture, trainer.global_step)
            save_png(picture, Path(trainer.default_root_dir) / "samples" / f"step_{trainer.global_step:06d}.png")
        except OSError as error:  # a picture is not worth the training
            print(f"the samples of step {trainer.global_step} were not written: {error}", flush=True)


class Throughput(Callback):
    """Samples per second over all devices, of the steps alone, and peak memory in GiB, as often as the trainer logs."""

    def __init__(self) -> None:
        self._seconds, self._samples = 0.0, 0

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, _: int) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, _: int) -> None:
        self._seconds += time.perf_counter() - self._since
        self._samples += len(batch) * trainer.world_size
        every = trainer.log_every_n_steps
        if trainer.logger and every and (trainer.fit_loop.total_batch_idx + 1) % every == 0:
            speed = self._samples / self._seconds
            numbers = {"speed/samples_per_second": speed, "speed/peak_memory_gib": _peak_memory(module.device)}
            trainer.logger.log_metrics(numbers, trainer.global_step)
            self._seconds, self._samples = 0.0, 0


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
