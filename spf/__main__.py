"""The command line: ``spf fit``, ``spf plan``, ``spf generate``, ``spf portraits``, ``spf export`` and the rest."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt
from torch import Tensor

from spf.backbones import BASES, load_backbone
from spf.cli.doctor import doctor
from spf.cli.fit import fit
from spf.cli.plan import plan
from spf.cli.test import test
from spf.clip import Clip
from spf.customised import Lineage, load_lineage
from spf.evaluation.phrase_masks import mask_portraits
from spf.evaluation.pickles import convert_mps
from spf.evaluation.triples import triples
from spf.figures import FIGURES
from spf.figures.asked import base_texts
from spf.miniature import pretrain, sheet
from spf.miniature.mmdit import lay_out_mmdit
from spf.miniature.shards import paint_portraits
from spf.pictures import labelled_grid, save_png
from spf.report.tables import tables
from spf.sampling import CHUNK
from spf.sampling import generate as sample
from spf.stages.similarity import mean_sfcm
from spf.text import Prompt
from spf.tuning.lora_files import LAYOUTS


def generate(
    base_text: str,
    target: str = "",
    checkpoint: str | None = None,
    base: str | None = None, start: str | None = None, clip: str | None = None, ema: bool = False,
    seed: int = 7,
    count: PositiveInt = 4,
    steps: PositiveInt = 20,
    guidance_scale: float = 7.5,
    scheduler: Literal["ddim", "base"] = "ddim",
    chunk: PositiveInt = CHUNK,
    out: str = "runs/generated",
) -> None:
    """Original beside customised: the base model on the base text, the customised one on base + target, same seeds.

    Of a model of stage 2 also the stage 1 that it began with, and the SFCM on its portraits: faded is not the target's.

    Args:
        base_text: what the original model is asked for, or a .txt file with one such text per line.
        target: the taught attribute, added to the base text for the customised model.
        checkpoint: a .ckpt of ``spf fit``, or a diffusers folder; without one the base model is shown beside itself.
        base: the original model; default: the one the checkpoint was trained from, else the miniature.
        start: where the stage 1 lies that a stage 2 started from; default: where it lay then.
        clip: which CLIP makes the SFCM; default: the one of the training.
        ema: show the averaged weights of the training, not its last ones.
        seed: of the first portrait; the others count up from it.
        count: portraits per base text.
        steps: solver steps.
        guidance_scale: of classifier-free guidance.
        scheduler: DDIM, or the base model's own.
        chunk: portraits made at a time; fewer take less memory.
        out: folder of the single images and of ``original_customised.png``.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = load_lineage(checkpoint, base, ema, start) if checkpoint else _alone(base or "miniature", ema)
    # before the work, so that what is missing is said at once
    embed = Clip.load(clip or made.clip).to(device).text if made.clip and target else None
    prompts = [Prompt(text, target) for text in base_texts(base_text) for _ in range(count)]
    seeds = [seed + index for index in range(len(prompts))]
    settings = {"steps": steps, "guidance_scale": guidance_scale, "scheduler": scheduler, "chunk": chunk}
    images = {name: sample(model.to(device), [prompt.base for prompt in prompts] if name == "original" else prompts,
                           seeds, **settings) for name, model in made.models.items()}
    if embed:
        images["SFCM"] = _lit(made, images, prompts, embed, chunk)
    _show(images, prompts, seeds, Path(out))


def _alone(base: str, ema: bool) -> Lineage:
    """The base model beside itself."""
    if ema:
        raise ValueError("--ema needs the --checkpoint that holds the averaged weights")
    model = load_backbone(base)
    return Lineage({"original": model, "customised": model})


def _lit(made: Lineage, images: dict[str, Tensor], prompts: list[Prompt], embed: Callable[[Sequence[str]], Tensor],
         chunk: int) -> Tensor:
    """The customised portraits, faded where the SFCM says that the target is not."""
    original, *_, customised = made.models.values()
    portraits = images[list(made.models)[-1]]
    maps = torch.cat([
        mean_sfcm(original, customised, portraits[i:i + chunk].to(original.device), prompts[i:i + chunk], embed).cpu()
        for i in range(0, len(prompts), chunk)])
    return torch.lerp(torch.tensor(0.93), portraits, 0.12 + 0.88 * maps[:, None])


def _show(images: dict[str, Tensor], prompts: list[Prompt], seeds: list[int], folder: Path) -> None:
    """The single images, and all of them in one labelled picture, a column a model: each (B,3,H,W)."""
    for name, column in images.items():
        for number, image in enumerate(column):
            save_png(image, folder / f"{number:03d}_seed{seeds[number]}_{name.replace(' ', '_')}.png")
    rows = [f"{prompt.base_text} | seed {seed}" for prompt, seed in zip(prompts, seeds, strict=True)]
    title = f"right of the original: + {prompts[0].target_text}" if prompts[0].target_text else ""
    picture = labelled_grid(torch.stack(list(images.values()), 1), tuple(images), rows, title)
    print(f"original beside customised: {save_png(picture, folder / 'original_customised.png')}")


def export(checkpoint: str, out: str, to: Literal["diffusers", "single_file", "lora", "kohya"] = "diffusers",
           dtype: Literal["float16", "float32"] = "float32", base: str | None = None, ema: bool = False,
           start: str | None = None) -> None:
    """Write a customised model as a diffusers folder or a single file that stock tools load, or its LoRA alone.

    Args:
        checkpoint: a .ckpt of ``spf fit``.
        out: a new folder; for single_file and kohya a new .safetensors file.
        to: the whole model as diffusers has it; what the original checkpoint of its kind holds, in its names, those of
            ComfyUI and Automatic1111; or of a LoRA or AdaLoRA what was added, in diffusers' or kohya's layout.
        dtype: of the weights.
        base: the original model, where the checkpoint's own name for it does not hold on this machine.
        ema: the averaged weights of the training, not its last ones.
        start: likewise, the stage 1 that a stage 2 started from.

    Raises ValueError for a model with layers that no stock pipeline has, or without a LoRA where that is asked for.
    """
    made = load_lineage(checkpoint, base, ema, start)
    if not made.exportable:
        raise ValueError(f"{checkpoint} has layers of its own (a parallel adapter), which no stock pipeline reads: use "
                         "it by `spf generate`, or train with --model.tuning CrossAttention")
    *_, before, _ = made.models
    *_, customised = made.models.values()
    if to in ("diffusers", "single_file"):
        save = customised.save if to == "diffusers" else customised.save_single_file
        save(out, getattr(torch, dtype))
        print(f"exported to {out}")
    elif made.low_rank and made.low_rank.layers:
        LAYOUTS[to](made.low_rank, customised, Path(out), getattr(torch, dtype))
        print(f"exported to {out}: a LoRA, to be loaded on the model called {before!r}")
    else:
        raise ValueError(f"{checkpoint} holds no LoRA: train with --model.tuning LoRA or AdaLoRA, or export the whole "
                         "model by --to diffusers")


def miniature(
    out: str = "runs/miniature",
    steps: pretrain.Steps = pretrain.FULL,
    unet_steps: int = 2700,
    portraits: int = 12_000,
) -> None:
    """Train every network of the miniature from nothing; each part resumes where it stopped.

    Args:
        out: where the base model's folder is made; copy it over ``spf/miniature/weights`` to ship it.
        steps: of the VAE, of CLIP and of the reader judge.
        unet_steps: of the UNet, batch 32.
        portraits: how many the UNet learns from.
    """
    _insist_on_checkout()
    pretrain.pretrain_general_models(Path(out) / "model", steps)
    pretrain.lay_out_base_model(Path(out) / "model")
    _pretrain("miniature", Path(out), "unet", unet_steps, portraits)


def miniature_mmdit(out: str = "runs/miniature_mmdit", t5_steps: int = 600, transformer_steps: int = 4000,
                    portraits: int = 12_000) -> None:
    """Train the second miniature, an MM-DiT as Stable Diffusion 3.5 is, beside the first; each part resumes.

    Args:
        out: where the base model's folder is made; to ship it copy it over ``spf/miniature/weights_mmdit``, with
            links for the VAE, the CLIPs and their tokenizers, which ``spf/miniature/weights`` has.
        t5_steps: of its T5; VAE and CLIP are those of the miniature.
        transformer_steps: of the MM-DiT, batch 32.
        portraits: how many it learns from.
    """
    _insist_on_checkout()
    lay_out_mmdit(Path(out) / "model", Path(BASES["miniature"]), t5_steps)
    _pretrain("miniature_mmdit", Path(out), "transformer", transformer_steps, portraits)


def _insist_on_checkout() -> None:
    if not Path("experiments/miniature/pretrain.yaml").is_file():
        raise FileNotFoundError("experiments/miniature/pretrain.yaml is not here: call this from the checkout of "
                                "SPF-Portrait")


def _pretrain(base: str, work: Path, denoiser: str, steps: int, portraits: int) -> None:
    """Train the denoiser that ``work/model`` lacks, and lay all of it out in ``work/weights``."""
    source = pretrain.paint_pretraining_portraits(work / "portraits", portraits)
    fit(["-c", f"experiments/{base}/pretrain.yaml", "--run", str(work / denoiser), "--data.source", str(source),
         "--model.base", str(work / "model"), "--trainer.max_steps", str(steps)])
    network = load_backbone(work / "model", random_denoiser=True).denoiser
    pretrain.ship(work / "model", denoiser, network, work / denoiser / "checkpoints" / "last.ckpt", work / "weights")
    print(f"the {base} is in {work / 'weights'}")


COMMANDS = {
    "fit": fit,
    "test": test,
    "plan": plan,
    "doctor": doctor,
    "generate": generate,
    "export": export,
    "miniature": miniature,
    "miniature_mmdit": miniature_mmdit,
    "portraits": {"paint": paint_portraits, "world": sheet.world, "masks": mask_portraits},
    "triples": triples,
    "tables": tables,
    "convert_mps": convert_mps,
    "figures": FIGURES,
}
"""Plain functions: their arguments are the options."""
READERS: dict[str, Callable[[list[str]], None]] = {"fit": fit, "test": test, "doctor": doctor}
"""What reads its arguments itself."""


def main(args: list[str] | None = None) -> None:
    """Entry point of ``spf`` and ``python -m spf``; a user's mistake is one line, not a traceback."""
    args = sys.argv[1:] if args is None else args
    try:
        if args and args[0] in READERS:
            READERS[args[0]](args[1:])
        else:
            auto_cli(COMMANDS, args=args, as_positional=True, prog="spf")
    except (OSError, ValueError) as error:
        if os.environ.get("SPF_TRACEBACK"):
            raise
        # a data worker wraps its error in its traceback
        sys.exit(f"spf: {str(error).rpartition('PortraitError: ')[2]}\n(SPF_TRACEBACK=1 shows where)")


if __name__ == "__main__":
    main()
