from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from spf.backbones import Backbone
from spf.pictures import MARGIN
from spf.portraits.datamodule import PortraitData
from spf.stages.callbacks import SampleGrid, Throughput
from spf.stages.ema import Ema
from spf.stages.fine_tuning import StandardFineTuning
from spf.text import Prompt
from spf.tuning import CrossAttention
from tests.stages.toy import Toy, toy_data, toy_trainer


def test_grids_and_speed_reach_tensorboard(tiny_sd15: Path, portraits: Path, tmp_path: Path) -> None:
    grid = SampleGrid(["a woman", "a man"], every_n_steps=2, steps=2)
    trainer = Trainer(max_steps=4, default_root_dir=tmp_path, logger=TensorBoardLogger(tmp_path, name="", version=""),
                      callbacks=[grid, Throughput()], log_every_n_steps=1, enable_progress_bar=False,
                      enable_checkpointing=False, enable_model_summary=False, accelerator="cpu")
    stage = StandardFineTuning(str(tiny_sd15), learning_rate=1e-2)
    trainer.fit(stage, PortraitData(str(portraits), 64, 4, num_workers=0))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [e.step for e in events.Images("samples/original_current")] == [0, 2, 4]
    assert len(events.Scalars("speed/samples_per_second")) == 4
    assert events.Scalars("speed/peak_memory_gib")[-1].value > 0.1
    left, right = halves(tmp_path / "samples" / "step_000000.png")
    # nothing has been learnt, and there is no target; the current model lies otherwise in memory
    assert np.abs(left.astype(int) - right).max() <= 1
    left, right = halves(tmp_path / "samples" / "step_000004.png")
    assert np.abs(left.astype(int) - right).max() > 1


def halves(path: Path) -> tuple[np.ndarray, np.ndarray]:
    picture = np.asarray(Image.open(path))[-64 - MARGIN:-MARGIN]
    return picture[:, MARGIN:MARGIN + 64], picture[:, 2 * MARGIN + 64:2 * MARGIN + 128]


def test_averaged_weights_are_shown_and_the_model_keeps_its_own(
        tiny_sd15: Path, portraits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Tensor] = []

    def sample(self: SampleGrid, backbone: Backbone, prompts: list[Prompt]) -> Tensor:
        shown.append(backbone.denoiser.conv_in.weight.detach().clone())
        return torch.zeros(len(prompts), 3, 64, 64)

    monkeypatch.setattr(SampleGrid, "_sample", sample)
    grid, ema = SampleGrid(["a woman"], every_n_steps=2, ema=True), Ema(0.9)
    stage = StandardFineTuning(str(tiny_sd15), learning_rate=1e-2)
    Trainer(max_steps=2, default_root_dir=tmp_path, logger=TensorBoardLogger(tmp_path), callbacks=[ema, grid],
            enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False, accelerator="cpu",
            ).fit(stage, PortraitData(str(portraits), 64, 4, num_workers=0))
    assert torch.equal(shown[-1], ema.weights["backbone.denoiser.conv_in.weight"])
    assert not torch.equal(shown[-1], stage.backbone.denoiser.conv_in.weight)


def test_averaged_weights_cannot_be_shown_where_none_are_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give --ema\.decay"):
        toy_trainer(tmp_path, 1, SampleGrid(["a woman"], ema=True), Ema()).fit(Toy(), toy_data())


def test_samples_are_made_by_models_whose_frozen_weights_are_held_in_less(
        tiny_sd15: Path, portraits: Path, tmp_path: Path) -> None:
    """Outside of a step, in the precision of a step: before the first one both models are nearly the same."""
    grid = SampleGrid(["a woman"], every_n_steps=2, steps=2)
    stage = StandardFineTuning(str(tiny_sd15), learning_rate=1e-2, frozen_dtype="bfloat16", tuning=CrossAttention())
    Trainer(max_steps=2, default_root_dir=tmp_path, logger=TensorBoardLogger(tmp_path), callbacks=[grid],
            enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False, accelerator="cpu",
            precision="bf16-mixed").fit(stage, PortraitData(str(portraits), 64, 4, num_workers=0))
    before, after = (halves(tmp_path / "samples" / f"step_00000{step}.png") for step in (0, 2))
    assert 2 * np.abs(np.subtract(*before, dtype=float)).mean() < np.abs(np.subtract(*after, dtype=float)).mean()


def test_after_a_resume_the_original_is_the_base_model_again(tiny_sd15: Path) -> None:
    stage = StandardFineTuning(str(tiny_sd15))
    untouched = stage.backbone.denoiser.conv_in.weight.detach().clone()
    torch.nn.init.ones_(stage.backbone.denoiser.conv_in.weight)
    original = stage.earlier()["original"]()
    assert torch.equal(original.denoiser.conv_in.weight, untouched)
    assert original.vae is stage.backbone.vae and original.encoders is stage.backbone.encoders  # once in memory
