"""What a step of stage 2 spends its time on, by timers around the module's own methods."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any
from unittest.mock import patch

from timing.training import Training, stopped, synchronise

TIMED = ("reference", "response", "features", "SFCM", "decode + CLIP")
PARTS = (*TIMED, "rest of training_step", "backward", "optimiser")


def split(training: Training, steps: int) -> dict[str, float]:
    """Median seconds of each of PARTS over some steps.

    "response" is its denoiser, "features" the alignment losses (F, Q) with the other terms, "SFCM" the soft and phrase
    maps and gamma, "rest" chance, texts, noising and logging; the decoder's own backward is in "backward".
    """
    training.step()
    laps = [_lap(training) for _ in range(steps)]
    return {part: median(lap[part] for lap in laps) for part in PARTS}


def _lap(training: Training) -> dict[str, float]:
    results: list[dict[str, Any]] = []
    with _timers(training.module) as spent:
        forward = stopped(lambda: results.append(training.forward()))
    spent["rest of training_step"] = forward - sum(spent.values())
    spent["backward"] = stopped(lambda: training.backward(results[0]["loss"]))
    spent["optimiser"] = stopped(training.update)
    return spent


@contextmanager
def _timers(module: Any) -> Iterator[dict[str, float]]:
    spent = dict.fromkeys(TIMED, 0.0)
    places = [("reference", module, "refer"), ("response", module.backbone, "denoise"),
              ("features", type(module.objective), "__call__"), ("SFCM", module, "control"),
              ("decode + CLIP", module.images, "decoded"), ("decode + CLIP", module.images, "embedded")]
    with ExitStack() as stack:
        for part, owner, method in places:
            stack.enter_context(patch.object(owner, method, _timed(getattr(owner, method), spent, part)))
        yield spent


def _timed(method: Callable, spent: dict[str, float], part: str) -> Callable:
    def run(*arguments: Any, **options: Any) -> Any:
        synchronise()
        since = time.perf_counter()
        result = method(*arguments, **options)
        synchronise()
        spent[part] += time.perf_counter() - since
        return result

    return run
