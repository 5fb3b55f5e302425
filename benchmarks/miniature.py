"""The report card of the miniature, measured on people painted for the occasion whom no training has seen.

    python benchmarks/miniature.py [--backbone unet|mmdit] [--quick] [--weights DIR] [--out DIR]

A figure with an aim stands beside it, and beside its hard floor; the preconditions of the method, which pretraining
asks for (grounded attention; texts that point at patches), are printed even when missed. Whole, it trains stage 1 for
STEPS steps and writes ``report.md``; ``--quick`` measures fewer people and a shorter stage 1, and writes ``quick.md``.
The second miniature, the MM-DiT, has the VAE, CLIP and reader of the first: its card is of samples and preconditions.
The last line is JSON: ``vae_psnr`` in dB; accuracies, AUROC, IoU and samples as the text says from 0 to 1;
correlation, cosines and distances as such; ``pollution`` 1 where nothing of the original is left.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from card import networks, preconditions
from card.networks import mean
from card.pollution import Pollution, pollution, stage1
from torch import Tensor

from spf.backbones import BASES, load_backbone
from spf.clip import Clip
from spf.miniature.painter import paint
from spf.miniature.people import Person, base_text, draw_people
from spf.miniature.reader import Reader
from spf.pictures import labelled_grid, save_png
from spf.sampling import generate
from spf.text import Prompt

TARGET = "glasses"
STEPS, QUICK_STEPS = 600, 120  # of stage 1


@dataclass(frozen=True)
class Figure:
    """One line of the card; a figure without a floor is a precondition or information."""

    name: str
    value: float
    aim: str = ""
    floor: float | None = None

    def row(self) -> str:
        """As a line of a Markdown table."""
        floor = "" if self.floor is None else f"{self.floor:g} {'met' if self.value >= self.floor else '**missed**'}"
        return f"| {self.name} | {self.value:.3f} | {self.aim} | {floor} |"


class Card:
    """The networks of a folder, and all that is measured on them."""

    def __init__(self, base: str, weights: Path, quick: bool, out: Path) -> None:
        self.base, self.weights, self.quick, self.out = base, weights, quick, out
        general = weights if base == "miniature" else Path(BASES["miniature"])
        self.many = 1 if quick else 4
        self.backbone, self.reader = load_backbone(weights), Reader.load(general)
        self.clip = Clip.load(general / "clip")
        self.people: list[Person] = draw_people(16 * self.many, networks.SEED + 3, held_out=True)

    def vae(self) -> Iterable[Figure]:
        """Reconstruction."""
        yield Figure("vae_psnr", networks.vae_psnr(self.backbone, 32 * self.many), "30 dB", 27)

    def clip_figures(self) -> Iterable[Figure]:
        """What CLIP knows, after the VAE."""
        by_target, pairs = networks.clip_by_target(self.clip, self.backbone, 6 * self.many)
        by_phrase = networks.clip_by_phrase(self.clip, networks.decoded(self.backbone, paint(self.people)), self.people)
        yield Figure("clip_target_accuracy", mean(by_target), "0.95", 0.90)
        yield from (Figure(f"clip target: {name}", share) for name, share in by_target.items())
        yield Figure("clip_phrase_accuracy", mean(by_phrase), "0.90", 0.85)
        yield from (Figure(f"clip phrase: {name}", share) for name, share in by_phrase.items())
        yield Figure("clip_pair_accuracy", pairs, "0.95", 0.90)
        space = preconditions.clip_space(self.clip, self.backbone, 32 * self.many)
        yield from (Figure(name, value) for name, value in space.items())

    def reader_figures(self) -> Iterable[Figure]:
        """Whether the judge can be trusted, after the VAE."""
        read = networks.reader_accuracy(self.reader, self.backbone, 2 * self.many)
        yield Figure("reader_target_accuracy", mean(read["targets"]))
        yield from (Figure(f"reader target: {name}", share) for name, share in read["targets"].items())
        yield Figure("reader_attribute_accuracy", mean(read["attributes"]))
        yield from (Figure(f"reader attribute: {name}", share) for name, share in read["attributes"].items())
        yield from (Figure(f"reader error: {name}", error) for name, error in read["errors"].items())
        yield Figure("identity_auc", networks.identity_auc(self.reader, self.backbone, 32 * self.many), "0.98", 0.95)
        parts = networks.part_miou(self.reader, self.backbone, 32 * self.many)
        yield Figure("part_miou", mean(parts), "0.90", 0.80)
        yield from (Figure(f"part IoU: {name}", share) for name, share in parts.items())

    def sample_figures(self) -> Iterable[Figure]:
        """The base model's own portraits, 20 DDIM steps at CFG 4, as the reader sees them."""
        texts = [Prompt(base_text(person)) for person in self.people]
        samples = generate(self.backbone, texts, range(len(texts)), guidance_scale=4.0, progress=False)
        self.show(torch.stack([paint(self.people), samples], 1), ("painted", "sampled"), "painted_sampled.png")
        seen = networks.as_the_text_says(self.reader, samples, self.people)
        yield Figure("hair_colour", seen["hair_colour"], "0.90", 0.80)
        yield Figure("clothing_colour", seen["garment_colour"], "0.90", 0.80)
        yield Figure("background", min(seen["background"], seen["background_colour"]), "0.90", 0.80)
        yield from (Figure(f"sample: {name}", seen[name]) for name in ("hair_style", "skin", "garment"))
        on_samples = networks.with_targets(self.reader, samples, self.backbone)
        yield Figure("reader_target_accuracy_on_samples", mean(on_samples))
        yield from (Figure(f"reader on samples: {name}", share) for name, share in on_samples.items())
        residuals = networks.residuals(self.reader, self.backbone, samples, self.people)
        yield from (Figure(f"repaint residual: {name}", value) for name, value in residuals.items())

    def method_figures(self) -> Iterable[Figure]:
        """The preconditions of the method."""
        auroc = preconditions.phrase_auroc(self.backbone, 8 * self.many)
        yield Figure("phrase_auroc", mean({n: mean(sides) for n, sides in auroc.items()}), "0.75")
        yield from (Figure(f"phrase AUROC: {name}, {side} x {side}", value)
                    for name, sides in auroc.items() for side, value in sorted(sides.items()))
        yield Figure("gamma_spearman", preconditions.gamma_spearman(self.clip, 8 * self.many), "0.3")
        found = self.pollution()
        yield Figure("stage1_target_accuracy", found.target_accuracy, "0.85")
        yield Figure("pollution", found.mean, "0.3 to 0.9")
        yield Figure("pollution of glasses merely painted on", found.zero)
        yield from (Figure(f"pollution: {name}", value) for name, value in found.by_factor.items())
        yield Figure("unconditional_drift", found.unconditional_drift)

    def pollution(self) -> Pollution:
        """Stage 1 on glasses, and what it did."""
        tuned = stage1(self.base, self.weights, self.out, QUICK_STEPS if self.quick else STEPS, TARGET)
        found = pollution(self.backbone, tuned, self.reader, 12 * self.many, TARGET)
        self.show(found.images, ("original", "stage 1"), "pollution.png")
        return found

    def show(self, pairs: Tensor, columns: tuple[str, str], name: str) -> None:
        """Up to twelve pairs (B,2,3,R,R) as a picture."""
        rows = pairs[:12].flatten(0, 1).unflatten(0, (-1, 8 if len(pairs) % 4 == 0 else 2))
        print(save_png(labelled_grid(rows, columns * (rows.shape[1] // 2)), self.out / name))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer people, a shorter stage 1")
    parser.add_argument("--backbone", choices=("unet", "mmdit"), default="unet")
    parser.add_argument("--weights", type=Path, help="other weights than the shipped ones")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    base = "miniature" if options.backbone == "unet" else "miniature_mmdit"
    weights = options.weights or Path(BASES[base])
    card = Card(base, weights, options.quick, options.out)
    general = (card.vae, card.clip_figures, card.reader_figures) if base == "miniature" else ()
    lines = [f"# The report card of {base}, {date.today()}", "", "| figure | value | aim | floor |",
             "|---|---|---|---|"]
    figures: dict[str, float] = {}
    for section in (*general, card.sample_figures, card.method_figures):
        for figure in section():
            lines.append(figure.row())
            print(lines[-1], flush=True)
            figures[figure.name] = round(figure.value, 3)
    megabytes = sum(file.stat().st_size for file in weights.rglob("*.safetensors")) / 1e6
    report = options.out / ("quick.md" if options.quick else "report.md")
    report.write_text("\n".join([*lines, "", f"Weights: {megabytes:.1f} MB."]) + "\n")
    named = {name: value for name, value in figures.items() if " " not in name}
    print(json.dumps({**named, "weights_mb": round(megabytes, 1)}))


if __name__ == "__main__":
    main()
