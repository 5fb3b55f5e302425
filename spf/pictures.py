"""Images into labelled pictures, and pictures into files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from spf.files import whole

MARGIN, INK, PAPER = 6, (30, 30, 34), (255, 255, 255)


def labelled_grid(images: Tensor, columns: Sequence[str] = (), rows: Sequence[str] = (), title: str = "") -> Tensor:
    """Images (R, K, 3, H, W) in [0, 1] -> one picture (3, height, width) in [0, 1] with names over the columns.

    ``columns`` are wrapped to an image's width, ``rows``, written below each row of images, to the row's.
    """
    count, across, _, high, wide = images.shape
    size = max(11, round(wide / 11))
    font = ImageFont.load_default(size)
    width = MARGIN + across * (wide + MARGIN)
    notes = [_wrapped(text, font, width - 2 * MARGIN) for text in rows] or [[]] * count
    heading = _wrapped(title, font, width - 2 * MARGIN)
    line = round(size * 1.35)
    names = [_wrapped(text, font, wide) for text in columns]
    above = len(heading) + max(map(len, names), default=0)
    top = MARGIN + line * above
    height = top + sum(high + MARGIN + line * len(note) for note in notes)
    page = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(page)
    for number, text in enumerate(heading):
        pen.text((MARGIN, MARGIN // 2 + number * line), text, INK, font)
    for column, lines in enumerate(names):
        for number, text in enumerate(lines, above - len(lines)):
            pen.text((MARGIN + column * (wide + MARGIN), MARGIN // 2 + number * line), text, INK, font)
    y = top
    for row, note in enumerate(notes):
        for column in range(across):
            page.paste(to_pil(images[row, column]), (MARGIN + column * (wide + MARGIN), y))
        for number, text in enumerate(note):
            pen.text((MARGIN, y + high + 1 + number * line), text, INK, font)
        y += high + MARGIN + line * len(note)
    return torch.from_numpy(np.array(page)).permute(2, 0, 1) / 255


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def to_pil(image: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> 8-bit RGB, rounded."""
    return Image.fromarray((image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def save_png(image: Tensor, path: str | Path) -> Path:
    """Write (3, H, W) in [0, 1] as a PNG that is whole or absent."""
    path = Path(path)
    with whole(path) as partial:
        to_pil(image).save(partial, format="PNG")
    return path
