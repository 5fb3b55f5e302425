"""What the shipped miniature can do, measured on people painted for the occasion whom no training has seen.

    python benchmarks/miniature.py [--quick] [--weights DIR]

The last line is JSON: ``vae_psnr`` in dB; shares in [0,1] of portraits whose target CLIP names from its phrase alone
(``clip_target_accuracy``), and of base samples (20 DDIM steps, CFG 4) whose hair colour, clothing colour and background
are as the text says; ``weights_mb``. The samples are judged by CLIP among all values of the attribute: each share is
printed beside the same judge's share on painted portraits, its ceiling. (A judge that shares nothing with the model is
to follow.)
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from spf.backbones import BASES, load_backbone
from spf.clip import Clip
from spf.miniature.painter import paint
from spf.miniature.people import ATTRIBUTES, PHRASES, TARGETS, Person, base_text, draw_people, target_text
from spf.miniature.vae import psnr
from spf.pictures import labelled_grid, save_png
from spf.sampling import generate
from spf.text import Prompt

SEED = 90_000
JUDGED = {"hair_colour": "hair", "garment_colour": "clothing", "background_colour": "setting", "background": "setting"}


def vae_psnr(weights: Path, count: int) -> float:
    """dB on people with and without targets, from both studios."""
    backbone = load_backbone(weights)
    people = [*draw_people(count // 2, SEED, (None, *TARGETS), held_out=True),
              *draw_people(count // 2, SEED + 1, (None, *TARGETS), "away", held_out=True)]
    image = paint(people)
    with torch.no_grad():
        decoded = torch.cat([backbone.decode(backbone.encode(some)) for some in image.split(16)])
    return float(psnr(decoded * 2 - 1, image * 2 - 1))


def target_accuracy(clip: Clip, count: int) -> float:
    """Share of portraits with a target whose own phrase, among all targets' phrases, is nearest."""
    names = list(TARGETS)
    people = draw_people(count, SEED + 2, tuple(names), held_out=True)
    scores = clip.image(paint(people)) @ clip.text([target_text(name) for name in names]).T
    return float((scores.argmax(1) == torch.arange(count) % len(names)).float().mean())


def named_by_clip(clip: Clip, images: Tensor, people: Sequence[Person], attribute: str) -> float:
    """Share of images whose phrase is nearest among those that differ from it in ``attribute`` alone."""
    wording, seen, right = PHRASES[JUDGED[attribute]][0], clip.image(images), 0
    for row, person in enumerate(people):
        texts = [wording.format(**{**person.attributes, attribute: value}) for value in ATTRIBUTES[attribute]]
        best = int((seen[row] @ clip.text(texts).T).argmax())
        right += ATTRIBUTES[attribute][best] == person.attributes[attribute]
    return right / len(people)


def measure(weights: Path, quick: bool, out: Path) -> dict[str, float]:
    """Every figure; the samples go to ``out`` beside painted portraits of the same texts."""
    clip, many = Clip.load(weights / "clip"), 1 if quick else 4
    people = draw_people(16 * many, SEED + 3, held_out=True)
    prompts = [Prompt(base_text(person)) for person in people]
    samples = generate(load_backbone(weights), prompts, range(len(prompts)), guidance_scale=4.0)
    painted = paint(people)
    pairs = torch.stack([painted, samples], 1)[:12].flatten(0, 1).unflatten(0, (3, 8))
    print(save_png(labelled_grid(pairs, ("painted", "sampled") * 4), out / "painted_sampled.png"))
    shares = {name: [named_by_clip(clip, images, people, name) for images in (samples, painted)] for name in JUDGED}
    for name, (share, ceiling) in shares.items():
        print(f"{name:18} samples {share:.3f}   painted {ceiling:.3f}")
    files = weights.rglob("*.safetensors")
    return {"vae_psnr": vae_psnr(weights, 32 * many), "clip_target_accuracy": target_accuracy(clip, 78 * many),
            "hair_colour": shares["hair_colour"][0], "clothing_colour": shares["garment_colour"][0],
            "background": min(shares["background_colour"][0], shares["background"][0]),
            "weights_mb": sum(file.stat().st_size for file in files) / 1e6}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer people: at most 40 s on 2 cores")
    parser.add_argument("--weights", type=Path, default=Path(BASES["miniature"]))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    figures = measure(options.weights, options.quick, options.out)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
