"""What the metrics cost, beside the packages that they come from, on the same images with the same random weights.

    python benchmarks/metrics.py [--quick] [--sam vit_b|vit_l|vit_h] [--threads N] [--out DIR]

Pairs are painted portraits in PNG files. The suite's side is ``measure`` as `spf test` calls it, with a store of
encodings on disk; a package's side is what its users write from the same files, batch by batch. Both share one network,
take turns, and are held to the same numbers in every round (those of the package), or nothing is reported. Loading
weights is nobody's time. A second method is measured with the store that the first has filled.

ID's detector is hand-built and free on both sides, as its published file cannot be had. MPS and ImageReward have no
package that installs, so they stand alone. Everything is on the CPU.

The last line is JSON, of all metrics together, medians over rounds of ratios in the same round:

- ``suite_over_packages``: seconds of the suite over the packages one after another; lower is better, at most 1
- ``second_method_speedup``: times that a second method on the same originals is faster; higher is better, 1.8 at least
- ``fid_seconds``: FID of 5000 pairs from 2048 features each; lower is better, below 10 on 2 cores
- ``images_per_second``: of the whole suite, an image through all metrics; higher is better

``--quick`` has tiny networks, of which SAM is the slowest as in reality, and portraits of 128 pixels. Without it
``metrics.md`` is written: real sizes at 512 pixels, a process each, so that memory is a metric's own.
"""

import argparse
import json
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from machine.memory import fresh, resident
from machine.processor import processor
from metering import scale, table
from metering.contests import contests
from metering.portraits import Portraits
from metering.racing import Found, images_per_second, over_packages, race, second_speedup

QUICK_PAIRS, QUICK_SIZE, QUICK_ROUNDS = 8, 128, 3
SIZE, ROUNDS = 512, 2
PAIRS = {"fid": 16, "fid_clean": 16, "lpips": 16, "id": 16, "clip": 4, "clip_b32": 16, "seg_cons": 1, "hpsv2_1": 2,
         "mps": 2, "image_reward": 4}
"""At real sizes: what takes no more than minutes on 2 cores."""
WORLDS = (1, 64)


def main() -> None:
    """Measure and print."""
    options = _options()
    torch.set_num_threads(options.threads)
    found, fid_seconds = hurried() if options.quick else report(options)
    every = [*found.values()]
    print("\n".join(map(str, table.bars(every, fid_seconds))))
    figures = {"suite_over_packages": over_packages(every), "second_method_speedup": second_speedup(every),
               "fid_seconds": fid_seconds, "images_per_second": images_per_second(every)}
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def hurried() -> tuple[dict[str, Found], float]:
    """Tiny networks side by side in this process, and FID's seconds."""
    with TemporaryDirectory() as place:
        portraits = Portraits.painted(Path(place), QUICK_PAIRS, QUICK_SIZE)
        built = {name: build(False, portraits) for name, build in contests("tiny").items()}
        found = race(built, portraits, QUICK_ROUNDS)
    print(table.HEAD, *(table.row(name, one) for name, one in found.items()), *table.whole(found), sep="\n")
    return found, scale.suite_seconds("fid")[0]


def report(options: argparse.Namespace) -> tuple[dict[str, Found], float]:
    """Real sizes one at a time, FID and KID at scale, all of it in ``metrics.md``."""
    lines = [f"# The metrics beside their packages, {date.today()}", "",
             f"Random weights of the real sizes, {SIZE} pixels, {options.threads} threads, {processor()}; "
             f"medians of {ROUNDS} rounds.",
             "GiB: the greatest resident memory of a process of its own while either side runs, less the libraries'.",
             "", table.HEAD]
    found: dict[str, Found] = {}
    for name in contests(options.sam):
        found[name], libraries = fresh(one_metric, name, options.sam)
        lines.append(table.row(name, found[name], libraries))
        print(lines[-1], flush=True)
    packages = (scale.by_package, scale.by_torchmetrics)
    seconds = {name: [fresh(scale.suite_seconds, name)[0],
                      *(fresh(scale.package_seconds, name, package)[0] for package in packages)]
               for name in scale.METRICS}
    exchanges = {name: [fresh(scale.exchange, name, world) for world in WORLDS] for name in scale.METRICS}
    fid_seconds = seconds["fid"][0]
    lines += ["", *table.whole(found), "", "| bar | measured | wanted | |\n|---|---|---|---|",
              *map(str, table.bars([*found.values()], fid_seconds)), "", *table.scale(seconds, exchanges)]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "metrics.md").write_text("\n".join(lines) + "\n")
    return found, fid_seconds


def one_metric(name: str, sam: str) -> tuple[Found, float]:
    """A metric at its real size, and GiB of the libraries; in a fresh process."""
    libraries = resident()
    with TemporaryDirectory() as place:
        portraits = Portraits.painted(Path(place), PAIRS[name], SIZE)
        contest = contests(sam)[name](True, portraits)
        return race({name: contest}, portraits, ROUNDS, watch=True)[name], libraries


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny networks and the JSON, in 40 s")
    parser.add_argument("--sam", choices=("vit_b", "vit_l", "vit_h"), default="vit_b",
                        help="at real sizes; ViT-H, which is the metric's own, takes minutes an image on a CPU")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
