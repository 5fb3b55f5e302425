"""The plane, drawn: accuracy across, recovered preservation up, the curve of the free rivals, a legend by number."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from plane.rows import Row
from plane.standing import Standing, curve

PLOT = (90, 60, 790, 640)  # left, top, right, bottom
SIZE = (1290, 720)
INK, PALE, PAPER = (30, 30, 34), (222, 222, 226), (255, 255, 255)
COLOURS = {"stage 1": (30, 30, 34), "painted": (40, 140, 80), "free": (60, 100, 190), "row": (225, 130, 20)}
OURS = (205, 30, 45)
RADIUS = 6
Box = tuple[float, float, float, float]


class Chart:
    """A page and its scales: accuracy from 0 to 1, preservation between ``low`` and ``high``."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.page = Image.new("RGB", SIZE, PAPER)
        self.pen = ImageDraw.Draw(self.page)
        self.font = ImageFont.load_default(15)

    def at(self, across: float, up: float) -> tuple[float, float]:
        """The pixel of a point, kept inside the plot."""
        left, top, right, bottom = PLOT
        up = min(max(up, self.low), self.high)
        return left + across * (right - left), bottom - (up - self.low) / (self.high - self.low) * (bottom - top)

    def axes(self, title: str) -> None:
        """Frame, grid, numbers, names."""
        left, top, right, bottom = PLOT
        for number in np.linspace(0, 1, 11):
            x = self.at(number, self.low)[0]
            self.pen.line((x, top, x, bottom), PALE)
            self.pen.text((x, bottom + 8), f"{number:.1f}", INK, self.font, anchor="ma")
        for number in ticks(self.low, self.high):
            y = self.at(0, number)[1]
            self.pen.line((left, y, right, y), INK if abs(number) < 1e-9 else PALE)
            self.pen.text((left - 8, y), f"{number:.2f}", INK, self.font, anchor="rm")
        self.pen.rectangle(PLOT, outline=INK)
        self.pen.text(((left + right) / 2, bottom + 32), "target accuracy", INK, self.font, anchor="ma")
        up = "preservation recovered: 0 = stage 1, 1 = painted counterfactual"
        self.pen.text((left, top - 26), up, INK, self.font)
        self.pen.text((left, top - 50), title, INK, self.font)

    def free_curve(self, free: Sequence[Standing]) -> None:
        """The curve, level beyond the most accurate rival."""
        points = [(torch.full((201,), s.accuracy.value), torch.full((201,), s.preservation.value)) for s in free]
        across = torch.linspace(0, 1, 201)
        line = [self.at(float(x), float(y)) for x, y in zip(across, curve(across, points), strict=True)]
        self.pen.line(line, COLOURS["free"], 2)

    def bars(self, standing: Standing, colour: tuple[int, int, int]) -> None:
        """Both intervals of a point."""
        a, p = standing.accuracy, standing.preservation
        self.pen.line((*self.at(a.low, p.value), *self.at(a.high, p.value)), colour)
        self.pen.line((*self.at(a.value, p.low), *self.at(a.value, p.high)), colour)

    def points(self, standings: Sequence[Standing], colours: Sequence[tuple[int, int, int]]) -> None:
        """Dots, each with its number where no dot and no other number is."""
        centres = [self.at(s.accuracy.value, s.preservation.value) for s in standings]
        taken: list[Box] = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in centres]
        for number, (centre, box, colour) in enumerate(zip(centres, tuple(taken), colours, strict=True), 1):
            self.pen.ellipse(box, colour, PAPER)
            x, y = next(place for place in around(centre) if not any(overlap(label(place), t) for t in taken))
            taken.append(label((x, y)))
            self.pen.line((*centre, x, y), colour)
            self.pen.text((x, y), str(number), colour, self.font, "mm", stroke_width=2, stroke_fill=PAPER)

    def legend(self, names: Sequence[str], standings: Sequence[Standing],
               colours: Sequence[tuple[int, int, int]]) -> None:
        """Number, name, accuracy and preservation of each row, beside the plot."""
        left, y = PLOT[2] + 30, PLOT[1]
        self.pen.text((left, y - 26), "row (accuracy, preservation recovered)", INK, self.font)
        for number, (name, s, colour) in enumerate(zip(names, standings, colours, strict=True), 1):
            text = f"{number}  {name[:38]} ({s.accuracy.value:.2f}, {s.preservation.value:.2f})"
            self.pen.text((left, y + 24 * (number - 1)), text, colour, self.font)
        note = "line: the curve of the free rivals; bars: 95 %"
        self.pen.text((left, PLOT[3] - 20), note, COLOURS["free"], self.font)


def plane(rows: Sequence[Row], standings: Mapping[str, Standing], ours: str | None = None, title: str = "") -> Tensor:
    """All rows as one picture (3,height,width) in [0,1]; ``ours`` is drawn in red."""
    places = [standings[row.name] for row in rows]
    colours = [OURS if row.name == ours else COLOURS[row.kind] for row in rows]
    chart = Chart(*limits(places))
    chart.axes(title)
    chart.free_curve([s for s, row in zip(places, rows, strict=True) if row.kind in ("free", "stage 1")])
    for place, colour in zip(places, colours, strict=True):
        chart.bars(place, colour)
    chart.points(places, colours)
    chart.legend([row.name for row in rows], places, colours)
    return torch.from_numpy(np.array(chart.page)).permute(2, 0, 1) / 255


def limits(places: Sequence[Standing]) -> tuple[float, float]:
    """Preservation from below the lowest point and 0 to above the highest and 1."""
    values = [0.0, 1.0, *(s.preservation.value for s in places)]
    room = 0.08 * (max(values) - min(values))
    return min(values) - room, max(values) + room


def ticks(low: float, high: float) -> np.ndarray:
    """About eight round numbers between."""
    step = next(s for s in (0.05, 0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 50, 1e9) if (high - low) / s <= 10)
    return np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step + 0.0  # no -0


def around(centre: tuple[float, float]) -> Iterator[tuple[float, float]]:
    """Places for a label, ever farther from its point."""
    for distance in range(18, 2000, 6):
        for angle in np.linspace(-np.pi / 4, 7 * np.pi / 4, 16, endpoint=False):
            yield centre[0] + distance * float(np.cos(angle)), centre[1] + distance * float(np.sin(angle))


def label(place: tuple[float, float]) -> Box:
    """The box of a number of two digits."""
    return place[0] - 10, place[1] - 9, place[0] + 10, place[1] + 9


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes share a pixel."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
