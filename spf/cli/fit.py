"""``spf fit``: one YAML an experiment, one directory a run, which resumes by itself."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, TQDMProgressBar
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from spf.cli.environment import slurm
from spf.portraits.datamodule import PortraitData
from spf.stages.alignment_watch import AlignmentMonitor, ControlPanel
from spf.stages.atomic import AtomicCheckpointIO, partial_name
from spf.stages.callbacks import SampleGrid, Throughput
from spf.stages.checkpoints import Checkpoints, newest_whole, say
from spf.stages.dual_path import DualPathAlignment  # noqa: F401  (the short names of the YAML files)
from spf.stages.ema import Ema
from spf.stages.fine_tuning import StandardFineTuning  # noqa: F401
from spf.stages.header import RunHeader
from spf.stages.interruption import Interruption
from spf.stages.pretraining import GroundedPretraining  # noqa: F401


class SpfCLI(LightningCLI):
    """Every experiment is one YAML; ``--run`` is its directory, stable over restarts, where it resumes by itself."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's ``fit``."""
        return {"fit": LightningCLI.subcommands()["fit"]}

    def add_arguments_to_parser(self, parser: Any) -> None:
        """``--run``, ``--ema.*``, ``--samples.*``, ``--panels.*`` and ``--checkpoint.*`` beside Lightning's own."""
        parser.add_argument("--run", type=str, default="runs/unnamed",
                            help="directory of logs, checkpoints and samples; a run that is there is resumed")
        parser.add_lightning_class_args(Ema, "ema")  # before the samples, which may show it
        parser.add_lightning_class_args(SampleGrid, "samples")
        parser.add_lightning_class_args(ControlPanel, "panels")
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.set_defaults({"checkpoint.save_last": "link", "checkpoint.every_n_train_steps": 500,
                             "checkpoint.save_on_exception": True, "checkpoint.enable_version_counter": False})
        parser.link_arguments("run", "checkpoint.dirpath", compute_fn=lambda run: f"{run}/checkpoints")
        parser.link_arguments("seed_everything", "model.init_args.seed")
        parser.link_arguments("seed_everything", "data.seed")

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Logs, checkpoints and samples under ``--run``; a checkpoint is whole or absent."""
        run = self.config_init["fit"]["run"]
        logger = TensorBoardLogger(run, name="", version="", default_hp_metric=False)
        bar = self.config_init["fit"]["trainer"]["enable_progress_bar"] is not False
        bars = [TQDMProgressBar(refresh_rate=10)] * bar  # a bar that moves each step waits for the device each step
        self.interruption = Interruption()
        self.trainer_defaults["callbacks"] = [Throughput(), AlignmentMonitor(), LearningRateMonitor("step"),
                                              self.interruption, RunHeader(), *bars]
        kwargs |= {"default_root_dir": run, "logger": logger, "plugins": [AtomicCheckpointIO(), *slurm()]}
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        """Continue where an earlier run with the same directory stopped."""
        fit = self.config_init["fit"]
        if fit["ckpt_path"] is not None:
            return
        newest = newest_whole(Path(fit["run"]) / "checkpoints")
        if newest:
            self._refuse_another_experiment(Path(fit["run"]) / "config.yaml")
            say(f"resuming from {newest}")
            fit["ckpt_path"] = str(newest)

    def after_fit(self) -> None:
        """An interrupted training has its own exit status, and under SLURM its job may be queued again."""
        self.interruption.conclude(self.trainer)

    def _refuse_another_experiment(self, saved: Path) -> None:
        """A run directory holds one experiment: its model and data do not change while it goes on."""
        if not saved.is_file():
            say(f"there is no {saved}: whether this is the experiment of the checkpoint cannot be told")
            return
        before = _learning(yaml.safe_load(saved.read_text()))
        now = _learning(yaml.safe_load(self._parser("fit").dump(self.config["fit"], skip_none=False)))
        changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if changed:
            raise ValueError(f"{saved} was written by a run with another {', '.join(changed)}: give another --run, or "
                             f"remove {saved.parent}")


class WholeConfig(SaveConfigCallback):
    """The run's ``config.yaml``, which is whole or absent: a resume reads it."""

    def save_config(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """On rank zero, under a temporary name, then renamed."""
        path = Path(trainer.default_root_dir) / "config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_name(path).write_text(self.parser.dump(self.config, skip_none=False), encoding="utf-8")
        os.replace(partial_name(path), path)


def _learning(config: dict[str, Any]) -> dict[str, Any]:
    """What decides what is learnt; portraits may have moved, and be read by more processes, or more at a time."""
    elsewhere = ["source", "num_workers", "max_bad_fraction", "gradient_checkpointing", "cache_texts",
                 "frozen_dtype",
                 *["train_batch_size"] * bool(config["data"].get("global_batch_size"))]
    flat = {**config["model"]["init_args"], **config["data"], "class_path": config["model"]["class_path"],
            "seed_everything": config["seed_everything"], "ema.decay": config.get("ema", {}).get("decay", 0.0)}
    return {key: value for key, value in flat.items() if key not in elsewhere}


def fit(args: list[str]) -> None:
    """Train: ``spf fit -c experiments/miniature/stage1.yaml``."""
    fitted(args, SpfCLI)


def fitted(args: list[str], cli: type[SpfCLI]) -> SpfCLI:
    """The command line after the training that it asks for."""
    # frozen parts stay in eval, a run directory is used again, and Lightning is not yet on jsonargparse 5
    for known in ("Found .* module", "Checkpoint directory .* exists", "Precision .* not supported by the model"):
        warnings.filterwarnings("ignore", known)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    sys.argv[1:] = ["fit", *args]  # what Lightning parses, and what it starts the other ranks with
    return cli(LightningModule, PortraitData, subclass_mode_model=True, save_config_callback=WholeConfig,
               save_config_kwargs={"save_to_log_dir": False}, seed_everything_default=0,
               auto_configure_optimizers=False)
