"""The command line: ``spf fit``, ``spf generate``, ``spf portraits``, ``spf export``, ``spf miniature``."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt
from lightning import LightningModule
from lightning.pytorch.callbacks import LearningRateMonitor, TQDMProgressBar
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from spf.backbones import load_backbone
from spf.miniature import pretrain, sheet
from spf.miniature.shards import paint_portraits
from spf.pictures import labelled_grid, save_png
from spf.portraits.datamodule import PortraitData
from spf.sampling import CHUNK
from spf.sampling import generate as sample
from spf.stages.callbacks import SampleGrid, Throughput
from spf.stages.checkpoints import AtomicCheckpointIO, Checkpoints, load_customised
from spf.stages.fine_tuning import StandardFineTuning  # noqa: F401  (its short name is known to the YAML files)
from spf.text import Prompt


class SpfCLI(LightningCLI):
    """Every experiment is one YAML; ``--run`` is its directory, stable over restarts, where it resumes by itself."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's ``fit``; ``test`` comes with the evaluation."""
        return {"fit": LightningCLI.subcommands()["fit"]}

    def add_arguments_to_parser(self, parser: Any) -> None:
        """``--run``, ``--samples.*`` and ``--checkpoint.*`` beside Lightning's own."""
        parser.add_argument("--run", type=str, default="runs/unnamed",
                            help="directory of logs, checkpoints and samples; a run that is there is resumed")
        parser.add_lightning_class_args(SampleGrid, "samples")
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.set_defaults({"checkpoint.save_last": True, "checkpoint.every_n_train_steps": 500,
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
        self.trainer_defaults["callbacks"] = [Throughput(), LearningRateMonitor("step"), *bars]
        kwargs |= {"default_root_dir": run, "logger": logger, "plugins": [AtomicCheckpointIO()]}
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        """Continue where an earlier run with the same directory stopped."""
        fit = self.config_init["fit"]
        last = Path(fit["run"]) / "checkpoints" / "last.ckpt"
        if fit["ckpt_path"] is None and last.exists():
            self._refuse_another_experiment(Path(fit["run"]) / "config.yaml")
            print(f"resuming from {last}", flush=True)
            fit["ckpt_path"] = str(last)

    def _refuse_another_experiment(self, saved: Path) -> None:
        """A run directory holds one experiment: its model and data do not change while it goes on."""
        before = _learning(yaml.safe_load(saved.read_text()))
        now = _learning(yaml.safe_load(self._parser("fit").dump(self.config["fit"], skip_none=False)))
        changed = [key for key in now if before.get(key) != now[key]]
        if changed:
            raise ValueError(f"{saved} was written by a run with another {', '.join(changed)}: give another --run, or "
                             f"remove {saved.parent}")


def _learning(config: dict[str, Any]) -> dict[str, Any]:
    """What decides what is learnt; portraits may have moved, and be read by more processes."""
    elsewhere = ("source", "num_workers")
    flat = {**config["model"]["init_args"], **config["data"], "seed_everything": config["seed_everything"]}
    return {key: value for key, value in flat.items() if key not in elsewhere}


def fit(args: list[str]) -> None:
    """Train: ``spf fit -c experiments/miniature/stage1.yaml``."""
    # frozen parts stay in eval, a run directory is used again, and Lightning is not yet on jsonargparse 5
    for known in ("Found .* module", "Checkpoint directory .* exists", "Precision .* not supported by the model"):
        warnings.filterwarnings("ignore", known)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    sys.argv[1:] = ["fit", *args]  # what Lightning parses, and what it starts the other ranks with
    SpfCLI(LightningModule, PortraitData, subclass_mode_model=True, save_config_kwargs={"overwrite": True},
           seed_everything_default=0, auto_configure_optimizers=False)


def generate(
    base_text: str,
    target: str = "",
    checkpoint: str | None = None,
    base: str | None = None,
    seed: int = 7,
    count: PositiveInt = 4,
    steps: PositiveInt = 20,
    guidance_scale: float = 7.5,
    scheduler: Literal["ddim", "base"] = "ddim",
    chunk: PositiveInt = CHUNK,
    out: str = "runs/generated",
) -> None:
    """Original beside customised: the base model on the base text, the customised one on base + target, same seeds.

    Args:
        base_text: what the original model is asked for, or a .txt file with one such text per line.
        target: the taught attribute, added to the base text for the customised model.
        checkpoint: a .ckpt of ``spf fit``, or a diffusers folder; without one the base model is shown beside itself.
        base: the original model; default: the one the checkpoint was trained from, else the miniature.
        seed: of the first portrait; the others count up from it.
        count: portraits per base text.
        steps: solver steps.
        guidance_scale: of classifier-free guidance.
        scheduler: DDIM, or the base model's own.
        chunk: portraits made at a time; fewer take less memory.
        out: folder of the single images and of ``original_customised.png``.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if checkpoint:
        original, customised = load_customised(checkpoint, base)
    else:
        original = customised = load_backbone(base or "miniature")
    texts = _texts(base_text)
    if not texts:
        raise ValueError(f"{base_text} holds no base text")
    prompts = [Prompt(text, target) for text in texts for _ in range(count)]
    seeds = [seed + index for index in range(len(prompts))]
    settings = {"steps": steps, "guidance_scale": guidance_scale, "scheduler": scheduler, "chunk": chunk}
    before = sample(original.to(device), [prompt.base for prompt in prompts], seeds, **settings)
    after = sample(customised.to(device), prompts, seeds, **settings)
    _show(before, after, prompts, seeds, Path(out))


def _show(before: Tensor, after: Tensor, prompts: list[Prompt], seeds: list[int], folder: Path) -> None:
    """The single images, and all pairs (B,3,H,W) in one labelled picture."""
    for number, (left, right) in enumerate(zip(before, after, strict=True)):
        save_png(left, folder / f"{number:03d}_seed{seeds[number]}_original.png")
        save_png(right, folder / f"{number:03d}_seed{seeds[number]}_customised.png")
    rows = [f"{prompt.base_text} | seed {seed}" for prompt, seed in zip(prompts, seeds, strict=True)]
    title = f"customised: + {prompts[0].target_text}" if prompts[0].target_text else ""
    picture = labelled_grid(torch.stack([before, after], 1), ("original", "customised"), rows, title)
    print(f"original beside customised: {save_png(picture, folder / 'original_customised.png')}")


def _texts(base_text: str) -> list[str]:
    if not base_text.endswith(".txt"):
        return [base_text]
    lines = [line.strip() for line in Path(base_text).read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def export(checkpoint: str, folder: str, to: Literal["diffusers"] = "diffusers",
           dtype: Literal["float16", "float32"] = "float32", base: str | None = None) -> None:
    """Write a customised model as an ordinary diffusers folder that any stock pipeline loads.

    Args:
        checkpoint: a .ckpt of ``spf fit``.
        folder: a new folder.
        to: the layout.
        dtype: of the weights.
        base: the original model, where the checkpoint's own name for it does not hold on this machine.
    """
    load_customised(checkpoint, base)[1].save(folder, getattr(torch, dtype))
    print(f"exported to {folder}")


def miniature(
    out: str = "runs/miniature",
    vae_steps: int = 2400,
    clip_steps: int = 650,
    clip_image_steps: int = 500,
    unet_steps: int = 2800,
    portraits: int = 12_000,
) -> None:
    """Train every network of the miniature from nothing; each part resumes where it stopped.

    Args:
        out: where the base model's folder is made; copy it over ``spf/miniature/weights`` to ship it.
        vae_steps: of the VAE, batch 12.
        clip_steps: of CLIP, 96 portraits each.
        clip_image_steps: of CLIP's image tower alone, after that.
        unet_steps: of the UNet, batch 32.
        portraits: how many the UNet learns from.
    """
    recipe = Path("experiments/miniature/pretrain.yaml")
    if not recipe.is_file():
        raise FileNotFoundError(f"{recipe} is not here: call this from the checkout of SPF-Portrait")
    work, model = Path(out), Path(out) / "model"
    pretrain.pretrain_general_models(model, vae_steps, clip_steps, clip_image_steps)
    pretrain.lay_out_base_model(model)
    source = pretrain.paint_pretraining_portraits(work / "portraits", portraits)
    fit(["-c", str(recipe), "--run", str(work / "unet"), "--data.source", str(source),
         "--model.base", str(model), "--trainer.max_steps", str(unet_steps)])
    pretrain.ship(model, work / "unet" / "checkpoints" / "last.ckpt", work / "weights")
    print(f"the miniature is in {work / 'weights'}")


COMMANDS = {
    "fit": fit,
    "generate": generate,
    "export": export,
    "miniature": miniature,
    "portraits": {"paint": paint_portraits, "world": sheet.world},
}


def main(args: list[str] | None = None) -> None:
    """Entry point of ``spf`` and ``python -m spf``; a user's mistake is one line, not a traceback."""
    args = sys.argv[1:] if args is None else args
    try:
        if args[:1] == ["fit"]:
            fit(args[1:])
        else:
            auto_cli(COMMANDS, args=args, as_positional=True, prog="spf")
    except (OSError, ValueError) as error:
        if os.environ.get("SPF_TRACEBACK"):
            raise
        # a data worker wraps its error in its traceback
        sys.exit(f"spf: {str(error).rpartition('PortraitError: ')[2]}\n(SPF_TRACEBACK=1 shows where)")


if __name__ == "__main__":
    main()
