"""Scores with paired bootstrap intervals, as Markdown tables, and a picture of the maps."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from plane.standing import Interval, Sheet, interval
from torch import Tensor
from torch.nn import functional as F

from localizing.readings import Reading
from localizing.rows import PERMUTED, SFCM, Gammas, M, control_maps
from localizing.scenes import TARGETS, TIMES, Observation, Scene
from localizing.scores import SCORES
from spf.miniature.people import PHRASE_PARTS
from spf.pictures import labelled_grid

Scores = Mapping[str, Tensor]
"""Of each row: (4,T,n), AUROC, soft IoU, inside and outside of n portraits at T timesteps."""

SHOWN_AT, SIDE = 500, 96


class Found(NamedTuple):
    """What was measured between the original and one model."""

    observations: Mapping[int, Observation]
    scene: Scene
    gammas: Gammas

    def scores(self, reading: Reading, rows: Sequence[str] = ()) -> Scores:
        """Of ``rows``, by default of all."""
        at = [control_maps(reading, seen, self.scene, self.gammas) for seen in self.observations.values()]
        return {row: torch.stack([scored([maps[row] for maps in at], name, self.scene.truth) for name in SCORES])
                for row in rows or at[0]}


def scored(maps: Sequence[Tensor], score: str, truth: Tensor) -> Tensor:
    """One score of T maps (n,h,w): (T,n). Only a ranking reads a map that is no weight as it is."""
    weights = maps if score == "AUROC" else [values.clamp(0, 1) for values in maps]
    return torch.stack([SCORES[score](values, truth) for values in weights])


def gain(scores: Scores, sheet: Sheet, row: str, score: int = 0) -> Interval:
    """How much better ``row`` scores than M, portrait by portrait, over all timesteps."""
    return interval(sheet.means((scores[row] - scores[M])[score].mean(0)))


def tables(scores: Scores, sheet: Sheet) -> str:
    """Rows x scores, rows x timesteps, rows x targets."""
    overall = _table(("row", *SCORES, "AUROC over M", "soft IoU over M"), (
        (row, *(interval(sheet.means(column)) for column in values.mean(1)), gain(scores, sheet, row),
         gain(scores, sheet, row, 1)) for row, values in scores.items()))
    by_time = _table(("AUROC at t =", *map(str, TIMES)), (
        (row, *(interval(sheet.means(column)) for column in values[0])) for row, values in scores.items()))
    by_target = _table(("AUROC, inside, outside", *TARGETS), ((row, *_by_target(v)) for row, v in scores.items()))
    return f"{overall}\n\n{by_time}\n\n{by_target}"


def _by_target(values: Tensor) -> list[str]:
    """The targets stand in turn."""
    turns = values.mean(1)[[0, 2, 3]].unfold(1, len(TARGETS), len(TARGETS)).mean(1)  # (3,K)
    return [", ".join(f"{number:.3f}" for number in column) for column in turns.T]


def readings_table(found: Found, readings: Sequence[Reading], sheet: Sheet) -> str:
    """One reading of Eq. 7 a line, its SFCM beside M alone under the same smoothing and normalisation."""
    return _table(("reading", *(f"{row}: {score}" for row in ("M", SFCM) for score in SCORES), "AUROC gain",
                   "inside - outside, gain"), (_reading_row(found, reading, sheet) for reading in readings))


def _reading_row(found: Found, reading: Reading, sheet: Sheet) -> tuple[object, ...]:
    scores = found.scores(reading, (M, SFCM))
    means = (f"{float(column.mean()):.3f}" for row in (M, SFCM) for column in scores[row])
    apart = {row: values[2] - values[3] for row, values in scores.items()}
    return (reading.name, *means, gain(scores, sheet, SFCM),
            interval(sheet.means((apart[SFCM] - apart[M]).mean(0))))


def _table(head: Sequence[str], rows: object) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def summary(scores: Scores, sheet: Sheet) -> dict[str, float]:
    """The line of JSON."""
    value, low, high = gain(scores, sheet, SFCM)
    means = {f"auroc_{name}": float(scores[row][0].mean())
             for name, row in (("soft_map", M), ("sfcm", SFCM), ("permuted", PERMUTED))}
    figures = {"auroc_soft_map": means["auroc_soft_map"], "auroc_sfcm": means["auroc_sfcm"], "auroc_gain": value,
               "auroc_gain_low": low, "auroc_gain_high": high, "auroc_permuted": means["auroc_permuted"]}
    return {name: round(figure, 4) for name, figure in figures.items()}


def picture(found: Found, reading: Reading, shown: int = 8) -> Tensor:
    """Portrait, M, phrase maps, SFCM, truth, side by side, gamma below: (3,height,width) in [0,1]."""
    scene, seen = found.scene, found.observations[SHOWN_AT]
    maps = control_maps(reading, seen, scene, found.gammas)
    gamma = reading.rescaled(found.gammas.of(reading).clamp(0, 1))
    phrases = reading.phrase_maps(seen.attention)
    phrases = phrases / phrases.amax((-3, -2, -1), keepdim=True)
    columns = torch.stack([maps[M], *phrases.unbind(1), maps[SFCM], scene.truth], 1)[:shown]
    grey = F.interpolate(columns, (SIDE, SIDE))[:, :, None].expand(-1, -1, 3, -1, -1)
    images = F.interpolate(scene.images[:shown], (SIDE, SIDE), mode="bilinear", antialias=True)
    notes = [f"{prompt.target_text}; gamma: " + ", ".join(f"{name} {value:.2f}" for name, value in zip(
        PHRASE_PARTS, row.tolist(), strict=True)) for prompt, row in zip(scene.prompts, gamma, strict=True)]
    names = ("portrait", "M", *PHRASE_PARTS, "SFCM", "truth")
    return labelled_grid(torch.cat([images[:, None], grey], 1), names, notes[:shown], f"{reading.name}, t = {SHOWN_AT}")
