"""What watches stage 2: its losses by timestep, and pictures of its control map."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.nn import functional as F

from spf.pictures import labelled_grid, save_png
from spf.portraits.batches import collate
from spf.stages.dual_path import DualPathAlignment, Look
from spf.text import phrases

BANDS = 4  # of the timesteps, from the least noisy


class AlignmentMonitor(Callback):
    """L_M-text and L_M-fine by band of timesteps, mean SFCM and its share above 0.5, as often as the trainer logs."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any,
                           index: int) -> None:
        """Nothing waits for the device until it is logged."""
        if not isinstance(module, DualPathAlignment) or "sfcm" not in outputs:
            return
        self._add(outputs, module.backbone.process.steps)
        every = trainer.log_every_n_steps
        if trainer.logger and every and (trainer.fit_loop.total_batch_idx + 1) % every == 0:
            trainer.logger.log_metrics(self._means(), trainer.global_step)
            self._sums = {}

    def _add(self, outputs: dict[str, Tensor], steps: int) -> None:
        band = F.one_hot(outputs["t"].long() * BANDS // steps, BANDS).float()  # (B,4)
        new = {"count": band.sum(0), "sfcm/mean": outputs["sfcm"].mean(),
               "sfcm/share_above_half": (outputs["sfcm"] > 0.5).float().mean(), "batches": torch.tensor(1.0)}
        new |= {name: outputs[name] @ band for name in ("m_text", "m_fine") if name in outputs}
        self._sums = {name: value + self._sums.get(name, 0) for name, value in new.items()}

    def _means(self) -> dict[str, float]:
        sums = {name: value.tolist() for name, value in self._sums.items()}
        maps = {name: sums[name] / sums["batches"] for name in sums if name.startswith("sfcm/")}
        quarters = {f"by_time/{name}_{band + 1}_of_{BANDS}": sums[name][band] / count
                    for name in ("m_text", "m_fine") if name in sums
                    for band, count in enumerate(sums["count"]) if count}
        return maps | quarters


class ControlPanel(Callback):
    """Every N steps, for the first portraits of the data: portrait, M, phrase maps with gamma, SFCM, one-step image.

    Panels go to TensorBoard and to ``panels/`` in the run directory; a baseline that needs nothing of this has none.

    Args:
        every_n_steps: in optimizer steps; 0 makes none.
        portraits: how many.
    """

    def __init__(self, every_n_steps: int = 500, portraits: int = 4) -> None:
        self.every_n_steps, self.portraits = every_n_steps, portraits
        self._shown = -1

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """The panel of the step that the run begins with."""
        if self.every_n_steps and _sees(module):
            self._show(trainer, module)

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if due and trainer.global_step != self._shown and _sees(module):
            self._show(trainer, module)

    def _show(self, trainer: Trainer, module: DualPathAlignment) -> None:
        self._shown = trainer.global_step
        rows = trainer.datamodule.portraits
        batch = collate([rows[index] for index in range(min(self.portraits, len(rows)))]).to(module.device)
        with module.computing():
            picture = panel(batch.image, module.look(batch))
        try:
            trainer.logger.experiment.add_image("panels/sfcm", picture, trainer.global_step)
            save_png(picture, Path(trainer.default_root_dir) / "panels" / f"step_{trainer.global_step:06d}.png")
        except OSError as error:  # a picture is not worth the training
            print(f"the panel of step {trainer.global_step} was not written: {error}", flush=True)


def _sees(module: LightningModule) -> bool:
    return isinstance(module, DualPathAlignment) and module.images is not None


def panel(portraits: Tensor, look: Look) -> Tensor:
    """One labelled picture (3,height,width) of B portraits (B,3,H,W) and what stage 2 sees in them."""
    size = portraits.shape[-2:]

    def shown(maps: Tensor) -> Tensor:
        return F.interpolate(maps[:, None].float(), size).expand(-1, 3, -1, -1)

    control = look.control
    maps = [control.soft_map.clamp(max=1), *control.phrase_attention.unbind(1), control.sfcm]
    columns = [portraits, *map(shown, maps), look.one_step_image]
    names = [f"phrase {number + 1}" for number in range(control.phrase_attention.shape[1])]
    notes = [_note(*row) for row in zip(look.prompts, look.times, control.phrase_similarity.tolist(), strict=True)]
    return labelled_grid(torch.stack([column.cpu() for column in columns], 1),
                         ("portrait x_0", "soft map M", *names, "SFCM", "one step"), notes)


def _note(prompt: Any, time: float, similarity: list[float]) -> str:
    said = "; ".join(f"{number}. {phrase} ({gamma:.2f})" for number, (phrase, gamma) in
                     enumerate(zip(phrases(prompt), similarity, strict=False), 1))
    return f"t {time:.0f} | {prompt.target_text} | gamma: {said}"
