"""What the method needs of the base model and of CLIP: phrase maps that localise, a gamma that means something."""

from collections import defaultdict

import torch
from torch.nn import functional as F
from torchmetrics.functional import spearman_corrcoef
from torchmetrics.functional.classification import binary_auroc

from card.networks import SEED, decoded
from spf.backbones import Backbone
from spf.clip import Clip, cosine
from spf.method.response import phrase_attention
from spf.miniature.painter import paint, paint_with_parts, response_region
from spf.miniature.people import PHRASE_PARTS, TARGETS, Person, base_text, draw_people, phrase, target_text
from spf.miniature.truth import phrase_regions
from spf.text import Prompt

TIMES = (100, 300, 500, 700, 900)


def prompts(people: list[Person]) -> list[Prompt]:
    """Canonical base texts with their five phrases."""
    return [Prompt(base_text(p), phrases=tuple(phrase(p, name) for name in PHRASE_PARTS)) for p in people]


@torch.no_grad()
def phrase_auroc(backbone: Backbone, count: int) -> dict[str, dict[int, float]]:
    """How well a phrase's attention (Eq. 6) finds the part it speaks of, by phrase and by side of the layer's grid."""
    people = draw_people(count, SEED + 10, held_out=True)
    image, parts = paint_with_parts(people)
    truth, x0, scores = phrase_regions(parts), backbone.encode(image), defaultdict(list)
    conditions, noise = backbone.condition(prompts(people)), torch.randn(x0.shape, generator=_generator())
    for time in TIMES:
        t = torch.full((count,), time)
        x_t = backbone.process.noised(x0, noise, t)
        for record in backbone.denoise(x_t, t, conditions, capture=True).attention:
            maps = phrase_attention(record, conditions.phrase_weights).flatten(2)  # (B,P,N)
            masks = F.adaptive_avg_pool2d(truth, record.grid).flatten(2) > 0.5
            for column, name in enumerate(PHRASE_PARTS):
                shown = [row for row, mask in enumerate(masks[:, column]) if mask.any() and not mask.all()]
                scores[name, record.grid[0]] += [float(binary_auroc(maps[row, column], masks[row, column].int()))
                                                 for row in shown]
    means: dict[str, dict[int, float]] = defaultdict(dict)
    for (name, side), values in scores.items():
        if values:  # a coarse grid may have no cell that is mostly the phrase's
            means[name][side] = sum(values) / len(values)
    return dict(means)


def gamma_spearman(clip: Clip, each: int) -> float:
    """Rank correlation, over people, targets and phrases, of gamma(phrase, target) (Eq. 7, both texts alone) with the
    share of the target's true region that lies in the phrase's part."""
    people = draw_people(each * len(TARGETS), SEED + 11, tuple(TARGETS), held_out=True)
    region = response_region(people)[:, None]
    truth = phrase_regions(paint_with_parts([person.without_target() for person in people])[1])
    overlap = (truth * region).flatten(2).sum(-1) / region.flatten(2).sum(-1)
    targets = clip.text([target_text(person.target) for person in people])
    gamma = [cosine(clip.text([phrase(person, name) for person in people]), targets) for name in PHRASE_PARTS]
    return float(spearman_corrcoef(torch.stack(gamma, 1).flatten(), overlap.flatten()))


def clip_space(clip: Clip, backbone: Backbone, count: int) -> dict[str, float]:
    """Distance of the mean image from the mean text, mean cosine of matched pairs and of mismatched ones."""
    people = draw_people(count, SEED + 12, (None, *TARGETS), held_out=True)
    images = clip.image(decoded(backbone, paint(people)))
    texts = clip.text([Prompt(base_text(p), target_text(p.target)).full_text for p in people])
    cosines = images @ texts.T
    return {"modality_gap": float((images.mean(0) - texts.mean(0)).norm()),
            "matched_cosine": float(cosines.diagonal().mean()),
            "mismatched_cosine": float((cosines.sum() - cosines.trace()) / (count * count - count))}


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)
