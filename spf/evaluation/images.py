"""Anyone's images as metrics take them: 8-bit RGB from the file, never through floats; known by their bytes."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spf.evaluation.weights import file_hash
from spf.portraits.formats import PortraitError
from spf.portraits.reader import decode_portrait

SIDEWAYS = range(5, 9)  # EXIF orientations that swap width and height
PNG_EXIF = (b"eXIf", b"Raw profile type exif")  # chunks that may hold one


class PictureError(ValueError):
    """A picture that cannot be used; one line names it, the reason and the remedy."""


@dataclass(frozen=True)
class Picture:
    """A file: its bytes' SHA-256 and its upright size."""

    path: Path
    sha256: str
    size: tuple[int, int]  # height, width


def look_at(path: Path) -> Picture:
    """What is known of a picture before its pixels are read. Raises PictureError."""
    if not path.is_file():
        raise PictureError(f"{path} is missing: generate it, or give the folder that holds it")
    return _look_at(path, file_hash(path))


@cache
def _look_at(path: Path, sha256: str) -> Picture:
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            # to be sure that a PNG has no EXIF Pillow decodes all of it
            told = picture.format != "PNG" or any(mark in path.read_bytes() for mark in PNG_EXIF)
            sideways = told and picture.getexif().get(0x0112, 1) in SIDEWAYS
    except Exception as error:  # by format and fault Pillow raises many kinds
        raise _undecodable(path) from error
    return Picture(path, sha256, (width, height) if sideways else (height, width))


def read_picture(path: Path) -> Tensor:
    """(3,H,W) uint8 RGB, upright; grey and 16 bits become 8-bit RGB, transparency white. Raises PictureError."""
    try:
        picture = decode_portrait({"path": str(path), "bytes": None})
    except PortraitError as error:
        raise _undecodable(path) from error
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # (3,H,W)


def _undecodable(path: Path) -> PictureError:
    return PictureError(f"{path} is no picture, or a damaged one: generate it or copy it again")
