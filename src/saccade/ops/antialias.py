"""Pictures and planes resized bilinearly with antialiasing, as torch does it; Pillow rounds otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.results import ByteArray, FloatArray, IntArray

Size = tuple[int, int]


def plane(values: FloatArray, hw: Size) -> FloatArray:
    """(h, w) → (height, width), as ``interpolate(mode="bilinear", antialias=True)``."""
    for axis in (1, 0):
        values = weighed(values, *taps(values.shape[axis], hw[axis], np.float32), axis)
    return np.ascontiguousarray(values, np.float32)


def picture(image: ByteArray, hw: Size) -> ByteArray:
    """(h, w, 3) → (height, width, 3), as the same for bytes: the weights are whole numbers of 16 bits, and the rows
    are rounded before the columns are mixed."""
    for axis in (1, 0):
        if image.shape[axis] == hw[axis]:
            continue
        places, weights = taps(image.shape[axis], hw[axis], np.float64)
        bits = precision(float(weights.max()))
        whole = np.floor(weights * (1 << bits) + 0.5).astype(np.int32)
        mixed = weighed(image.astype(np.int32), places, whole, axis)
        image = ((mixed + (1 << (bits - 1))) >> bits).clip(0, 255).astype(np.uint8)
    return image


def taps(size: int, wanted: int, kind: type[np.floating[Any]]) -> tuple[IntArray, FloatArray]:
    """(wanted, k): which sources make each place, and how much each counts; the kernel is a triangle. ``kind`` is the
    precision in which torch computes the weights."""
    scale = kind(size) / kind(wanted)
    reach, half = max(scale, kind(1)), kind(0.5)
    centres = (np.arange(wanted, dtype=kind) + half) * scale
    first = np.maximum((centres - reach + half).astype(np.int32), 0)
    after = np.minimum((centres + reach + half).astype(np.int32), size)
    places = first[:, None] + np.arange((after - first).max(), dtype=np.int32)
    weights = np.clip(1 - np.abs((places.astype(kind) + half - centres[:, None]) / reach), 0, None)
    weights[places >= after[:, None]] = 0
    return np.minimum(places, size - 1), weights / weights.sum(axis=1, keepdims=True)


def precision(largest: float) -> int:
    """How many bits a weight may be shifted by and still fit into 16."""
    return next(bits for bits in range(22) if bits == 21 or int(0.5 + largest * (1 << (bits + 1))) >= 1 << 15)


def weighed(values: NDArray[Any], places: IntArray, weights: NDArray[Any], axis: int) -> NDArray[Any]:
    """The sum over k of the values at (wanted, k) places along an axis, by their weights."""
    shape = [1] * values.ndim
    shape[axis] = len(places)
    summed: NDArray[Any] = values.take(places[:, 0], axis) * weights[:, 0].reshape(shape)
    for k in range(1, places.shape[1]):
        summed += values.take(places[:, k], axis) * weights[:, k].reshape(shape)
    return summed
