"""What stage 1 does to the miniature: the target it learns, and what it pollutes."""

from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from lightning import Trainer
from torch import Tensor

from card.networks import SEED, dressed, mean
from spf.backbones import Backbone
from spf.miniature.people import IDENTITY, NUISANCE, Person, base_text, draw_people, target_text
from spf.miniature.reader import Reader, factor_errors
from spf.miniature.shards import paint_portraits
from spf.portraits.datamodule import PortraitData
from spf.sampling import generate
from spf.stages.fine_tuning import StandardFineTuning
from spf.text import Prompt

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
UNNAMED = (*IDENTITY, *NUISANCE["home"])


@dataclass(frozen=True)
class Pollution:
    """``by_factor`` is the distance to the original over that between random portraits: 1 = lost, more = driven off.

    ``zero`` is the mean of the same ratios for the originals on which the target is merely painted: what the reader's
    errors and a covered eye or brow amount to.
    """

    target_accuracy: float
    by_factor: dict[str, float]
    zero: float
    unconditional_drift: float
    images: Tensor  # (B,2,3,R,R) original, customised

    @property
    def mean(self) -> float:
        """Over the unnamed factors."""
        return mean(self.by_factor)


def stage1(base: str, weights: Path, folder: Path, steps: int, target: str) -> Backbone:
    """Stage 1 by the recipe of ``base``, on ``target`` from the away studio."""
    recipe = yaml.safe_load((EXPERIMENTS / base / "stage1.yaml").read_text())
    source = paint_portraits(folder / f"away_{target}", 512, targets=(target,), seed=SEED)
    module = StandardFineTuning(**recipe["model"]["init_args"] | {"base": str(weights)})
    trainer = Trainer(**recipe["trainer"] | {"max_steps": steps}, devices=1, logger=False, enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(module, PortraitData(**recipe["data"] | {"source": str(source)}))
    return module.backbone.eval()


def pollution(original: Backbone, tuned: Backbone, reader: Reader, count: int, target: str) -> Pollution:
    """Compare portraits of the same seeds, base text by the original and base + target text by the tuned model."""
    people = draw_people(count, SEED + 20, held_out=True)
    prompts = [Prompt(base_text(person), target_text(target)) for person in people]
    before = generate(original, [prompt.base for prompt in prompts], range(count), guidance_scale=4.0, progress=False)
    after = generate(tuned, prompts, range(count), guidance_scale=4.0, progress=False)
    painted = dressed(reader, before, original, target)
    read, changed, only_dressed = (reader.read(image).people() for image in (before, after, painted))
    accuracy = sum(person.target == target for person in changed) / count
    return Pollution(accuracy, ratios(read, changed), mean(ratios(read, only_dressed)), drift(original, tuned, count),
                     torch.stack([before, after], 1))


def ratios(before: list[Person], after: list[Person]) -> dict[str, float]:
    """How far each unnamed factor moved, over how far it lies apart in two random portraits of the two studios."""
    anyone = [*draw_people(500, SEED + 21), *draw_people(500, SEED + 22, studio="away")]
    moved, apart = factor_errors(before, after), factor_errors(anyone, [*anyone[1::2], *anyone[::2]])
    return {name: float(moved[name].mean() / apart[name].mean()) for name in UNNAMED}


@torch.no_grad()
def drift(original: Backbone, tuned: Backbone, count: int) -> float:
    """How far the output on the empty text moved: |tuned - original| / |original|, in the middle of the process."""
    x_t = torch.randn(count, *original.latent_shape(), generator=torch.Generator().manual_seed(SEED))
    t = torch.full((count,), 500)
    outputs = [model.denoise(x_t, t, model.condition([Prompt("")] * count)).output for model in (original, tuned)]
    return float((outputs[1] - outputs[0]).norm() / outputs[0].norm())
