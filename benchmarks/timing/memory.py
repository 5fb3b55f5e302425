"""Peak memory of a row, in a process of its own, so that no other row's memory is in it."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from timing.bases import Base
from timing.rows import build

GIB = 2**30
MEANT = {"cuda": "torch.cuda.max_memory_allocated over two steps",
         "cpu": "the greatest resident memory during the second step, less that of the libraries (Linux alone)"}
"""What the figure is, by device: weights, gradients, optimizer and activations in both."""


def peak_memory(row: str, base: Base, batch: int, precision: str) -> float:
    """GiB."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(_measured, row, base, batch, precision, torch.get_num_threads()).result()


def _measured(row: str, base: Base, batch: int, precision: str, threads: int) -> float:
    torch.set_num_threads(threads)
    before = _resident("VmRSS")
    training = build(row, base, batch, precision)
    training.step()
    if not torch.cuda.is_available():
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: building the model has its own
    training.step()
    return torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else _resident("VmHWM") - before


def _resident(kind: str) -> float:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[kind].split()[0]) * 1024 / GIB
