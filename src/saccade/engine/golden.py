"""A picture that is always the same, and whether a model still sees in it what it saw when it was loaded.

Models have been seen to go blind after days: they answer, but with nothing. A probe that only asks whether they answer
does not notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.results import ByteArray

TOLERANCE = 0.05
"""How far the mean and the spread of an output may move, relative to the spread at load time."""


def picture(height: int = 480, width: int = 640) -> ByteArray:
    """Slopes, edges and some grain: (height, width, 3), the same on every machine."""
    y, x = np.mgrid[0:height, 0:width]
    slopes = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=-1)
    discs = ((x % 160 - 80) ** 2 + (y % 120 - 60) ** 2 < 45**2)[..., None] * np.array([90, -60, 40])
    grain = np.random.default_rng(7).integers(-12, 13, (height, width, 1))
    return np.asarray(np.clip(slopes + discs + grain, 0, 255), dtype=np.uint8)


def jpeg(image_rgb: ByteArray) -> bytes:
    """The picture as a JPEG file, so that the decoder is warm, too."""
    import cv2

    return bytes(cv2.imencode(".jpg", image_rgb[..., ::-1])[1])


def sight(outputs: Sequence[NDArray[Any]]) -> list[tuple[float, float]]:
    """Mean and spread of each output, in which one cannot mistake zeros or not-a-number for an answer."""
    floats = [np.asarray(output, dtype=np.float64) for output in outputs]
    return [(float(values.mean()), float(values.std())) if values.size else (0.0, 0.0) for values in floats]


def blindness(before: Sequence[tuple[float, float]], now: Sequence[tuple[float, float]]) -> str | None:
    """How the sight differs from what it was, in words; None when it is the same."""
    if len(before) != len(now):
        return f"it gives {len(now)} outputs instead of {len(before)}"
    for index, ((mean, spread), (new_mean, new_spread)) in enumerate(zip(before, now, strict=True)):
        if not np.isfinite(new_mean) and np.isfinite(mean):
            return f"output {index} is not a number any more"
        allowed = TOLERANCE * spread + 1e-6 * (1.0 + abs(mean))
        if abs(new_mean - mean) > allowed or abs(new_spread - spread) > allowed:
            return f"output {index} has another mean and spread than when the model was loaded"
    return None
