"""The stated stopping rule of stage 1: the first checkpoint whose validation accuracy is 90 % of its plateau."""

import re
from collections.abc import Sequence
from pathlib import Path

SHARE, LAST = 0.9, 3


def step_checkpoints(folder: Path) -> dict[int, Path]:
    """By step, in order: the files that a training leaves every so many steps. Raises ValueError without any."""
    found = {int(match[1]): file for file in folder.glob("*.ckpt") if (match := re.search(r"step=(\d+)", file.stem))}
    if not found:
        raise ValueError(f"{folder} holds no checkpoint named by its step (step=NUMBER.ckpt)")
    return dict(sorted(found.items()))


def plateau(accuracies: Sequence[float]) -> float:
    """The mean of the last three."""
    last = accuracies[-LAST:]
    return sum(last) / len(last)


def pick(accuracy: dict[int, float]) -> int:
    """The first step at 90 % of the plateau, given the accuracy by step."""
    enough = SHARE * plateau(list(accuracy.values()))
    return next(step for step, value in accuracy.items() if value >= enough)
