"""A training that is killed and started again ends, bit for bit, where the uninterrupted one ends.

Killed from outside by SIGKILL: at random batches (so also amid an accumulation), and between a checkpoint's temporary
file and its rename; with one process, and with two that train together.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.house import ROOT
from tests.stages.survivor import PAUSED

STEPS, INTERVAL = 14, 3
# what an earlier test in this process may have left behind: two trainings at once would share its port
LAUNCHERS = {"LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
PATIENCE = 500  # seconds until a start counts as hung


class Training:
    """One run directory, and the command that begins it or continues it."""

    def __init__(self, folder: Path, base: Path, source: Path, devices: int, stage: int, **options: object) -> None:
        self.folder, self.devices = folder, devices
        self.folder.mkdir()
        settings = {
            "run": folder, "model.base": base, "model.learning_rate": 1e-3, "model.lr_scheduler": "cosine",
            "model.lr_warmup_steps": 3, "model.caption_dropout": 0.3, "model.gradient_checkpointing": "false",
            "data.source": source, "data.resolution": 64, "data.train_batch_size": 2, "data.limit": 22,
            "trainer.max_epochs": -1, "trainer.max_steps": STEPS, "trainer.accumulate_grad_batches": 2,
            "trainer.accelerator": "cpu", "trainer.devices": devices, "trainer.precision": 32,
            "trainer.enable_progress_bar": "false", "samples.every_n_steps": 0, "ema.decay": 0.9,
            "checkpoint.every_n_train_steps": INTERVAL, "checkpoint.filename": "{step}",
            "trainer.callbacks+": "tests.stages.survivor.Diary", **options}
        arguments = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
        recipe = f"experiments/sd15/stage{stage}.yaml"
        self.command = [sys.executable, "-m", "tests.stages.survivor", "fit", "-c", recipe, *arguments]

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        """In a process group of its own; what it says goes to a file."""
        own = {"OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(self.folder.parent / "datasets")}
        inherited = {key: value for key, value in os.environ.items() if key not in LAUNCHERS} | own | environment
        with (self.folder / "log.txt").open("a") as log:
            return subprocess.Popen(self.command, cwd=ROOT, env=inherited, start_new_session=True, stdout=log,
                                    stderr=subprocess.STDOUT)

    def kill_when(self, due: Callable[[], bool], **environment: str) -> None:
        """Start, and SIGKILL the whole group as soon as ``due``."""
        process, until = self.start(**environment), time.monotonic() + PATIENCE
        try:
            while not due():
                assert process.poll() is None and time.monotonic() < until, self.log()
                time.sleep(0.005)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        try:
            assert process.wait(PATIENCE) == 0, self.log()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()[-6000:]

    def diary(self, rank: int) -> list[dict[str, Any]]:
        """Its lines so far; the one that a kill cut off does not count."""
        file = self.folder / f"diary_{rank}.jsonl"
        return list(self._whole(file)) if file.exists() else []

    @staticmethod
    def _whole(file: Path) -> Iterator[dict[str, Any]]:
        for line in file.read_text().splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue

    def batches(self) -> int:
        return sum("batch" in line for line in self.diary(0))

    def steps(self, rank: int) -> list[dict[str, Any]]:
        """Every attempt at every optimizer step, in the order of their happening."""
        return [line for line in self.diary(rank) if "step" in line]

    def checkpoint(self) -> dict[str, Any]:
        return torch.load(self.folder / "checkpoints" / "last.ckpt", weights_only=True)


def assert_same(ours: Any, theirs: Any, where: str) -> None:
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{where}/{index}")
    else:
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs, where


@pytest.mark.parametrize(("devices", "stage", "options"), [
    (1, 1, {"data.num_workers": 1}),
    (2, 2, {"data.num_workers": 0, "trainer.strategy": "ddp", "model.cache_latents": "true", "model.start": "null",
            "model.clip": "miniature", "model.decoded_share": 0.5, "panels.every_n_steps": 0, "model.tuning": "AdaLoRA",
            "model.tuning.every_n_steps": 2}),
], ids=["one process", "stage 2 with AdaLoRA, two processes"])
def test_killed_and_started_again_it_ends_where_the_uninterrupted_one_does(
        devices: int, stage: int, options: dict[str, object], tiny_sd15: Path, portraits: Path, tmp_path: Path) -> None:
    folders = (tmp_path / name for name in ("whole", "killed"))
    whole, killed = (Training(folder, tiny_sd15, portraits, devices, stage, **options) for folder in folders)
    chance = random.Random(devices)
    uninterrupted = whole.start()
    try:
        at = chance.randrange(2 * INTERVAL + 1, 2 * (STEPS - 2))  # two batches a step
        killed.kill_when(lambda: killed.batches() >= at)
        reached = max(line["step"] for line in killed.steps(0))
        name = f"step={min(reached // INTERVAL + 1, STEPS // INTERVAL) * INTERVAL}.ckpt"
        checkpoints = killed.folder / "checkpoints"
        killed.kill_when((checkpoints / PAUSED).exists, PAUSE_AT=name)
        assert (checkpoints / f".{name}.partial").exists() and not (checkpoints / name).exists()
        killed.finish(killed.start())
    finally:
        whole.finish(uninterrupted)
    assert f"passing over {checkpoints / f'.{name}.partial'}" in killed.log()
    expected, ended = whole.checkpoint(), killed.checkpoint()
    for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "ema", "PortraitData", "tuning"):
        assert_same(ended[part], expected[part], part)
    for rank in range(devices):
        due = {line["step"]: line for line in whole.steps(rank)}
        assert list(due) == list(range(1, STEPS + 1))
        assert all(line == due[line["step"]] for line in killed.steps(rank))
        assert {line["step"] for line in killed.steps(rank)} == due.keys()
