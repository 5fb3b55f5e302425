"""Figures 5, 6, 9, 13 and 14 of the paper, from the portraits and results that ``spf test`` has left on disk."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse.typing import PositiveInt
from PIL import Image
from torch import Tensor

from spf.files import read_json, read_lines
from spf.pictures import labelled_grid, save_png
from spf.report.figures_chart import Curve, Panel, drawn
from spf.report.results import Result, differences, read_result

LAMBDAS = {"m_text": "lambda_1 (m_text)", "m_fine": "lambda_2 (m_fine)", "enhanced": "lambda_3 (enhanced)"}
"""The three segments of Fig. 14: keys of the objective and what they are called."""

QUALITY = ("image_reward", "repaint")
"""What tells the quality of an image in Fig. 5, as results name it: the paper's, and what the miniature has instead."""


# ---- Figures 6, 9 and 13: portraits ----


def qualitative(rows: list[str], ids: list[str] | None = None, count: PositiveInt = 6,
                out: Path = Path("runs/figures/qualitative.png")) -> Path:
    """The original portrait beside what each method made of it: Fig. 6 (methods), 9 (ablations), 13 (reconstruction).

    Args:
        rows: run directories of `spf test`, a column each; for Fig. 13 of runs that read the base text alone.
        ids: which of the test set; default: its first ones, so that nobody has chosen them.
        count: how many, where no ids are given.
        out: file of the picture.

    Raises ValueError where the runs are not of one test set, or do not read the same; FileNotFoundError for what is
    not there.
    """
    runs = {Path(row): read_json(Path(row) / "manifest.json") for row in rows}
    originals = Path(_common(runs, "originals"))
    names_target = _common(runs, "reads", "full_text") == "full_text"
    samples = {line["id"]: line for line in read_lines(originals / "metadata.jsonl")}
    if unknown := [name for name in ids or () if name not in samples]:
        raise ValueError(f"{originals} holds no triple {unknown[0]!r}")
    lines = [samples[name] for name in ids or list(samples)[:count]]
    pictures = torch.stack([_beside(originals / line["file_name"], [run / "portraits" / f"{line['id']}.png"
                                                                   for run in runs]) for line in lines])
    captions = [f"{line['base_text']} + {line['target_text']}" if names_target else line["base_text"] for line in lines]
    names = ("original", *(about["row"] for about in runs.values()))
    return _written(labelled_grid(pictures, names, captions), out)


def _common(runs: Mapping[Path, Mapping[str, Any]], key: str, default: str = "") -> str:
    """What all runs say of ``key``."""
    said = {run: about.get(key, default) for run, about in runs.items()}
    first, value = next(iter(said.items()))
    for run, other in said.items():
        if other != value:
            raise ValueError(f"{first} and {run} differ in {key}: {value} against {other}; one figure compares like "
                             "with like")
    return value


def _beside(original: Path, others: Sequence[Path]) -> Tensor:
    """(1+K,3,H,W) in [0,1], all as large as the original."""
    first = _picture(original)
    return torch.stack([_tensor(first), *(_tensor(_picture(file).resize(first.size)) for file in others)])


def _picture(file: Path) -> Image.Image:
    if not file.is_file():
        raise FileNotFoundError(f"there is no portrait {file}: give the `spf test` command of its run again")
    return Image.open(file).convert("RGB")


def _tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255


# ---- Figure 5: fidelity and quality while the target is enhanced ----


def fidelity(results: list[str], out: Path = Path("runs/figures/fidelity.png")) -> Path:
    """Image quality and CLIP-T over the steps of a training, a line a method: Fig. 5.

    The quality is ImageReward; where a result has none, it is the miniature's repaint residual, named so on the axis.

    Args:
        results: results of `spf test`, one for each measured checkpoint of each method.
        out: file of the picture.

    Raises ValueError where a result lacks what is drawn, or two were not measured alike.
    """
    found = _comparable(results)
    quality = next((key for key in QUALITY if all(_measured(one, key) for one in found)), QUALITY[0])
    keys = (quality, "clip_t")
    _insist_alike(found, keys)
    methods: dict[str, list[Result]] = defaultdict(list)
    for one in sorted(found, key=lambda one: _fact(one, "step")):
        methods[one.row].append(one)
    panels = [Panel("step of the training", _axis(found[0], key), [
        _curve(name, [(_fact(one, "step"), one) for one in some], key) for name, some in methods.items()])
        for key in keys]
    about = f"{found[0].base}, {found[0].test_set['count']} pairs; bars: 95 % intervals"
    return _written(drawn(panels, list(methods), about), out)


# ---- Figure 14: sensitivity to the weights of the losses ----


def sensitivity(results: list[str], level: str | None = None, column: str = "fid",
                out: Path = Path("runs/figures/sensitivity.png")) -> Path:
    """FID over each of the three lambdas of Eq. 11, the other two kept: the three segments of Fig. 14.

    Args:
        results: results of `spf test` of models that differ from one of them in one lambda each.
        level: a result that is drawn as a dashed line, as the paper's "w/o SFCM".
        column: which number is drawn, by its key.
        out: file of the picture.

    Raises ValueError where a result lacks what is drawn, two were not measured alike, or two lambdas differ at once.
    """
    found = _comparable(results)
    held = read_result(Path(level)) if level else None
    _insist_alike([*found, *([held] if held else [])], [column])
    objectives = [{key: float(_fact(one, "objective")[key]) for key in LAMBDAS} for one in found]
    centre, panels = _centre(objectives), []
    name = found[objectives.index(centre)].row
    for key, label in LAMBDAS.items():
        some = sorted(((objective[key], one) for objective, one in zip(objectives, found, strict=True)
                       if _changed(centre, objective) <= {key}), key=lambda pair: pair[0])
        panels.append(Panel(label, _axis(found[0], column), [_curve(name, some, column)],
                            _mean(held, column) if held else None))
    kept = ", ".join(f"{key} {value:g}" for key, value in centre.items())
    title = f"the two other lambdas of each plot: {kept}" + (f"; dashed: {held.row}" if held else "")
    return _written(drawn(panels, [name], title, shared=True), out)


def _centre(objectives: Sequence[dict[str, float]]) -> dict[str, float]:
    """The lambdas from which all others differ in one at most."""
    for centre in objectives:
        if all(len(_changed(centre, other)) <= 1 for other in objectives):
            return centre
    raise ValueError("more than one lambda differs between results: vary them one at a time around one model")


def _changed(one: Mapping[str, float], other: Mapping[str, float]) -> set[str]:
    return {key for key in one if one[key] != other[key]}


# ---- results ----


def _comparable(files: Sequence[str]) -> list[Result]:
    if not files:
        raise ValueError("a figure needs at least one result")
    return [read_result(Path(file)) for file in files]


def _insist_alike(results: Sequence[Result], keys: Sequence[str]) -> None:
    for difference in differences(results, keys):
        raise ValueError(f"{difference}; one figure compares like with like")


def _curve(name: str, results: Sequence[tuple[float, Result]], key: str) -> Curve:
    return Curve(name, [(place, _mean(one, key)) for place, one in results],
                 [one.summary[key].ci95 for _, one in results])


def _measured(result: Result, key: str) -> bool:
    return key in result.summary and result.summary[key].mean is not None


def _mean(result: Result, key: str) -> float:
    if not _measured(result, key):
        raise ValueError(f"{result.file} has no {key}: {result.absent.get(key, 'measure it by `spf test`')}")
    return result.summary[key].mean


def _fact(result: Result, key: str) -> Any:
    """What its manifest says of the checkpoint."""
    if result.manifest.get(key) is None:
        raise ValueError(f"{result.file} does not say the {key} of its checkpoint: measure one of `spf fit`")
    return result.manifest[key]


def _axis(result: Result, key: str) -> str:
    column = result.columns.get(key)
    if column is None:
        return key
    return f"{column.label} ({'higher' if column.higher_is_better else 'lower'} is better)"


def _written(picture: Tensor, out: Path) -> Path:
    print(save_png(picture, out))
    return Path(out)
