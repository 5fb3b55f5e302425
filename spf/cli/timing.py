"""How long one optimizer step, or one portrait, takes on this machine: 20 real ones, in a folder to be thrown away."""

import glob
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import torch
from jsonargparse import Namespace
from lightning import Trainer

from spf.backbones import load_backbone
from spf.cli.fit import SpfCLI, fitted
from spf.cli.left import Portraits, Training
from spf.evaluation.captions import requests_of
from spf.evaluation.portraits import make_portraits
from spf.miniature.shards import paint_portraits
from spf.portraits.formats import format_of
from spf.stages.header import Pace

STEPS = 20  # timed, after a first one that warms up
NOTHING_BESIDE = ["--samples.every_n_steps", "0", "--panels.every_n_steps", "0", "--trainer.enable_progress_bar",
                  "false", "--checkpoint.save_top_k", "0", "--checkpoint.save_last", "false"]


def seconds_each(cost: Training | Portraits, folder: Path) -> float:
    """Of an optimizer step, or of a portrait; ``folder`` is temporary, and keeps what the next timing needs too.

    A step is one of a training's first: each of its portraits is read and encoded, which those of later epochs are not
    where latents are kept. It is made on one device. Sample grids, panels and checkpoints are not in it.
    A portrait is one of a chunk, made by the base model and written; what was trained from it costs the same.
    """
    with _silence(), TemporaryDirectory(dir=folder) as run:
        return _step(cost, folder, Path(run)) if isinstance(cost, Training) else _portrait(cost, Path(run))


class Stopwatch(Pace):
    """Ends the training as soon as its pace is known."""

    def known(self, trainer: Trainer) -> None:
        """Stop after this step."""
        trainer.should_stop = True


class TimedCLI(SpfCLI):
    """The training as it is, but for its end: what is planned over all its steps is planned so here."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """With the stopwatch."""
        trainer = super().instantiate_trainer(**kwargs)
        self.pace = Stopwatch(STEPS)
        trainer.callbacks.append(self.pace)
        return trainer


def _step(cost: Training, folder: Path, run: Path) -> float:
    model, steps = cost.config.model.init_args, max(cost.config.trainer.max_steps, STEPS + 1)
    data = _portraits(cost.config, folder)
    options = [*NOTHING_BESIDE, "--run", str(run), "--trainer.max_steps", str(steps), "--trainer.max_epochs", "-1",
               "--trainer.devices", "1", "--trainer.num_nodes", "1", "--data.source", data]
    # neither may be there yet, and both cost the same: to start from the original, and to preserve other portraits
    options += ["--model.start", "null"] if model.get("start") else []
    options += ["--model.priors", data] if model.get("priors") else []
    return fitted([*cost.arguments, *options], TimedCLI).pace.seconds


def _portraits(config: Namespace, folder: Path) -> str:
    """The training's own, or where there are none yet, as many painted ones as its first steps take."""
    source, data = Path(config.data.source).expanduser(), config.data
    files = source.iterdir() if source.is_dir() else map(Path, glob.glob(str(source), recursive=True))
    if any(map(format_of, files)):
        return config.data.source
    batch = data.global_batch_size or data.train_batch_size * config.trainer.accumulate_grad_batches
    count = batch * (STEPS + 1)
    datasets.config.HF_DATASETS_CACHE = folder / "cache"  # a table of what is thrown away
    return str(paint_portraits(folder / f"portraits_{count}_{data.resolution}", count, resolution=data.resolution))


def _portrait(cost: Portraits, folder: Path) -> float:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone = load_backbone(cost.base).to(device)
    requests = requests_of("miniature", ("glasses",), cost.chunk, 0)
    for steps in (1, STEPS):  # the first warms up
        since = time.monotonic()
        sampling = replace(cost.sampling, steps=steps)
        make_portraits(backbone, requests, folder / str(steps), sampling, cost.chunk, cost.guidance)
    return (time.monotonic() - since) / cost.chunk * cost.sampling.steps / STEPS


@contextmanager
def _silence() -> Iterator[None]:
    """What a training says is said when it is the training, unless it ends the process."""
    for speaker in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(speaker).setLevel(logging.ERROR)
    said = StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            yield
    except SystemExit:
        print(said.getvalue(), file=sys.stderr)
        raise
