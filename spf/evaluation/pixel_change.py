"""How far a baseline moves the portraits, beside itself at neutral strength (a training: with its own terms at 0)."""

from collections.abc import Sequence
from pathlib import Path

from spf.evaluation.images import PictureError, look_at, read_picture


def mean_pixel_change(portraits: Path, neutral: Path, names: Sequence[str]) -> float:
    """The mean absolute difference of all portraits' pixels, in 8-bit steps, [0,255].

    Args:
        portraits: folder of the baseline's, such as the ``portraits`` of a `spf test` run.
        neutral: of the same test triples and seeds at neutral strength (TokenCompose: standard fine-tuning).
        names: of the files in both.

    Raises PictureError where one of them lacks a portrait, or two differ in size.
    """
    return sum(_change(portraits / name, neutral / name) for name in names) / len(names)


def _change(one: Path, other: Path) -> float:
    before, after = (read_picture(look_at(file).path).float() for file in (one, other))
    if before.shape != after.shape:
        raise PictureError(f"{one} and {other} are not of one size: give portraits of the same test triples")
    return float((before - after).abs().mean())
