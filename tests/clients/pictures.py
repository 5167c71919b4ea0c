"""Small pictures made here, for tests that talk HTTP."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def photo(width: int = 60, height: int = 40, *, kind: str = "JPEG", orientation: int | None = None) -> bytes:
    """A bright disc on a dark ground; ``orientation`` is the EXIF tag."""
    rows, columns = np.mgrid[:height, :width]
    disc = (rows - height / 2) ** 2 + (columns - width / 3) ** 2 < (height / 3) ** 2
    rgb = np.where(disc[..., None], np.array([240, 200, 160]), np.array([20, 60, 90])).astype(np.uint8)
    image = Image.fromarray(rgb)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    target = io.BytesIO()
    image.save(target, kind, exif=exif)
    return target.getvalue()


def noise(width: int, height: int, *, kind: str = "PNG") -> bytes:
    """A picture that does not compress."""
    target = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(target, kind)
    return target.getvalue()


def bomb(side: int = 30_000) -> bytes:
    """A few kilobytes of PNG that announce ``side`` × ``side`` pixels."""
    target = io.BytesIO()
    Image.new("1", (side, side)).save(target, "PNG")
    return target.getvalue()
