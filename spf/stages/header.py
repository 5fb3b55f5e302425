"""What a run is, said in one block before it begins, and how long it takes, as soon as that is known."""

import time
from datetime import datetime, timedelta
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from spf.stages.ema import Ema

MEASURED_STEPS, MEASURED_SHARE = 20, 0.02  # optimizer steps after which the speed is told; less in short runs


class Pace(Callback):
    """What an optimizer step takes: ``seconds``, the mean of so many ``steps`` after the first, which warms up."""

    seconds: float | None = None  # until it is known

    def __init__(self, steps: int = MEASURED_STEPS) -> None:
        self.steps = steps

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._first, self._seen = trainer.global_step + 1, trainer.global_step  # the step before also warms up

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """At an optimizer step; a batch may be a part of one."""
        step, before, self._seen = trainer.global_step, self._seen, trainer.global_step
        if step == before:
            return
        if step == self._first:
            self._since = time.monotonic()
        if step == self._first + self.steps:
            self.seconds = (time.monotonic() - self._since) / self.steps
            self.known(trainer)

    def known(self, trainer: Trainer) -> None:
        """Called once, when ``seconds`` is known."""


class RunHeader(Pace):
    """The values that are in effect, when the defaults, the YAML, the devices and the data have had their say."""

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """One block, a line a subject."""
        width = max(map(len, lines := header(trainer, module)))
        print("\n".join(f"{name:{width}}  {text}" for name, text in lines.items()), flush=True)
        self.steps = min(MEASURED_STEPS, max(1, round(_steps(trainer) * MEASURED_SHARE)))
        super().on_train_start(trainer, module)

    def known(self, trainer: Trainer) -> None:
        """One line."""
        print(forecast(self.seconds, _steps(trainer) - trainer.global_step), flush=True)


def header(trainer: Trainer, module: LightningModule) -> dict[str, str]:
    """Subject -> what is in effect."""
    h, data, ranks = module.hparams, trainer.datamodule, trainer.world_size
    total = sum(weight.numel() for weight in module.parameters())
    learn = sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
    batch, accumulation, steps = data.samples_per_step, trainer.accumulate_grad_batches, _steps(trainer)
    portraits, kind = len(data.portraits), f"{module.device.type}, precision {trainer.precision}"
    warm_up = f", warm-up {h['lr_warmup_steps']:,} steps" if h["lr_warmup_steps"] else ""
    decay = next((callback.decay for callback in trainer.callbacks if isinstance(callback, Ema)), 0)
    return {
        "base model": f"{h['base']}, {learn / 1e6:,.1f} M of {total / 1e6:,.1f} M parameters learn",
        **_stage2(h),
        "devices": f"{trainer.num_devices} x {trainer.num_nodes} node(s), {kind}",
        "global batch": f"{batch} = {data.train_batch_size} a device x {ranks} x {accumulation} accumulated",
        "length": f"{steps:,} optimizer steps = {steps * batch / portraits:,.2f} epochs of {portraits:,} portraits",
        "learning rate": f"{h['learning_rate']:g}, {h['lr_scheduler']}{warm_up}",
        "EMA": f"decay {decay:g}" if decay else "off",
        "run directory": trainer.default_root_dir,
        "starts": f"at step {trainer.global_step:,}, resumed" if trainer.global_step else "at step 0",
    }


def _stage2(h: Any) -> dict[str, str]:
    """What only stage 2 has."""
    if "objective" not in h:
        return {}
    weights = {name: weight for name, weight in h["objective"].items() if weight}
    terms = " + ".join(f"{weight:g} {name}" for name, weight in weights.items())
    decoded = f"; {h['decoded_share']:.0%} of the one-step images decoded by {h['decoder']}"
    return {"response": f"starts from {h['start'] or 'the original'}, {h['tuning']['name']} learns",
            "objective": terms + decoded * bool({"enhanced", "direct_clip"} & weights.keys())}


def forecast(seconds: float, left: int) -> str:
    """The line about ``left`` optimizer steps of so many ``seconds``."""
    end = datetime.now() + timedelta(seconds=seconds * left)
    return f"{seconds:.2f} s a step: {seconds * left / 3600:.1f} h left, done about {end:%a %d %b %H:%M}"


def _steps(trainer: Trainer) -> int:
    return int(trainer.estimated_stepping_batches)
