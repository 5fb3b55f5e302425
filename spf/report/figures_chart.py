"""Curves beside each other on one page: axes, lines, intervals, a legend."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 480, 400, 78, 72, 64, 18  # of a panel, and what surrounds its plot
LEGEND, RADIUS, DASH = 24, 4, 7
INK, PALE, PAPER = (30, 30, 34), (225, 225, 229), (255, 255, 255)
COLOURS = ((205, 30, 45), (60, 100, 190), (40, 140, 80), (225, 130, 20), (130, 70, 160), (90, 90, 96))
LEVEL = (225, 130, 20)
Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """One line: its points from left to right, each with its interval upwards where there is one."""

    name: str
    points: Sequence[Point]
    intervals: Sequence[tuple[float, float] | None] = ()


@dataclass(frozen=True)
class Panel:
    """One plot: what runs across, what runs up, the curves, and a dashed level that they are held against."""

    across: str
    up: str
    curves: Sequence[Curve]
    level: float | None = None

    def heights(self) -> list[float]:
        """Every number that must lie inside the plot."""
        values = [y for curve in self.curves for _, y in curve.points]
        values += [edge for curve in self.curves for interval in curve.intervals if interval for edge in interval]
        return values if self.level is None else [*values, self.level]


def drawn(panels: Sequence[Panel], names: Sequence[str], title: str = "", shared: bool = False) -> Tensor:
    """Panels from left to right, ``names`` beneath in the curves' colours: a picture (3,height,width) in [0,1].

    ``shared``: all panels have one scale upwards. A curve has the colour of its name's place in ``names``.
    """
    page = Image.new("RGB", (WIDTH * len(panels), HEIGHT + LEGEND), PAPER)
    together = [value for panel in panels for value in panel.heights()]
    for number, panel in enumerate(panels):
        plot = Plot(page, number * WIDTH, panel, together if shared else panel.heights())
        plot.axes()
        for curve in panel.curves:
            plot.curve(curve, names.index(curve.name))
    _write(page, title, names)
    return torch.from_numpy(np.array(page)).permute(2, 0, 1) / 255


def _write(page: Image.Image, title: str, names: Sequence[str]) -> None:
    pen, font, x = ImageDraw.Draw(page), ImageFont.load_default(14), float(LEFT)
    pen.text((LEFT, 10), title, INK, font)
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        pen.line((x, HEIGHT + 6, x + 22, HEIGHT + 6), colour, 3)
        pen.text((x + 28, HEIGHT + 6), name, colour, font, "lm")
        x += 52 + font.getlength(name)


class Plot:
    """A panel with its scales, on a page."""

    def __init__(self, page: Image.Image, left: int, panel: Panel, heights: Sequence[float]) -> None:
        self.panel, self.pen, self.font = panel, ImageDraw.Draw(page), ImageFont.load_default(14)
        self.box = (left + LEFT, TOP, left + WIDTH - RIGHT, HEIGHT - BOTTOM)
        places = [x for curve in panel.curves for x, _ in curve.points]
        self.x, self.y = limits(places), limits(heights)

    def at(self, x: float, y: float) -> Point:
        """The pixel of a point."""
        left, top, right, bottom = self.box
        across, up = ((value - low) / (high - low) for value, (low, high) in ((x, self.x), (y, self.y)))
        return left + across * (right - left), bottom - up * (bottom - top)

    def axes(self) -> None:
        """Frame, grid, numbers, names, and the level."""
        left, top, right, bottom = self.box
        for number in ticks(*self.x):
            x = self.at(number, self.y[0])[0]
            self.pen.line((x, top, x, bottom), PALE)
            self.pen.text((x, bottom + 8), f"{number:.6g}", INK, self.font, "ma")
        for number in ticks(*self.y):
            y = self.at(self.x[0], number)[1]
            self.pen.line((left, y, right, y), PALE)
            self.pen.text((left - 8, y), f"{number:.6g}", INK, self.font, "rm")
        self.pen.rectangle(self.box, outline=INK)
        self.pen.text(((left + right) / 2, bottom + 30), self.panel.across, INK, self.font, "ma")
        self.pen.text((left, top - 24), self.panel.up, INK, self.font)
        if self.panel.level is not None:
            y = self.at(self.x[0], self.panel.level)[1]
            for x in range(left, right - DASH, 2 * DASH):
                self.pen.line((x, y, x + DASH, y), LEVEL, 2)

    def curve(self, curve: Curve, number: int) -> None:
        """The line, its points, their intervals; these a little beside those of curves before, lest they hide them."""
        colour = COLOURS[number % len(COLOURS)]
        self.pen.line([self.at(*point) for point in curve.points], colour, 3)
        for (x, _), interval in zip(curve.points, curve.intervals, strict=False):
            if interval:
                (across, start), (_, end) = (self.at(x, edge) for edge in interval)
                self.pen.line((across + 3 * number, start, across + 3 * number, end), colour)
        for x, y in (self.at(*point) for point in curve.points):
            self.pen.ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), colour)


def limits(values: Sequence[float]) -> tuple[float, float]:
    """From a little below the least to a little above the greatest."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    return low - room, high + room


def ticks(low: float, high: float) -> list[float]:
    """At most six round numbers between."""
    rough = (high - low) / 6
    scale = 10 ** np.floor(np.log10(rough))
    step = scale * next(factor for factor in (1, 2, 5, 10) if factor * scale >= rough)
    return [float(round(number * step, 12)) for number in range(int(np.ceil(low / step)), int(high // step) + 1)]
