from pathlib import Path

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spf.baselines.objective import AnyObjective
from spf.portraits.datamodule import PortraitData
from spf.stages.alignment_watch import AlignmentMonitor, ControlPanel, _note
from spf.stages.dual_path import DualPathAlignment
from spf.text import Prompt


@pytest.mark.parametrize("times", [torch.tensor([0, 249, 999]), torch.tensor([0.2, 249.9, 999.9])])
def test_losses_are_told_by_the_quarter_of_the_times(times: torch.Tensor) -> None:
    monitor = AlignmentMonitor()
    sfcm = torch.tensor([[[0.0, 1.0], [0.0, 0.2]]] * 3)
    for add in (0.0, 1.0):
        losses = torch.tensor([1.0, 2.0, 4.0]) + add
        monitor._add({"t": times, "m_text": losses, "sfcm": sfcm}, 1000)
    assert monitor._means() == pytest.approx(
        {"sfcm/mean": 0.3, "sfcm/share_above_half": 0.25, "by_time/m_text_1_of_4": 2.0, "by_time/m_text_4_of_4": 4.5})


def test_a_note_tells_whole_times() -> None:
    prompt = Prompt("a woman", "a hat", ("a woman",))
    assert _note(prompt, 412, [0.5]) == _note(prompt, 412.3, [0.5]) == "t 412 | a hat | gamma: 1. a woman (0.50)"


def test_panels_and_terms_reach_tensorboard(tiny_sd15: Path, portraits: Path, tmp_path: Path) -> None:
    stage = DualPathAlignment(base=str(tiny_sd15), learning_rate=1e-3)
    Trainer(max_steps=2, default_root_dir=tmp_path, logger=TensorBoardLogger(tmp_path, name="", version=""),
            callbacks=[AlignmentMonitor(), ControlPanel(2, 2)], log_every_n_steps=1, enable_progress_bar=False,
            enable_checkpointing=False, enable_model_summary=False, accelerator="cpu",
            ).fit(stage, PortraitData(str(portraits), 64, 4, num_workers=0))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Images("panels/sfcm")] == [0, 2]
    assert (tmp_path / "panels" / "step_000002.png").is_file()
    tags = set(events.Tags()["scalars"])
    assert {f"{kind}/{term}" for kind in ("loss", "weighted", "over_diffusion")
            for term in ("diffusion", "m_text", "m_fine", "enhanced")} <= tags
    assert {"sfcm/mean", "sfcm/share_above_half"} <= tags and any(tag.startswith("by_time/m_fine") for tag in tags)
    raw, weighted = (events.Scalars(f"{kind}/m_text")[0].value for kind in ("loss", "weighted"))
    assert weighted == pytest.approx(0.2 * raw)


def test_a_baseline_that_sees_no_maps_has_no_panels(tiny_sd15: Path, portraits: Path, tmp_path: Path) -> None:
    stage = DualPathAlignment(base=str(tiny_sd15), objective=AnyObjective(m_text=0, m_fine=0, enhanced=0))
    Trainer(max_steps=1, default_root_dir=tmp_path, logger=TensorBoardLogger(tmp_path, name="", version=""),
            callbacks=[AlignmentMonitor(), ControlPanel(1, 1)], log_every_n_steps=1, enable_progress_bar=False,
            enable_checkpointing=False, enable_model_summary=False, accelerator="cpu",
            ).fit(stage, PortraitData(str(portraits), 64, 2, num_workers=0))
    assert not (tmp_path / "panels").exists() and not EventAccumulator(str(tmp_path)).Reload().Tags()["images"]
