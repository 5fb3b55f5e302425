"""Peak memory of a row, in a process of its own, so that no other row's memory is in it."""

import torch
from machine.memory import GIB, fresh, peak, resident

from timing.bases import Base
from timing.rows import build

MEANT = {"cuda": "torch.cuda.max_memory_allocated over two steps",
         "cpu": "the greatest resident memory during the second step, less that of the libraries (Linux alone)"}
"""What the figure is, by device: weights, gradients, optimizer and activations in both."""


def peak_memory(row: str, base: Base, batch: int, precision: str) -> float:
    """GiB."""
    return fresh(_measured, row, base, batch, precision)


def _measured(row: str, base: Base, batch: int, precision: str) -> float:
    before = resident()
    training = build(row, base, batch, precision)
    training.step()  # building the model has a peak of its own, and so has the first step
    if torch.cuda.is_available():
        training.step()
        return torch.cuda.max_memory_allocated() / GIB
    _, gib = peak(training.step)
    return gib - before
