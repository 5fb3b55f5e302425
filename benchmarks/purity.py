"""How pure a customisation is: of 96 held-out triples, how often the target appears and how much of the original stays.

    python benchmarks/purity.py --stage1 CKPT [--row NAME=CKPT ...] [--free NAME=CKPT ...] [--ours NAME]
                                [--split validation|test] [--count N] [--steps N] [--out DIR]
    python benchmarks/purity.py --pick DIR          # the stopping rule of stage 1, on the validation split
    python benchmarks/purity.py --train [--jobs N]  # everything, from the portraits to the test split; hours
    python benchmarks/purity.py --ship STAGE1 STAGE2
    python benchmarks/purity.py --quick             # the shipped stage 1 and 2 on 32 fresh triples

Fractions are recovered ones: 0 = stage 1, 1 = the original with the target painted on. Free rivals are what costs
nothing: earlier checkpoints, stage 2 without alignment, weight interpolations, the original model given the full text
(the last two are made here). Each model's portraits are made once and kept in OUT/portraits. The last line is JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from plane import picture, stopping, training
from plane.album import Album, Sampling
from plane.differences import apply_difference, save_difference
from plane.judge import hits
from plane.rows import FULL_TEXT, PAINTED, SHARES, STAGE1, Bench, Row, interpolated
from plane.standing import Sheet, Standing, standings
from plane.table import contact_sheet, table
from plane.triples import draw_triples, prompts

from spf.backbones import BASES, Backbone, load_backbone
from spf.customised import load_customised
from spf.miniature.reader import Reader
from spf.pictures import save_png

SHIPPED = Path(__file__).parent / "checkpoints"
RANK = 26  # of the shipped stage 1: a third of the file; on 96 portraits the SFCM has an AUROC of .857, not .861
QUICK, PICK, COUNT = 32, 48, 96  # triples


def main() -> None:
    """Do what was asked for."""
    options = arguments()
    if options.quick:
        quick(options)
    elif options.train:
        train(options)
    elif options.ship:
        ship(*options.ship)
    elif options.pick:
        pick(options)
    else:
        measure(options)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    todo = parser.add_mutually_exclusive_group(required=True)
    todo.add_argument("--stage1", type=Path, metavar="CKPT", help="place rows on the plane, against this stage 1")
    todo.add_argument("--pick", type=Path, metavar="DIR", help="choose among the checkpoints of a stage 1")
    todo.add_argument("--ship", type=Path, nargs=2, metavar="CKPT", help="write both into benchmarks/checkpoints")
    todo.add_argument("--train", action="store_true", help="train every row, then measure them on the test split")
    todo.add_argument("--quick", action="store_true", help="the shipped pair on fresh triples")
    parser.add_argument("--row", type=named, action="append", default=[], metavar="NAME=CKPT", help="to be examined")
    parser.add_argument("--free", type=named, action="append", default=[], metavar="NAME=CKPT", help="a free rival")
    parser.add_argument("--ours", metavar="NAME", help="the row that the last line and the picture are about")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--count", type=int, help=f"triples; {COUNT}, or {PICK} to pick")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--steps", type=int, default=20, help="of DDIM")
    parser.add_argument("--weights", type=Path, default=Path(BASES["miniature"]), help="the folder of the reader judge")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/purity"))
    options = parser.parse_args()
    if options.ours and options.ours not in dict(options.row):
        parser.error(f"--ours {options.ours} is no --row")
    return options


def named(text: str) -> tuple[str, Path]:
    """NAME=CKPT; the checkpoint's own name may hold an equals sign."""
    name, equals, file = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=CKPT")
    return name, Path(file)


def measure(options: argparse.Namespace) -> None:
    """Every row of the command line on the plane."""
    original, stage1 = load_customised(options.stage1)
    bench = _bench(options, original, options.split, options.count or COUNT, options.out / "portraits")
    rows = []
    for name, kind, model in _models(options, original, stage1):
        start = time.perf_counter()
        rows.append(bench.row(name, model, kind))
        print(f"{name}: {float(rows[-1].judged.accuracy.mean()):.3f}, {time.perf_counter() - start:.0f} s", flush=True)
    rows.append(bench.painted())
    _write(options, bench, rows)


def _bench(options: argparse.Namespace, original: Backbone, split: str, count: int, kept: Path) -> Bench:
    album = Album(kept, Sampling(options.steps))
    return Bench(original, Reader.load(options.weights), draw_triples(split, count), album)


def _models(options: argparse.Namespace, original: Backbone, stage1: Backbone) -> Iterator[tuple[str, str, Backbone]]:
    """(name, kind, model), one at a time."""
    yield STAGE1, "stage 1", stage1
    yield FULL_TEXT, "free", original
    for share in SHARES:
        yield f"{STAGE1} x {share:g}", "free", interpolated(original, stage1, share)
    for kind, asked in (("free", options.free), ("row", options.row)):
        for name, file in asked:
            yield name, kind, load_customised(file)[1]


def _write(options: argparse.Namespace, bench: Bench, rows: list[Row]) -> None:
    """Numbers, sheet, table, picture; last the line of JSON."""
    found = placed(rows)
    for row in rows:
        row.save(options.out / options.split)
    of_what = f"{options.split} split, {len(bench.triples)} triples, {options.steps} steps"
    text = table(rows, found)
    (options.out / "purity.md").write_text(f"# Purity: {of_what}\n\n{text}\n")
    print(text)
    print(save_png(contact_sheet(bench.originals, rows, bench.targets), options.out / "portraits.png"))
    print(save_png(picture.plane(rows, found, options.ours, of_what), options.out / "plane.png"))
    shown = [options.ours] if options.ours else [row.name for row in rows]
    print(json.dumps({name: {key: value.rounded() for key, value in vars(found[name]).items()} for name in shown}))


def placed(rows: list[Row]) -> dict[str, Standing]:
    """The standing of every row."""
    free = [row.name for row in rows if row.kind == "free"]
    judged = {row.name: row.judged for row in rows}
    return standings(judged, free, STAGE1, PAINTED, Sheet.draw(len(rows[0].portraits)))


def train(options: argparse.Namespace) -> None:
    """Section by section what the report says: stage 1, where it stops, stage 2 and its bounds, the plane."""
    training.paint(options.out)
    options.pick = training.stage1(options.out)
    checkpoints = stopping.step_checkpoints(options.pick)
    options.stage1 = checkpoints[step := pick(options)]
    rows = training.stage2(options.out, options.stage1, options.jobs)
    free = "all lambdas 0"
    earlier = [each for each in checkpoints if each < step and each % 100 == 0]
    options.free = [(f"step {each}", checkpoints[each]) for each in earlier] + [(free, rows.pop(free))]
    options.row, options.ours, options.split, options.count = list(rows.items()), "stage 2", "test", COUNT
    measure(options)


def pick(options: argparse.Namespace) -> int:
    """Print the validation accuracy of every step's checkpoint, and the step that the stopping rule takes."""
    checkpoints = stopping.step_checkpoints(options.pick)
    triples = draw_triples("validation", options.count or PICK)
    album, reader = Album(options.out / "portraits", Sampling(options.steps)), Reader.load(options.weights)
    targets, accuracy = [triple.target for triple in triples], {}
    print("| step | target accuracy |\n|---|---|")
    for step, file in checkpoints.items():
        portraits = album.portraits(load_customised(file)[1], prompts(triples), [triple.seed for triple in triples])
        accuracy[step] = float(hits(reader.read(portraits), targets).mean())
        print(f"| {step} | {accuracy[step]:.3f} |", flush=True)
    step = stopping.pick(accuracy)
    print(json.dumps({"plateau": round(stopping.plateau(list(accuracy.values())), 3), "step": step,
                      "accuracy": round(accuracy[step], 3), "checkpoint": str(checkpoints[step])}))
    return step


def ship(stage1: Path, stage2: Path) -> None:
    """Write the shipped pair: stage 1 as a difference of low rank to the base model, stage 2 as one to stage 1."""
    original, first = load_customised(stage1)
    states = [model.denoiser.state_dict() for model in (original, first, load_customised(stage2)[1])]
    for number, rank in ((1, RANK), (2, None)):
        file = SHIPPED / f"stage{number}.safetensors"
        save_difference(states[number - 1], states[number], file, rank)
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


def quick(options: argparse.Namespace) -> None:
    """Measure the shipped stage 1 and stage 2 again, on triples that chose nothing."""
    original = load_backbone(options.weights)
    models = [original]
    for number in (1, 2):
        file = SHIPPED / f"stage{number}.safetensors"
        if not file.is_file():
            sys.exit(f"{file} is absent: `python benchmarks/purity.py --ship STAGE1 STAGE2` writes it")
        models.append(models[-1].frozen_copy())
        apply_difference(models[-1].denoiser, file)
    with tempfile.TemporaryDirectory() as folder:  # or a second run would measure nothing
        bench = _bench(options, original, "fresh", QUICK, Path(folder))
        rows = [bench.row(STAGE1, models[1], "stage 1"), bench.row("stage 2", models[2]), bench.painted()]
    found = placed(rows)
    first, second = found[STAGE1], found["stage 2"]
    figures = {"recovered_preservation": second.preservation, "recovered_identity": second.identity,
               "accuracy_stage1": first.accuracy, "accuracy_stage2": second.accuracy}
    print(json.dumps({name: round(figure.value, 3) for name, figure in figures.items()}))


if __name__ == "__main__":
    main()
