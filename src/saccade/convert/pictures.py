"""Pictures on which a graph is compared with its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from saccade import media
from saccade.errors import BadSettings, CallError
from saccade.results import ByteArray

SIZES = ((480, 640), (640, 427), (360, 640), (512, 512))


def pictures(paths: Sequence[str]) -> list[ByteArray]:
    """The pictures at these paths, or, without any, four made of smooth colours, shapes and grain.

    Raises:
        BadSettings: one of them cannot be read.
    """
    if paths:
        return [opened(Path(path)) for path in paths]
    return [drawn(height, width, seed) for seed, (height, width) in enumerate(SIZES)]


def opened(path: Path) -> ByteArray:
    try:
        return media.decode(path.read_bytes()).rgb
    except (OSError, CallError) as error:
        reason = error.message if isinstance(error, CallError) else error.strerror
        raise BadSettings(
            f"The picture '{path.name}' of the setting 'converter_images' is of no use: {reason}"
        ) from None


def drawn(height: int, width: int, seed: int) -> ByteArray:
    """A landscape of colours with discs, boxes and lines on it."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 6, 3)).astype(np.uint8)
    canvas = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).copy()
    for _ in range(12):
        colour = [int(value) for value in random.integers(0, 256, 3)]
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        side = int(random.integers(20, max(21, min(height, width) // 3)))
        if random.random() < 0.5:
            cv2.circle(canvas, (x, y), side // 2, colour, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(canvas, (x, y), (x + side, y + side // 2), colour, -1)
        cv2.line(canvas, (x, y), (int(random.integers(0, width)), int(random.integers(0, height))), colour, 3)
    grain = random.normal(0, 6, canvas.shape)
    picture: ByteArray = np.clip(canvas + grain, 0, 255).astype(np.uint8)
    return picture
