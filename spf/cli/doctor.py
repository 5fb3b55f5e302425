"""``spf doctor``: what a machine lacks, and whether a training fits into its memory."""

import argparse
from pathlib import Path

import torch

from spf.cli.fits import GIB, advice, estimate, table
from spf.evaluation.doctor import networks
from spf.evaluation.weights import FOLDER


def doctor(args: list[str]) -> None:
    """``spf doctor --eval``, or ``spf doctor --fit -c experiment.yaml`` with any options of ``spf fit``."""
    parser = argparse.ArgumentParser("spf doctor", description="what this machine lacks", allow_abbrev=False)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--eval", action="store_true", help="the metrics' networks")
    asked.add_argument("--fit", action="store_true", help="memory of a training; what else is given is `spf fit`'s")
    parser.add_argument("--weights", type=Path, default=FOLDER, help="with --eval: folder of the networks' files")
    parser.add_argument("--memory", type=float, help="with --fit: GiB of the device; default: of this machine's first")
    options, training = parser.parse_known_args(args)
    if options.fit:
        fits(training, options.memory)
    elif training:
        parser.error(f"unrecognized arguments: {' '.join(training)}")
    else:
        networks(options.weights)


def fits(training: list[str], memory: float | None) -> None:
    """The table of one training's memory, and where the device's GiB are known the verdict.

    Raises ValueError for a training that is not understood, or a memory that is not positive.
    """
    if memory is not None and memory <= 0:
        raise ValueError(f"--memory is the device's memory in GiB, such as 24, not {memory:g}")
    if memory is None and torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / GIB
    found = estimate(training)
    print(table(found), flush=True)
    print(f"DDP over several devices holds gradients twice: {found.gradients / GIB:.2f} GiB more on each", flush=True)
    if memory is not None:
        for line in advice(training, found, memory):
            print(line, flush=True)
