"""A picture that is always the same, and whether a model still sees in it what it saw when it was loaded.

Models have been seen to go blind after days: they answer, but with nothing. A probe that only asks whether they answer
does not notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade import media
from saccade.ops.branches import as_floats
from saccade.results import ByteArray

TOLERANCE = 0.05
"""How far the mean and the spread of an output may move, relative to the spread at load time, or to the mean where that
is 0."""


def picture(height: int = 480, width: int = 640) -> ByteArray:
    """Slopes, edges and some grain: (height, width, 3), the same on every machine."""
    y, x = np.ogrid[0:height, 0:width]
    slopes = np.empty((height, width, 3), dtype=np.int16)
    slopes[..., 0] = x * 255 // width
    slopes[..., 1] = y * 255 // height
    slopes[..., 2] = (x + y) * 255 // (width + height)
    disc = (x % 160 - 80) ** 2 + (y % 120 - 60) ** 2 < 45**2
    discs = disc[..., None] * np.array([90, -60, 40], dtype=np.int16)
    return np.asarray(np.clip(slopes + discs + _grain(y, x)[..., None], 0, 255), dtype=np.uint8)


def jpeg(image_rgb: ByteArray) -> bytes:
    """The picture as a JPEG file, so that the decoder is warm, too."""
    import cv2

    return bytes(cv2.imencode(".jpg", image_rgb[..., ::-1])[1])


@cache
def scene() -> ByteArray:
    """The picture as it comes out of its file; nobody changes it."""
    return media.decode(jpeg(picture())).rgb


def sight(outputs: Sequence[NDArray[Any]]) -> list[tuple[float, float]]:
    """Mean and spread of each output, in which one cannot mistake zeros or not-a-number for an answer."""
    floats = [np.asarray(as_floats(output), dtype=np.float64) for output in outputs]
    return [(float(values.mean()), float(values.std())) if values.size else (0.0, 0.0) for values in floats]


def blindness(before: Sequence[tuple[float, float]], now: Sequence[tuple[float, float]]) -> str | None:
    """How the sight differs from what it was, in words; None when it is the same."""
    if len(before) != len(now):
        return f"it gives {len(now)} outputs instead of {len(before)}"
    for index, ((mean, spread), (new_mean, new_spread)) in enumerate(zip(before, now, strict=True)):
        if not np.isfinite(new_mean) and np.isfinite(mean):
            return f"output {index} is not a number any more"
        # A single number has no spread; the same graph compiled for one call or for several rounds it differently.
        allowed = TOLERANCE * (spread or abs(mean)) + 1e-6 * (1.0 + abs(mean))
        if abs(new_mean - mean) > allowed or abs(new_spread - spread) > allowed:
            return f"output {index} has another mean and spread than when the model was loaded"
    return None


def _grain(y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.int16]:
    """-12 to 12 for every pixel, without an order that one could see (numpy's generators take long to import)."""
    mixed = y.astype(np.uint32) * np.uint32(668265263) + x.astype(np.uint32) * np.uint32(374761393)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(1274126177)
    return np.asarray((mixed >> np.uint32(16)) % np.uint32(25), dtype=np.int16) - np.int16(12)
