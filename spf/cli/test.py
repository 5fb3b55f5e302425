"""``spf test``: make a method's portraits of the test triples and measure them, on any number of devices."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from spf.baselines import GUIDANCES  # noqa: F401  (the short names of the YAML files)
from spf.cli.environment import slurm
from spf.evaluation.suite import PortraitEvaluation
from spf.evaluation.triple_data import TripleData


class EvaluationCLI(LightningCLI):
    """One YAML a row of a table; ``--run`` holds its portraits, ``--images`` measures anyone's instead."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's ``test``; what is tested is named by ``--model.checkpoint``."""
        return {"test": LightningCLI.subcommands()["test"] | {"ckpt_path", "verbose", "weights_only"}}

    def add_arguments_to_parser(self, parser: Any) -> None:
        """``--run`` and ``--images`` beside Lightning's own."""
        parser.add_argument("--run", type=str, default="runs/test/unnamed",
                            help="directory of the portraits and the result; what is there is not made again")
        parser.add_argument("--images", type=str | None, default=None,
                            help="a folder of anyone's portraits, named by the ids of the triples: measure those")
        parser.link_arguments("images", "model.images")

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Everything under ``--run``; the module deals the triples out itself, since Lightning would repeat some."""
        config = self.config_init["test"]
        if str(config["trainer"]["precision"] or "").endswith("-true"):
            raise ValueError(f"trainer.precision {config['trainer']['precision']} has no say in a measurement: the "
                             "test set says in which precision portraits are made, and metrics use float32")
        run = config["run"]
        Path(run).mkdir(parents=True, exist_ok=True)
        logger = TensorBoardLogger(run, name="", version="", default_hp_metric=False)
        kwargs |= {"default_root_dir": run, "logger": logger, "plugins": slurm(),
                   "use_distributed_sampler": False, "enable_checkpointing": False}
        return super().instantiate_trainer(**kwargs)


def test(args: list[str]) -> None:
    """Measure: ``spf test -c experiments/miniature/evaluate.yaml``."""
    warnings.filterwarnings("ignore", "The 'test_dataloader' does not have many workers")
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    sys.argv[1:] = ["test", *args]  # what Lightning parses, and what it starts the other ranks with
    EvaluationCLI(PortraitEvaluation, TripleData, save_config_callback=None, seed_everything_default=0)
