"""A model of a second for what Lightning does around a model: one layer that learns, one that is frozen."""

from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from spf.stages.atomic import AtomicCheckpointIO


class Toy(LightningModule):
    """Learns to sum three numbers; saves what learns, as the stages do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.strict_loading = False
        self.learns, self.frozen = torch.nn.Linear(3, 1), torch.nn.Linear(3, 3).requires_grad_(False)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return F.mse_loss(self.learns(self.frozen(batch[0])), batch[0].sum(1, keepdim=True))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.learns.parameters(), 0.1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if "learns" in name}


def toy_data() -> DataLoader:
    """An epoch of 16 times the same batch, so that a resume within it comes to no other."""
    batch = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(batch.repeat(16, 1)), batch_size=4)


def toy_trainer(folder: Path, steps: int, *callbacks: Any, disk: AtomicCheckpointIO | None = None,
                **more: Any) -> Trainer:
    return Trainer(max_steps=steps, default_root_dir=folder, logger=False, enable_progress_bar=False,
                   enable_model_summary=False, accelerator="cpu", callbacks=list(callbacks),
                   plugins=[disk or AtomicCheckpointIO()], **more)
