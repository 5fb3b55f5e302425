from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from spf.method.objective import Objective
from spf.portraits.datamodule import PortraitData
from spf.stages.dual_path import DualPathAlignment
from spf.stages.ema import Ema
from spf.stages.fine_tuning import StandardFineTuning
from spf.stages.header import Pace, RunHeader, _stage2, forecast


class Rates(Callback):
    """The learning rate of every optimizer step, and how many batches there were."""

    def __init__(self) -> None:
        self.rates, self.batches = list[float](), 0

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, *_: object) -> None:
        self.batches += 1


@pytest.fixture(scope="module")
def rates() -> Rates:
    return Rates()


def test_it_says_what_is_in_effect_and_how_long_it_takes(
        rates: Rates, tiny_sd15: Path, portraits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = Trainer(max_steps=6, default_root_dir=tmp_path, logger=False, enable_progress_bar=False,
                      enable_checkpointing=False, enable_model_summary=False, accelerator="cpu",
                      callbacks=[RunHeader(), Ema(0.99), rates])
    stage = StandardFineTuning(str(tiny_sd15), learning_rate=1e-3, lr_scheduler="constant_with_warmup",
                               lr_warmup_steps=4)
    trainer.fit(stage, PortraitData(str(portraits), 64, 2, num_workers=0, global_batch_size=4))
    *block, speed = capsys.readouterr().out.splitlines()
    said = {line[:13].strip(): line[13:].strip() for line in block}
    learn = sum(weight.numel() for weight in stage.backbone.denoiser.parameters()) / 1e6
    assert said["base model"].startswith(f"{tiny_sd15}, {learn:.1f} M of ")
    assert said["devices"] == "1 x 1 node(s), cpu, precision 32-true"
    assert said["global batch"] == "4 = 2 a device x 1 x 2 accumulated"
    assert said["length"] == "6 optimizer steps = 1.50 epochs of 16 portraits"
    assert said["learning rate"] == "0.001, constant_with_warmup, warm-up 4 steps"
    assert (said["EMA"], said["run directory"], said["starts"]) == ("decay 0.99", str(tmp_path), "at step 0")
    assert "s a step: 0.0 h left, done about " in speed


def test_warm_up_and_max_steps_are_optimizer_steps(rates: Rates) -> None:
    """Of the run above, which accumulates two batches a step."""
    assert rates.rates == [0, 0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3] and rates.batches == 12


def test_the_pace_is_of_the_steps_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = iter([100.0, 103.0]), list[float]()
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    pace, trainer = Pace(steps=2), SimpleNamespace(global_step=5)  # of a run that resumes
    monkeypatch.setattr(pace, "known", lambda trainer: told.append(pace.seconds))
    pace.on_train_start(trainer, None)
    for step in (5, 6, 6, 7, 7):  # batches, of which two make a step
        trainer.global_step = step
        pace.on_train_batch_end(trainer)
        assert pace.seconds is None
    for trainer.global_step in (8, 8, 9):
        pace.on_train_batch_end(trainer)
    assert told == [1.5]


def test_the_forecast_is_in_hours() -> None:
    assert forecast(1.9, 7188).startswith("1.90 s a step: 3.8 h left, done about ")


def test_stage_2_says_what_it_starts_from_learns_and_minimises(
        tiny_sd15: Path, portraits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = DualPathAlignment(base=str(tiny_sd15), objective=Objective(m_fine=0))
    Trainer(max_steps=1, default_root_dir=tmp_path, logger=False, enable_progress_bar=False, accelerator="cpu",
            enable_checkpointing=False, enable_model_summary=False, callbacks=[RunHeader()],
            ).fit(stage, PortraitData(str(portraits), 64, 2, num_workers=0))
    said = capsys.readouterr().out
    assert "starts from the original, CrossAttention learns" in said
    assert "1 diffusion + 0.2 m_text + 0.6 enhanced; 100% of the one-step images decoded by vae" in said


def test_who_decodes_nothing_says_nothing_of_it() -> None:
    h = {"start": None, "tuning": {"name": "Full"}, "decoder": "vae", "decoded_share": 1.0,
         "objective": {"diffusion": 1.0, "token": 1e-3, "enhanced": 0.0}}
    assert _stage2(h) == {"response": "starts from the original, Full learns", "objective": "1 diffusion + 0.001 token"}
