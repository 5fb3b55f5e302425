"""What each command of a dry run leaves to be done: optimizer steps, or portraits, and what decides the cost of one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import Namespace

from spf.cli.commands import commands, parsed, parser
from spf.evaluation.portraits import Sampling
from spf.evaluation.triples import MANIFEST, ORIGINALS
from spf.files import read_json
from spf.notation import Guidance
from spf.portraits.reader import read_portraits
from spf.stages.checkpoints import steps_made

MEASURING = 0.3
"""What a pair takes to be measured, as a share of making its portrait: of 96 pairs of the miniature on 2 cores, 30 s
beside 100 s."""
EPOCHS = 1000  # Lightning's own, where neither steps nor epochs are given
FREE = {"start", "priors", "seed", "learning_rate", "lr_scheduler", "lr_warmup_steps", "weight_decay"}
"""Options of a model that cost nothing, or the same whatever they are."""


@dataclass(frozen=True)
class Training:
    """An optimizer step; two trainings of one kind are equal, since their steps cost the same."""

    kind: str
    arguments: tuple[str, ...] = field(compare=False)  # of `spf fit`
    config: Namespace = field(compare=False, repr=False)


@dataclass(frozen=True)
class Portraits:
    """A portrait, by a base model or whatever was made of it; equal where one costs the same."""

    base: str
    sampling: Sampling
    chunk: int
    changed: str = ""  # what a guidance is
    guidance: Guidance | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Task:
    """What is left of one command."""

    verb: Literal["fit", "triples", "test"]
    name: str  # run directory, folder of the test set or result
    left: int  # optimizer steps; portraits
    total: int  # of the finished run or set
    cost: Training | Portraits

    @property
    def turns(self) -> float:
        """How many steps or portraits long it is: a row that has its portraits has still to be measured."""
        return self.left + (MEASURING * self.total if self.verb == "test" else 0)


def tasks(dry_run: str) -> list[Task]:
    """What is left of each command that `commands` finds, also where it is nothing.

    Raises ValueError for a command that spf would not understand, or one that lacks what no earlier line makes.
    """
    found = dict[str, Task]()
    for verb, arguments in commands(dry_run):
        task = {"fit": _training, "triples": _test_set, "test": _row}[verb](arguments, found)
        found[task.name] = task
    return list(found.values())


def _training(arguments: list[str], before: Mapping[str, Task]) -> Task:
    config = parsed("fit", arguments)
    steps = _steps(config)
    left = max(0, steps - steps_made(Path(config.run) / "checkpoints"))
    return Task("fit", str(Path(config.run)), left, steps, Training(_kind(config.as_dict()), tuple(arguments), config))


def _steps(config: Namespace) -> int:
    """The length of a training; of one that is given in epochs by its portraits, on the devices that are here."""
    trainer, data = config.trainer, config.data
    if trainer.max_steps >= 0:
        return trainer.max_steps
    devices = trainer.devices if str(trainer.devices).isdigit() else max(1, torch.cuda.device_count())
    batch = data.train_batch_size * int(devices) * trainer.num_nodes * trainer.accumulate_grad_batches
    portraits = len(read_portraits(data.source, data.columns))
    an_epoch = min(portraits, data.limit or portraits) // (data.global_batch_size or batch)
    return (trainer.max_epochs or EPOCHS) * an_epoch


def _kind(config: dict[str, Any]) -> str:
    """What decides how long a step takes: of the terms of the objective, which there are, not their weights."""
    options = {key: value for key, value in config["model"]["init_args"].items() if key not in FREE}
    if "objective" in options:
        options["objective"] = sorted(name for name, weight in options["objective"].items() if weight)
    data = {key: config["data"][key] for key in ("source", "resolution", "train_batch_size", "global_batch_size")}
    trainer = {key: config["trainer"][key] for key in ("accelerator", "precision", "accumulate_grad_batches")}
    return json.dumps([config["model"]["class_path"], options, data, trainer, config["ema"]], default=str)


def _test_set(arguments: list[str], before: Mapping[str, Task]) -> Task:
    config = parsed("triples", arguments)
    sampling = Sampling(**{key: config[key] for key in Sampling.__dataclass_fields__})
    left = _to_make(config.count, config.chunk, config.out / ORIGINALS)
    return Task("triples", str(config.out), left, config.count, Portraits(config.base, sampling, config.chunk))


def _row(arguments: list[str], before: Mapping[str, Task]) -> Task:
    config = parsed("test", arguments)
    model, data, run = config.model, config.data, Path(config.run)
    made = before.get(str(Path(data.triples)))
    count, about = _test_set_of(Path(data.triples), made)
    total, chunk = min(count, data.limit or count), data.chunk or about.chunk
    anew = made and made.left or _trained_since(run, model.checkpoint, before)
    left = 0 if model.images else _to_make(total, chunk, None if anew else run / "portraits")
    cost = Portraits(model.base or about.base, about.sampling, chunk, *_guidance(config))
    return Task("test", model.result or config.run, left, total, cost)


def _guidance(config: Namespace) -> tuple[str, Guidance | None]:
    """What changes the generating, in words and as it is."""
    if not config.model.guidance:
        return "", None
    made = parser("test").instantiate_classes(Namespace(test=config)).test.model
    return json.dumps(config.model.guidance.as_dict(), default=str), made.guidance


def _test_set_of(folder: Path, made: Task | None) -> tuple[int, Portraits]:
    """How many triples there are, or will be, and how their originals are made."""
    if made:
        return made.total, made.cost
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} holds no finished test set, and no earlier command of the plan makes it: give "
                         f"`spf triples --out {folder}` before its rows")
    about = read_json(folder / MANIFEST)
    return about["count"], Portraits(about["base"], Sampling(**about["sampling"]), about["chunk"])


def _trained_since(run: Path, checkpoint: str | None, before: Mapping[str, Task]) -> bool:
    """Whether the portraits in ``run`` are, or will be, of an older checkpoint, and so are put aside."""
    file, note = Path(checkpoint or ""), run / "manifest.json"
    trained = before.get(str(file.parents[1])) if len(file.parents) > 1 else None
    newer = file.is_file() and note.is_file() and file.stat().st_mtime > note.stat().st_mtime
    return bool(newer or trained and trained.left)


def _to_make(total: int, chunk: int, folder: Path | None) -> int:
    """Portraits that are to be made; a chunk is made whole."""
    missing = max(0, total - len(list(folder.glob("*.png")) if folder else ()))
    return -(-missing // chunk) * chunk
