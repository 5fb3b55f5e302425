"""The most memory that a call holds, in a process that does nothing else (Linux alone)."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch

GIB = 2**30
Result = TypeVar("Result")


def fresh(call: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a module's function in a new process, with as many threads as here."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_threaded, torch.get_num_threads(), call, *arguments).result()


def _threaded(threads: int, call: Callable[..., Result], *arguments: Any) -> Result:
    torch.set_num_threads(threads)
    return call(*arguments)


def peak(call: Callable[[], Result]) -> tuple[Result, float]:
    """What a call gives, and the greatest resident memory meanwhile, in GiB."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    result = call()
    return result, resident("VmHWM")


def resident(kind: str = "VmRSS") -> float:
    """GiB now, or the greatest (``VmHWM``)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[kind].split()[0]) * 1024 / GIB
