import multiprocessing
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch

from spf.portraits.batches import PortraitBatch
from spf.portraits.datamodule import PortraitData
from spf.portraits.formats import PortraitError
from tests.portraits.sources import picture, write_tar


def data(source: Path, trainer: Any = None, **options) -> PortraitData:
    module = PortraitData(str(source), **({"resolution": 20, "train_batch_size": 4, "num_workers": 0} | options))
    module.trainer = trainer
    module.prepare_data()
    module.setup("fit")
    return module


def ids(loader: torch.utils.data.DataLoader) -> list[str]:
    return [name for batch in loader for name in batch.ids]


def devices(world_size: int = 1, rank: int = 0, accumulate: int = 1, step: int = 0) -> SimpleNamespace:
    """What a data module asks of its trainer."""
    return SimpleNamespace(
        global_rank=rank, world_size=world_size, accumulate_grad_batches=accumulate, global_step=step
    )


def fit(module: lightning.LightningModule, portraits: PortraitData, **options) -> lightning.Trainer:
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = lightning.Trainer(accelerator="cpu", **(dict.fromkeys(quiet, False) | {"max_epochs": 2} | options))
    trainer.fit(module, portraits)
    return trainer


class Listener(lightning.LightningModule):
    """Learns nothing; notes the ids and epochs of every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[str, int]] = []

    def training_step(self, batch: PortraitBatch, index: int) -> torch.Tensor:
        self.seen += zip(batch.ids, batch.epochs, strict=True)
        return self.weight * 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


# Batches


def test_batches(greys: Path):
    batches = list(data(greys).train_dataloader())
    assert [len(batch) for batch in batches] == [4, 4]
    for batch in batches:
        assert batch.image.shape == (4, 3, 20, 20) and batch.epochs == [0] * 4
        for name, image, text, target, phrases in zip(
            batch.ids, batch.image, batch.base_text, batch.target_text, batch.phrases, strict=True
        ):
            number = int(name.removesuffix(".png"))
            assert image[0, 10, 10] == pytest.approx(number / 255)
            assert (text, target, phrases) == (f"portrait {number}", "", ("portrait",) * (number % 2))


def test_order_depends_on_the_seed(greys: Path):
    first, same, other = (ids(data(greys, seed=seed).train_dataloader()) for seed in (1, 1, 2))
    assert first == same != other


def test_limit_takes_the_first_portraits(greys: Path):
    assert sorted(ids(data(greys, limit=4).train_dataloader())) == ["0.png", "1.png", "2.png", "3.png"]
    assert len(data(greys, limit=99).portraits) == 10


def test_fewer_portraits_than_a_step_is_an_error(greys: Path):
    with pytest.raises(PortraitError, match="10 portraits are fewer than one step takes, train_batch_size 11 on 1 dev"):
        data(greys, train_batch_size=11).train_dataloader()
    with pytest.raises(PortraitError, match=r"train_batch_size 2 on 3 device\(s\), 2 time\(s\) accumulated"):
        data(greys, devices(3, accumulate=2), train_batch_size=2).train_dataloader()


def test_columns_and_required_targets_reach_the_reader(greys: Path):
    assert data(greys, columns={"target_text": "base_text"}).portraits[2]["target_text"] == "portrait 2"
    with pytest.raises(PortraitError, match="'0.png' has no target text"):
        data(greys, require_target=True)


# The stream under Lightning


@pytest.mark.parametrize("workers", [0, 2])
def test_every_portrait_is_seen_once_per_epoch(greys: Path, workers: int):
    listener = Listener()
    module = PortraitData(str(greys), 8, train_batch_size=3, num_workers=workers)
    trainer = fit(listener, module, max_epochs=4, accumulate_grad_batches=3)
    assert trainer.global_step == 4 and len(listener.seen) == 36 == len(set(listener.seen))
    assert [epoch for _, epoch in listener.seen] == [number // 10 for number in range(36)]


def test_workers_do_not_hear_the_signals_of_a_job(greys: Path):
    heard: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in numbers}
    others = set(multiprocessing.active_children())
    batches = iter(data(greys, num_workers=2).train_dataloader())
    for worker in set(multiprocessing.active_children()) - others:
        for number in numbers:  # at once: it may not have run a line of its own; another process sends, as SLURM does
            subprocess.run(["kill", f"-{number}", str(worker.pid)], check=True)
    assert len(next(batches).ids) == len(next(batches).ids) == 4 and not heard
    batches._shutdown_workers()  # as Lightning does
    for number, handler in before.items():
        os.kill(os.getpid(), number)
        signal.signal(number, handler)
    assert heard == list(numbers), "the training itself still hears them"


def test_workers_end_with_a_script_that_leaves_them(greys: Path):
    script = f"""
from spf.portraits.datamodule import PortraitData
module = PortraitData({str(greys)!r}, 8, 4, num_workers=2)
module.setup("fit")
batches = iter(module.train_dataloader())
print(len(next(batches).ids))
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert said.stdout.endswith("4\n") and "Traceback" not in said.stderr


def test_any_number_of_devices_sees_the_same_portraits_in_a_step(greys: Path):
    def steps(world_size: int, batch: int, accumulate: int, start: int) -> list[set[tuple[str, int]]]:
        loaders = []
        for rank in range(world_size):
            module = data(greys, devices(world_size, rank, accumulate, start), train_batch_size=batch)
            loaders.append(iter(module.train_dataloader()))
        taken = []
        while groups := [list(islice(loader, accumulate)) for loader in loaders]:
            batches = [batch for group in groups for batch in group]
            if not batches:
                return taken
            taken.append({pair for batch in batches for pair in zip(batch.ids, batch.epochs, strict=True)})

    for start in range(4):
        alone = steps(1, 6, 1, start)
        assert len(alone) == 1 and len(alone[0]) == 6
        assert alone == steps(2, 3, 1, start) == steps(3, 2, 1, start) == steps(2, 1, 3, start) == steps(1, 2, 3, start)


# Global batch size


def test_the_global_batch_is_accumulated(greys: Path):
    for world_size, expected in ((1, 4), (2, 2), (4, 1)):
        module = data(greys, devices(world_size), train_batch_size=2, global_batch_size=8)
        assert (module.trainer.accumulate_grad_batches, module.samples_per_step) == (expected, 8)
    listener = Listener()
    trainer = fit(listener, PortraitData(str(greys), 8, 1, num_workers=0, global_batch_size=4), max_epochs=3)
    assert (trainer.global_step, trainer.accumulate_grad_batches, len(listener.seen)) == (6, 4, 24)


@pytest.mark.parametrize(("size", "fitting"), [(20, "18 or 24"), (5, "6"), (0, "6"), (-6, "6")])
def test_a_global_batch_that_cannot_be_is_refused(greys: Path, size: int, fitting: str):
    with pytest.raises(PortraitError, match=rf"size {size} .*size 2 on 3 device.*of 6.\nMake it {fitting}, or"):
        data(greys, devices(3), train_batch_size=2, global_batch_size=size)


def test_a_global_batch_beside_another_accumulation_is_refused(greys: Path):
    assert data(greys, devices(accumulate=3), train_batch_size=2, global_batch_size=6).samples_per_step == 6
    with pytest.raises(PortraitError, match="accumulates 3 batch.*told to accumulate 2.\nGive one"):
        data(greys, devices(accumulate=2), train_batch_size=2, global_batch_size=6)


# The state


def test_the_state_counts_complete_steps_for_every_rank_alike(greys: Path):
    states = []
    for rank in range(2):
        module = data(greys, devices(2, rank, accumulate=2), train_batch_size=2, seed=3)
        assert module.state_dict()["samples_seen"] == 0
        module.trainer.global_step = 4
        states.append(module.state_dict())
    assert states[0] == states[1]
    assert states[0] == {"epoch": 3, "samples_seen": 32, "seed": 3, "fingerprint": module.fingerprint}


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_another_number_of_devices_continues_at_the_next_portrait(greys: Path, world_size: int):
    before = data(greys, devices(2, step=3), train_batch_size=2).state_dict()
    assert before["samples_seen"] == 12
    numbers = []
    for rank in range(world_size):
        module = data(greys, devices(world_size, rank, step=0), train_batch_size=1)
        module.load_state_dict(before)
        numbers.append(list(module.train_dataloader().sampler))
        module.trainer.global_step = 3  # Lightning knows it only now
        module.on_before_batch_transfer(next(iter(module.train_dataloader())), 0)
        assert module.samples_seen == 12
        module.trainer.global_step = 5
        assert module.samples_seen == 12 + 2 * world_size
    together = [number for step in zip(*numbers, strict=True) for number in step]
    epochs = (data(greys, devices(step=step), train_batch_size=10).train_dataloader().sampler for step in range(3))
    stream = [number for epoch in epochs for number in epoch]
    assert together == stream[12 : 12 + len(together)] and len(together) == 10 // world_size * world_size


def test_another_seed_or_other_portraits_are_refused(greys: Path, tmp_path: Path):
    state = data(greys).state_dict()
    moved = data(greys.rename(tmp_path / "moved"))
    moved.load_state_dict(state)
    with pytest.raises(PortraitError, match="shuffled by seed 0, and now by 1.\nSet the seed .* back to 0"):
        data(tmp_path / "moved", seed=1).load_state_dict(state)
    with pytest.raises(PortraitError, match="these 9 portraits are not those.*\nGive data.source the same files"):
        data(tmp_path / "moved", limit=9).load_state_dict(state)


def test_a_second_fit_of_a_trainer_goes_on_in_the_stream(greys: Path):
    listener, module = Listener(), PortraitData(str(greys), 8, train_batch_size=5, num_workers=0)
    trainer = fit(listener, module, max_epochs=1)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(listener, module)
    assert len(set(listener.seen)) == 20


# Bad portraits


def test_bad_portraits_are_reported_once_and_replaced(greys: Path, capsys: pytest.CaptureFixture):
    for bad in ("3.png", "4.png"):
        (greys / bad).write_bytes(b"junk")
    listener = Listener()
    fit(listener, PortraitData(str(greys), 8, train_batch_size=5, num_workers=1, max_bad_fraction=0.2), max_epochs=3)
    names = [name for name, _ in listener.seen]
    assert names.count("5.png") == 9 and {"3.png", "4.png"}.isdisjoint(names) and len(names) == 30
    lines = [line for line in capsys.readouterr().out.splitlines() if "cannot be decoded" in line]
    assert ["3.png: the image" in line for line in sorted(lines)] == [True, False]  # and the other of 4.png
    assert all("next good portrait stands in" in line for line in lines)


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_bad_images_stop_the_training(greys: Path, workers: int):
    for bad in ("3.png", "6.png"):
        (greys / bad).write_bytes(b"junk")
    with pytest.raises(PortraitError, match="2 of 10 portraits are bad(.|\n)*max_bad_fraction 0.1 allows 1"):
        fit(Listener(), PortraitData(str(greys), 8, 1, num_workers=workers, max_bad_fraction=0.1))
    with pytest.raises(PortraitError, match="png: the image cannot be decoded"):
        fit(Listener(), PortraitData(str(greys), 8, 1, num_workers=workers))


def test_what_was_bad_when_read_is_one_report(source: Path, capsys: pytest.CaptureFixture):
    members = {f"{n}.{ending}": content for n in range(9) for ending, content in (("png", picture()), ("txt", "a"))}
    write_tar(source / "0.tar", members | {"4.txt": " "})
    module = data(source, max_bad_fraction=0.2)
    report = capsys.readouterr().out
    assert report.count("0.tar::4: the caption is empty") == 1 and "1 of 9 portraits are bad" in report
    fit(Listener(), module)
    assert capsys.readouterr().out.count("the caption is empty") == 1  # Lightning prepares the data once more
    for fraction in (0, 0.1):
        with pytest.raises(PortraitError, match="1 of 9 portraits are bad.\n.*0.tar::4: the caption is empty"):
            data(source, max_bad_fraction=fraction)
    assert len(data(source, limit=4, max_bad_fraction=0).portraits) == 4
