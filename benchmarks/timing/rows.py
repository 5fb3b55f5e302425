"""The rows of the table: the shipped recipes, and what one may change in stage 2's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning import LightningModule

from spf.method.objective import Objective
from spf.stages.dual_path import DualPathAlignment
from spf.stages.fine_tuning import StandardFineTuning
from spf.tuning import TUNINGS
from timing.bases import Base
from timing.training import Training

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
STAGE1, PLAIN, SHIPPED, EXPLICIT = "stage 1", "stage 2 without enhancement", "stage 2", "stage 2, explicit maps"
WHOLE, CHECKPOINTED = "stage 2, whole batch decoded", "stage 2, whole batch, checkpointed decoder"
QUARTER, QUARTER_TINY = "stage 2, a quarter decoded", "stage 2, a quarter, tiny decoder"
WHOLE_TINY = "stage 2, whole batch, tiny decoder"
CHANGES: Mapping[str, dict[str, Any]] = {
    STAGE1: {},
    PLAIN: {"objective": {"enhanced": 0.0}},
    SHIPPED: {},
    EXPLICIT: {},
    QUARTER: {"decoded_share": 0.25, "decoder": "vae"},
    QUARTER_TINY: {"decoded_share": 0.25, "decoder": "tiny"},
    WHOLE: {"decoded_share": 1.0, "decoder": "vae"},
    CHECKPOINTED: {"decoded_share": 1.0, "decoder": "checkpointed"},
    WHOLE_TINY: {"decoded_share": 1.0, "decoder": "tiny"},
}
"""By row, what differs from the shipped recipe of its stage."""
CLASSES = {"StandardFineTuning": StandardFineTuning, "DualPathAlignment": DualPathAlignment}


def build(row: str, base: Base, batch: int, precision: str) -> Training:
    """A row's training on ``batch`` portraits in ``precision`` (Lightning's name)."""
    recipe = read_recipe(base.name, 1 if row == STAGE1 else 2)
    clip = recipe["trainer"].get("gradient_clip_val")
    return Training(module(recipe, base, CHANGES[row]), base.batch(batch), precision, clip, explicit=row == EXPLICIT)


def read_recipe(base: str, stage: int) -> dict[str, Any]:
    """A shipped YAML."""
    return yaml.safe_load((EXPERIMENTS / base / f"stage{stage}.yaml").read_text())


def recipe_batch(base: str) -> int:
    """Stage 1's, for both stages."""
    return read_recipe(base, 1)["data"]["train_batch_size"]


def module(recipe: dict[str, Any], base: Base, changes: Mapping[str, Any]) -> LightningModule:
    """The module of a recipe; stage 2 starts from the base itself, which costs the same."""
    options = recipe["model"]["init_args"] | {name: value for name, value in changes.items() if name != "objective"}
    options |= {name: folder for name, folder in base.folders.items() if name in options}
    if options.get("decoder") == "tiny":
        options["decoder"] = base.tiny
    if "objective" in options:
        options["objective"] = Objective(**options["objective"] | changes.get("objective", {}))
    if "tuning" in options:
        options["tuning"] = TUNINGS[options["tuning"]["class_path"]]()
    if "start" in options:
        options["start"] = None
    return CLASSES[recipe["model"]["class_path"]](**options)
