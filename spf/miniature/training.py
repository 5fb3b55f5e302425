"""A plain training loop for the networks that no LightningModule owns: one-cycle AdamW, resumable to the bit."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

LossFunction = Callable[[int], tuple[Tensor, dict[str, float]]]


def train(name: str, network: nn.Module, loss_at: LossFunction, steps: int, learning_rate: float, checkpoint: Path,
          every: int = 200) -> None:
    """Minimise ``loss_at(step)`` over the weights of ``network``, in place.

    ``loss_at`` draws its batch from the step number alone, so a run that is stopped and started again gives the
    weights of the uninterrupted one. ``checkpoint`` is written every ``every`` steps under a temporary name and
    renamed; a finished run is not repeated.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    length = max(steps, 3)
    schedule = OneCycleLR(optimizer, learning_rate, total_steps=length, pct_start=max(0.1, 2 / length))
    start = _resume(checkpoint, network, optimizer, schedule)
    bar = tqdm(range(start, steps), name, initial=start, total=steps, mininterval=5)
    for step in bar:
        loss, numbers = loss_at(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            bar.set_postfix({"loss": f"{loss.item():.4f}", **{k: f"{v:.3f}" for k, v in numbers.items()}})
        if (step + 1) % every == 0 or step + 1 == steps:
            _save(checkpoint, {"step": step + 1, "network": network.state_dict(),
                               "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()})


def _resume(checkpoint: Path, network: nn.Module, optimizer: torch.optim.Optimizer, schedule: OneCycleLR) -> int:
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=True)
    if state["schedule"]["total_steps"] != schedule.total_steps:
        raise ValueError(f"{checkpoint} is of a run of {state['schedule']['total_steps']} steps, not "
                         f"{schedule.total_steps}; remove it to train anew")
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return int(state["step"])


def _save(checkpoint: Path, state: dict[str, object]) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    temporary = checkpoint.with_suffix(".writing")
    torch.save(state, temporary)
    os.replace(temporary, checkpoint)
