"""What was measured of the paper's comparison, held against the paper: reads committed results and trains nothing.

    python benchmarks/comparison.py [--quick] [--results DIR] [--base NAME] [--out FILE]
    python benchmarks/comparison.py --signs   # for each row the comment lines in which its YAML says what to expect
    python benchmarks/comparison.py --cells results/NAME-grids   # the commands of the cells that are not there yet

First of all every summary must follow from the rows beside it: where one does not, a line says which, and the exit
status is 1. Orderings are measured, never required: each of the paper's (its Tables 1, 5 and 6: every baseline against
standard fine-tuning, every row against ours) is held or not. Rows of the tables lie in DIR/NAME, those of further
seeds in DIR/NAME-seedN, the cells of the baselines' grids in DIR/NAME-grids.

The last line of ``--quick`` is JSON:

- ``rows``: results of seed 0
- ``orderings_held``, ``orderings_total``: of the paper's orderings whose rows and column are measured
- ``budget_spread``: samples seen by the trained rows of Table 1, the largest over the smallest; at most 1.1; 0 where no
  row says it

With ``--quick``, ``--out`` is a folder, in which ``quick.md`` is written.
"""

import argparse
import json
import sys
from pathlib import Path

from comparing.budgets import budgets, spread
from comparing.cells import commands
from comparing.checks import Checks, check
from comparing.orderings import orderings
from comparing.reading import Archive
from comparing.report import report, verdict
from comparing.signs import header, printed

from spf.files import whole


def main() -> None:
    """Check, and print what was asked for."""
    options = _options()
    if options.signs:
        print("\n\n".join(f"{row}\n{lines}" for row in printed() if (lines := header(row))))
        sys.exit()
    if options.cells:
        print("\n".join(commands(options.base, options.cells)))
        sys.exit()
    archive = Archive.read(options.results, options.base)
    if not (archive.own or archive.faults):
        sys.exit(f"{options.results / options.base} holds no results: `make eval BASE={options.base}` measures them "
                 f"into results/{options.base}; copy them from there, each with its .rows.jsonl")
    checks = check(archive)
    if options.quick:
        hurried(archive, checks, options.out)
    elif checks.faults:  # a report with wrong numbers would be worse than none
        print(*verdict(checks), sep="\n")
    else:
        _put(report(archive, checks), options.out)
    sys.exit(1 if checks.faults else 0)


def hurried(archive: Archive, checks: Checks, out: Path | None) -> None:
    """The figures; with ``out`` also ``quick.md`` in that folder."""
    found = orderings(archive.own)
    figures = {"rows": len(archive.own), "orderings_held": sum(one.held for one in found),
               "orderings_total": len(found), "budget_spread": round(spread(budgets(archive.own)), 3)}
    lines = ["# The paper's comparison, hurried", "", *verdict(checks), "", "| figure | |", "|---|---:|",
             *(f"| {name} | {figure} |" for name, figure in figures.items())]
    _put("\n".join(lines) + "\n", out / "quick.md" if out else None)
    print(json.dumps(figures))


def _put(text: str, file: Path | None) -> None:
    """On the screen, and into a file where one is given."""
    print(text, flush=True)
    if file:
        with whole(file) as partial:
            partial.write_text(text, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the checks and the JSON")
    parser.add_argument("--signs", action="store_true", help="what the paper lets expect of each row")
    parser.add_argument("--cells", type=Path, metavar="DIR", help="the commands of the grids' cells that DIR lacks")
    parser.add_argument("--results", type=Path, default=Path("experiments/results"), help="committed results of bases")
    parser.add_argument("--base", default="miniature", help="whose results")
    parser.add_argument("--out", type=Path, help="the report's file; with --quick a folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
