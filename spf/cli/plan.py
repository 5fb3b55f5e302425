"""``spf plan``: what the commands of a dry run will take, by 20 steps of each kind; refuses what is too long."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from jsonargparse.typing import PositiveInt

from spf.cli.left import MEASURING, Portraits, Task, Training, tasks
from spf.cli.timing import STEPS, seconds_each

Seconds = Callable[[Training | Portraits], float]
UNITS = {"fit": "steps", "triples": "portraits", "test": "portraits"}


def plan(budget_minutes: float = 100, jobs: PositiveInt = 1) -> None:
    """Say what the commands on standard input will take: ``make -n eval | spf plan``.

    `spf fit`, `spf test` and `spf triples` are counted, by what is left of them; each kind is timed for 20 steps.

    Args:
        budget_minutes: a plan that takes longer is an error.
        jobs: how many commands run at a time, on a machine that has room for them.

    Raises ValueError for a plan above the budget, or a command that spf does not understand.
    """
    start = time.process_time()  # what every command takes to begin: this one has just done the same
    if sys.stdin.isatty():
        raise ValueError("the plan is of the commands on standard input: make -n eval | spf plan")
    with TemporaryDirectory(prefix="spf-plan-") as folder:
        forecast(sys.stdin.read(), partial(seconds_each, folder=Path(folder)), start, budget_minutes, jobs)


def forecast(dry_run: str, seconds: Seconds, start: float, budget: float, jobs: int) -> None:
    """Print a line a command and the sum, in minutes; ``seconds`` times what costs the same once, ``start`` is seconds.

    Raises ValueError where the sum is above the ``budget``.
    """
    left = [task for task in tasks(dry_run) if task.turns]
    if not left:
        print("plan: nothing is left to do")
        return
    each = _timed(left, seconds)
    minutes = {task.name: (start + task.turns * each[task.cost]) / 60 for task in left}
    print(f"minutes: with {start:.0f} s to start each, and measuring at {MEASURING:.0%} of making")
    width = max(map(len, minutes))
    for task in left:
        print(f"{task.name:{width}}  {task.left:7,} {UNITS[task.verb]:9}  {each[task.cost]:8.2f} s each  "
              f"{minutes[task.name]:7.1f} min")
    _conclude(left, sum(minutes.values()), budget, jobs)


def _timed(left: Sequence[Task], seconds: Seconds) -> dict[Training | Portraits, float]:
    """Seconds by cost."""
    each = dict[Training | Portraits, float]()
    for task in left:
        if task.cost not in each:
            print(f"timing {STEPS} steps as of {task.name}", flush=True)
            try:
                each[task.cost] = seconds(task.cost)
            except (OSError, ValueError) as error:
                raise ValueError(f"{task.name} cannot be timed: {error}") from error
    return each


def _conclude(left: Sequence[Task], minutes: float, budget: float, jobs: int) -> None:
    """The sum, against the budget."""
    counts = [_counted(left, "fit", "training"), _counted(left, "triples", "test set"), _counted(left, "test", "row")]
    shared = f" ({jobs} at a time: {minutes / jobs:.0f}, if the machine has room)" if jobs > 1 else ""
    print(f"plan: {', '.join(filter(None, counts))}: {minutes:.0f} of {budget:g} minutes{shared}", flush=True)
    if minutes / jobs > budget:
        raise ValueError(f"the plan takes {minutes / jobs:.0f} minutes and the budget is {budget:g}: give "
                         f"BUDGET_MINUTES={math.ceil(minutes / jobs)}, fewer rows by ROWS=\"ours without_sfcm\", or "
                         "more machines")


def _counted(left: Sequence[Task], verb: str, name: str) -> str:
    count = sum(task.verb == verb for task in left)
    return f"{count} {name}{'s' * (count > 1)}" if count else ""
