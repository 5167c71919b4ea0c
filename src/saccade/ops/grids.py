"""Detections as the last convolutions of an anchor-free head give them, before the arithmetic that ends its graph.

A graph computes that arithmetic for every place of every grid, and nearly all of it is thrown away for a low score.
Here it is done for the places that may be kept. A head looks at grids of several steps; at each place it gives four
distances to the sides of a box, each as a distribution over whole cells (Li et al., "Generalized Focal Loss",
arXiv:2006.04388), a logit for each class, and, with some tasks, further numbers.

Arrays are (1, height, width, numbers) of float32, or of uint16 that holds the bits of bfloat16. In place of sides and
further numbers may be the features that a branch computes them from (:mod:`saccade.ops.branches`), also only there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from saccade.ops.activations import sigmoid, softmax
from saccade.ops.boxes import Rows, best_first, corners_of
from saccade.ops.branches import Deferred, as_floats, numbers_at
from saccade.results import FloatArray

Tensor: TypeAlias = NDArray[Any]
Level: TypeAlias = tuple[Tensor, ...]
"""Sides, classes, the largest of the classes and, if there are any, further numbers of one grid."""

BEST = 2
"""Which array of a level holds the largest of the classes."""

HALF = np.float32(0.5)
SLACK = 1e-3
"""So much below the bound a logit is still looked at: the bound itself is rounded."""


@dataclass(frozen=True, slots=True)
class Grids:
    """What a head gives at each place beside the sides and the classes: nothing, coefficients of masks, keypoints of
    ``step`` numbers, or the angle of the box.

    ``ranked``: the graph ends with so many of its best places instead of all, because its head finds every object once.
    """

    extra: Literal["", "coefficients", "keypoints", "angle"] = ""
    step: int = 3
    ranked: int = 0

    @property
    def width(self) -> int:
        """How many arrays a level has."""
        return 4 if self.extra else 3


def levels_of(outputs: Sequence[Tensor], grids: Grids) -> list[Level]:
    """The levels with which the outputs begin, the finest first; none if the graph ends with its own arithmetic."""
    levels: list[Level] = []
    for start in range(0, len(outputs) - grids.width + 1, grids.width):
        level = tuple(outputs[start : start + grids.width])
        if any(part.ndim != 4 or part.shape[1:3] != level[0].shape[1:3] for part in level) or level[BEST].shape[3] != 1:
            break
        levels.append(level)
    return levels


def table_of(levels: Sequence[Level], grids: Grids, input_hw: tuple[int, int]) -> FloatArray:
    """(4 + classes + extra, places): centre and size in input pixels, probabilities, extras: the graph's own answer."""
    every = [np.arange(sides.shape[1] * sides.shape[2]) for sides, *_ in levels]
    return _finished(levels, every, grids, input_hw).T


def rows_above(levels: Sequence[Level], grids: Grids, input_hw: tuple[int, int], conf: float) -> FloatArray:
    """(n, 4 + classes + extra): the columns of :func:`table_of` in which a probability may be above ``conf``."""
    return _finished(levels, [_places_above(best, conf) for _, _, best, *_ in levels], grids, input_hw)


def ranked_above(levels: Sequence[Level], grids: Grids, input_hw: tuple[int, int], conf: float) -> FloatArray:
    """(n, 6 + extra): the best ``grids.ranked`` that may be above ``conf``: box, probability, class, extras.

    Boxes are left, top, right, bottom, or centre and size if they have an angle. Of the best places every class counts,
    so that one place may be there more than once.
    """
    rows = rows_above(levels, grids, input_hw, conf)
    classes = levels[0][1].shape[3]
    rows = rows[best_first(rows[:, 4 : 4 + classes].max(axis=1, initial=0))[: grids.ranked]]
    scores = rows[:, 4 : 4 + classes].reshape(-1)
    best = best_first(scores)[: grids.ranked]
    places, class_ids = np.divmod(best, max(1, classes))
    boxes = rows[:, :4] if grids.extra == "angle" else corners_of(rows[:, :4])
    told = (boxes[places], scores[best, None], class_ids[:, None].astype(np.float32), rows[places, 4 + classes :])
    return np.concatenate(told, axis=1)


def _places_above(best: Tensor, conf: float) -> Rows:
    """The places in their order where the probability of the best class may be above ``conf``."""
    flat = best.reshape(-1)
    if conf <= 0:
        return np.arange(len(flat))
    if conf >= 1:
        return np.arange(0)
    return np.flatnonzero(_above(flat, np.float32(math.log(conf / (1 - conf)) - SLACK)))


def _above(logits: Tensor, bound: np.float32) -> NDArray[np.bool_]:
    if logits.dtype != np.uint16:
        return np.greater_equal(logits, bound)
    # The bits of floats are in order as whole numbers: forwards from 0 up, backwards from 0 down.
    bits = int(bound.view(np.uint32)) >> 16
    return np.greater_equal(logits.view(np.int16), bits) if bound >= 0 else np.less_equal(logits, bits + 1)


def _finished(levels: Sequence[Level], places: Sequence[Rows], grids: Grids, input_hw: tuple[int, int]) -> FloatArray:
    """(n, 4 + classes + extra) of the places named in each level."""
    told = [_numbers(level, rows) for level, rows in zip(levels, places, strict=True)]
    sides, classes, *extras = (np.concatenate(parts) for parts in zip(*told, strict=True))
    counts = [len(rows) for rows in places]
    widths = np.repeat([level[0].shape[2] for level in levels], counts)
    steps = np.repeat(np.array([input_hw[0] / level[0].shape[1] for level in levels], np.float32), counts)[:, None]
    centres = np.stack(np.divmod(np.concatenate(places), widths)[::-1], axis=1).astype(np.float32) + HALF
    distances = _distances(sides)
    if grids.extra == "angle":
        angles = (sigmoid(extras[0]) - np.float32(0.25)) * np.float32(math.pi)
        boxes, extras = _turned(distances, centres, angles), [angles]
    else:
        boxes = _upright(distances, centres)
    if grids.extra == "keypoints":
        extras = [_keypoints(extras[0], centres, steps, grids.step)]
    return np.concatenate((boxes * steps, sigmoid(classes), *extras), axis=1)


def _numbers(level: Level, rows: Rows) -> list[FloatArray]:
    """(n, numbers) of the sides, the classes and, if there are any, the further numbers at these places."""
    parts = [part for index, part in enumerate(level) if index != BEST]
    late = numbers_at([part for part in parts if isinstance(part, Deferred)], rows)
    return [
        late.pop(0) if isinstance(part, Deferred) else as_floats(part.reshape(-1, part.shape[3]).take(rows, axis=0))
        for part in parts
    ]


def _distances(sides: FloatArray) -> FloatArray:
    """(n, 4 · bins) logits → (n, 4) cells to the left, top, right and bottom side; one bin is the distance itself."""
    bins = sides.shape[1] // 4
    if bins == 1:
        return sides
    expected: FloatArray = softmax(sides.reshape(-1, 4, bins)) @ np.arange(bins, dtype=np.float32)
    return expected


def _upright(distances: FloatArray, centres: FloatArray) -> FloatArray:
    """(n, 4) centre and size in cells."""
    first, last = centres - distances[:, :2], centres + distances[:, 2:]
    return np.concatenate(((first + last) * HALF, last - first), axis=1)


def _turned(distances: FloatArray, centres: FloatArray, angles: FloatArray) -> FloatArray:
    """(n, 4) centre and size in cells of boxes whose sides were measured along their own, turned axes."""
    first, last = distances[:, :2], distances[:, 2:]
    across, along = np.hsplit((last - first) * HALF, 2)
    cos, sin = np.cos(angles), np.sin(angles)
    middle = np.concatenate((across * cos - along * sin, across * sin + along * cos), axis=1)
    return np.concatenate((middle + centres, first + last), axis=1)


def _keypoints(values: FloatArray, centres: FloatArray, steps: FloatArray, step: int) -> FloatArray:
    """(n, points · step) with x and y in input pixels and, if there is a third number, how sure a point is."""
    points = values.reshape(len(values), values.shape[1] // step, step).copy()
    points[..., :2] = (points[..., :2] * np.float32(2) + (centres - HALF)[:, None]) * steps[:, None]
    if step > 2:
        points[..., 2] = sigmoid(points[..., 2])
    return points.reshape(values.shape)
