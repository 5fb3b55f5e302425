"""How well the SFCM (Eq. 7) finds the painter's true response region, from the two paths at the same noisy portrait.

    python benchmarks/localization.py [--backbone unet|mmdit | --response STAGE1] [--after STAGE2]
                                      [--split validation|test] [--count N]
    python benchmarks/localization.py --quick                      # the shipped stage 1 on fresh portraits

Held-out people of the away studio with hat, glasses, scarf or beard, t = 100, 300, 500, 700, 900. A cell of the latent
grid lies in the region by a share, which is its weight in the AUROC; inside and outside are the map's means there.
--out DIR gets localization.md and localization.png. The last line is JSON, of the model after stage 1; gain = SFCM - M.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from localizing import readings, report
from localizing.rows import Gammas
from localizing.scenes import TIMES, contextual_gamma, draw_scene, observe, pooled_gamma
from plane.differences import apply_difference
from plane.standing import Sheet

from spf.backbones import BASES, Backbone, load_backbone
from spf.clip import Clip
from spf.customised import load_customised
from spf.pictures import save_png

SHIPPED = Path(__file__).parent / "checkpoints" / "stage1.safetensors"
MINIATURES = {"unet": "miniature", "mmdit": "miniature_mmdit"}
QUICK, COUNTS = 48, {"validation": 250, "test": 500}  # portraits
AFTER1 = "after stage 1"


def main() -> None:
    """Measure, write, print."""
    options = arguments()
    original, stage1 = shipped(options.weights) if options.quick else load_customised(options.response)
    count = QUICK if options.quick else options.count or COUNTS[options.split]
    split = "fresh" if options.quick else options.split
    scene = draw_scene(original, split, count)
    clip = Clip.load(options.weights / "clip")
    gammas = Gammas(pooled_gamma(clip, scene.prompts), contextual_gamma(original, scene.prompts))
    sheet, pages = Sheet.draw(count), [f"# Localisation: {split} split, {count} portraits"]
    figures = {}
    for name, model in models(options, original, stage1):
        found = report.Found({t: observe(original, model, scene, t) for t in TIMES}, scene, gammas)
        for part in page(name, found, sheet, options.quick):
            print(part, end="\n\n", flush=True)
            pages.append(part)
        if name == AFTER1:
            figures = report.summary(found.scores(readings.METHOD), sheet)
            print(save_png(report.picture(found, readings.METHOD), options.out / "localization.png"))
    (options.out / "localization.md").write_text("\n\n".join(pages) + "\n")
    print(json.dumps(figures))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    todo = parser.add_mutually_exclusive_group()
    todo.add_argument("--response", type=Path, metavar="CKPT",
                      help="of stage 1, or of any customised model; default: what `make train-stage1` made")
    todo.add_argument("--backbone", choices=tuple(MINIATURES), default="unet", help="of which miniature that is")
    todo.add_argument("--quick", action="store_true", help="the shipped stage 1, fewer portraits, only the rows")
    parser.add_argument("--after", type=Path, metavar="CKPT", help="of stage 2, to be measured too")
    parser.add_argument("--split", choices=tuple(COUNTS), default="validation")
    parser.add_argument("--count", type=int, help="portraits; 250 of validation, 500 of test")
    parser.add_argument("--weights", type=Path, default=Path(BASES["miniature"]), help="the miniature's folder")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/localization"))
    options = parser.parse_args()
    made = Path("runs") / MINIATURES[options.backbone] / "stage1" / "checkpoints" / "last.ckpt"
    options.response = options.response or made
    return options


def shipped(weights: Path) -> tuple[Backbone, Backbone]:
    """The base model, and the stage 1 that is shipped as a difference to it."""
    if not SHIPPED.is_file():
        sys.exit(f"{SHIPPED} is absent: `python benchmarks/purity.py --ship STAGE1 STAGE2` writes it")
    original = load_backbone(weights)
    stage1 = original.frozen_copy()
    apply_difference(stage1.denoiser, SHIPPED)
    return original, stage1


def models(options: argparse.Namespace, original: Backbone, stage1: Backbone) -> Iterator[tuple[str, Backbone]]:
    """Whose response is read: one at a time."""
    if not options.quick:
        yield "before any stage", original
    yield AFTER1, stage1
    if options.after:
        yield "after stage 2", load_customised(options.after)[1]


def page(name: str, found: report.Found, sheet: Sheet, quick: bool) -> Iterator[str]:
    """The tables of one model: rows under the method's own reading, and all readings but when hurried."""
    yield f"## {name[0].upper()}{name[1:]}"
    yield report.tables(found.scores(readings.METHOD), sheet)
    if not quick and name == AFTER1:
        yield "### Each tensor brought to [0,1] by itself"
        yield report.tables(found.scores(readings.PRINTED), sheet)
        yield "### Readings of Eq. 7, in one thing other than the first of each table"
        for chosen in (readings.METHOD, readings.PRINTED):
            yield report.readings_table(found, readings.around(chosen), sheet)


if __name__ == "__main__":
    main()
