"""Numbers that stay with an object from frame to frame.

The algorithm is ByteTrack (Zhang et al., ECCV 2022) on boxes alone: a constant-velocity Kalman filter foresees each
track's box, sure detections are matched to tracks first, unsure ones to what is left, and lost tracks wait a while for
their object to come back. Where we differ: every box of a result gets a number, also an unsure one that matches nothing
(the caller chose the threshold already), and boxes of another class match less easily instead of just as well.

It is written here because the well-kept libraries for it (trackers, supervision) bring a second OpenCV, Matplotlib,
SciPy and a GPL build of FFmpeg, and those without such weight are no longer kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from saccade.results import Boxes, FloatArray, IntArray, Keypoints, Masks, OrientedBoxes, Result

SURE: Final = 0.5
"""Detections of at least this score are matched first."""

MATCH_SURE: Final = 0.2
MATCH_UNSURE: Final = 0.5
MATCH_NEW: Final = 0.3
"""The least likeness (overlap, times score for sure ones) at which a box continues a track."""

OTHER_CLASS: Final = 0.7
PATIENCE: Final = 30
"""Frames for which a lost track is remembered."""

POSITION_NOISE: Final = 1 / 20
VELOCITY_NOISE: Final = 1 / 160

Array = NDArray[np.float64]
AnyResult = TypeVar("AnyResult", bound=Result)


class Tracker:
    """Follows the objects of one video; give it the results frame by frame, in order. Not safe to share by threads."""

    def __init__(self, patience: int = PATIENCE) -> None:
        self._patience = patience
        self._tracks = _Tracks.none()
        self._next_id = 1

    def update(self, result: AnyResult) -> AnyResult:
        """The result with ``track_ids`` (n,), from 1 up; labels, depth and semantic masks come back as they are."""
        match result:
            case Boxes() | Keypoints() | OrientedBoxes():
                return replace(result, track_ids=self._follow(_boxes(result), result.scores, result.class_ids))
            case Masks() if result.kind == "instance":
                return replace(result, track_ids=self._follow(_boxes(result), result.scores, result.class_ids))
            case _:
                return result

    def _follow(self, boxes_xyxy: Array, scores: FloatArray, class_ids: IntArray) -> IntArray:
        tracks = self._tracks = self._tracks.foreseen()
        likeness = _overlap(tracks.boxes_xyxy(), boxes_xyxy)
        likeness *= np.where(tracks.class_ids[:, None] == class_ids[None], 1.0, OTHER_CLASS)
        sure, settled, seen = scores >= SURE, tracks.hits > 1, tracks.missed == 1
        owner = np.full(len(boxes_xyxy), -1)
        free = np.ones(len(tracks.ids), dtype=bool)
        for weighed, rows, columns, least in (
            (likeness * scores, settled, sure, MATCH_SURE),
            (likeness, settled & seen, ~sure, MATCH_UNSURE),
            (likeness, ~settled, np.ones_like(sure), MATCH_NEW),
        ):
            row = np.flatnonzero(rows & free)
            column = np.flatnonzero(columns & (owner < 0))
            for r, c in _assigned(weighed[np.ix_(row, column)], least):
                owner[column[c]] = row[r]
                free[row[r]] = False
        matched = np.flatnonzero(owner >= 0)
        tracks.correct(owner[matched], boxes_xyxy[matched], class_ids[matched])
        fresh = np.flatnonzero(owner < 0)
        ids = np.empty(len(boxes_xyxy), np.int32)
        ids[matched] = tracks.ids[owner[matched]]
        ids[fresh] = np.arange(self._next_id, self._next_id + len(fresh))
        self._next_id += len(fresh)
        kept = ~free | (settled & (tracks.missed <= self._patience))
        self._tracks = tracks.chosen(kept).joined(_Tracks.born(boxes_xyxy[fresh], ids[fresh], class_ids[fresh]))
        return ids


@dataclass
class _Tracks:
    """All tracks as arrays, one row each.

    ``state`` (n, 8): centre x, centre y, width over height, height, and their velocities per frame; ``spread``
    (n, 8, 8) its covariance; ``missed``: for how many frames no box was found; ``hits``: how many were found in all.
    """

    state: Array
    spread: Array
    ids: IntArray
    class_ids: IntArray
    missed: IntArray
    hits: IntArray

    @classmethod
    def none(cls) -> _Tracks:
        return cls.born(np.zeros((0, 4)), np.zeros(0, np.int32), np.zeros(0, np.int32))

    @classmethod
    def born(cls, boxes_xyxy: Array, ids: IntArray, class_ids: IntArray) -> _Tracks:
        measured = _measured(boxes_xyxy)
        state = np.concatenate([measured, np.zeros_like(measured)], axis=1)
        height = measured[:, 3:4]
        deviation = np.concatenate(
            [_noise(height, 2 * POSITION_NOISE, 1e-2), _noise(height, 10 * VELOCITY_NOISE, 1e-5)], axis=1
        )
        count = len(ids)
        return cls(state, _diagonal(deviation), ids, class_ids, np.zeros(count, np.int32), np.ones(count, np.int32))

    def foreseen(self) -> _Tracks:
        """The tracks one frame later; the size of a lost one no longer changes."""
        state, step = self.state.copy(), np.eye(8) + np.eye(8, k=4)
        state[self.missed > 0, 7] = 0
        height = state[:, 3:4]
        drift = np.concatenate([_noise(height, POSITION_NOISE, 1e-2), _noise(height, VELOCITY_NOISE, 1e-5)], axis=1)
        spread = step @ self.spread @ step.T + _diagonal(drift)
        return replace(self, state=state @ step.T, spread=spread, missed=self.missed + 1)

    def correct(self, rows: IntArray, boxes_xyxy: Array, class_ids: IntArray) -> None:
        """Takes in the boxes that were found for some tracks (the Kalman filter's update)."""
        state, spread = self.state[rows], self.spread[rows]
        doubt = spread[:, :4, :4] + _diagonal(_noise(state[:, 3:4], POSITION_NOISE, 1e-1))
        gain = np.linalg.solve(doubt, spread[:, :4, :]).transpose(0, 2, 1)
        surprise = (_measured(boxes_xyxy) - state[:, :4])[:, :, None]
        self.state[rows] = state + (gain @ surprise)[:, :, 0]
        self.spread[rows] = spread - gain @ spread[:, :4, :]
        self.class_ids[rows] = class_ids
        self.missed[rows] = 0
        self.hits[rows] += 1

    def boxes_xyxy(self) -> Array:
        x, y, shape, height = self.state[:, :4].T
        half_w, half_h = np.maximum(shape * height, 1e-3) / 2, np.maximum(height, 1e-3) / 2
        return np.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=1)

    def chosen(self, mask: NDArray[np.bool_]) -> _Tracks:
        return _Tracks(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))

    def joined(self, other: _Tracks) -> _Tracks:
        names = self.__dataclass_fields__
        return _Tracks(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


def _boxes(result: Boxes | Keypoints | OrientedBoxes | Masks) -> Array:
    """Upright boxes (n, 4); of oriented boxes the ones that hold them."""
    if isinstance(result, OrientedBoxes):
        corners = result.corners_xy.astype(np.float64)
        return np.concatenate([corners.min(1), corners.max(1)], axis=1)
    return result.boxes_xyxy.astype(np.float64)


def _measured(boxes_xyxy: Array) -> Array:
    left, top, right, bottom = boxes_xyxy.T
    height = np.maximum(bottom - top, 1e-3)
    return np.stack([(left + right) / 2, (top + bottom) / 2, np.maximum(right - left, 1e-3) / height, height], axis=1)


def _noise(height: Array, weight: float, shape_noise: float) -> Array:
    """Standard deviations (n, 4): in proportion to the height, but for the shape."""
    scaled = weight * height
    return np.concatenate([scaled, scaled, np.full_like(height, shape_noise), scaled], axis=1)


def _diagonal(deviation: Array) -> Array:
    """(n, k) standard deviations as (n, k, k) covariances."""
    covariance: Array = np.eye(deviation.shape[1]) * (deviation**2)[:, None, :]
    return covariance


def _overlap(one: Array, other: Array) -> Array:
    """Intersection over union (n, m)."""
    size = np.minimum(one[:, None, 2:], other[None, :, 2:]) - np.maximum(one[:, None, :2], other[None, :, :2])
    shared = np.prod(np.clip(size, 0, None), axis=2)
    areas = np.prod(one[:, 2:] - one[:, :2], axis=1)[:, None] + np.prod(other[:, 2:] - other[:, :2], axis=1)[None]
    ratio: Array = shared / np.maximum(areas - shared, 1e-9)
    return ratio


def _assigned(likeness: Array, least: float) -> list[tuple[int, int]]:
    """Pairs (row, column) of at least ``least`` that together are the most alike."""
    rows = np.flatnonzero((likeness >= least).any(axis=1))
    columns = np.flatnonzero((likeness >= least).any(axis=0))
    if not len(rows):
        return []
    part = likeness[np.ix_(rows, columns)]
    part = np.where(part >= least, part, 0.0)
    best = part.argmax(axis=1)
    if len(set(best.tolist())) == len(best):
        pairs = list(enumerate(best.tolist()))
    elif len(rows) <= len(columns):
        pairs = _cheapest(1 - part)
    else:
        pairs = [(row, column) for column, row in _cheapest(1 - part.T)]
    return [(int(rows[r]), int(columns[c])) for r, c in pairs if part[r, c] > 0]


def _cheapest(cost: Array) -> list[tuple[int, int]]:
    """The assignment of each row to a column of its own with the least sum; rows must not outnumber columns.

    Shortest augmenting paths with potentials (Jonker and Volgenant, 1987), the inner loop over columns in numpy.
    """
    count, width = cost.shape
    row_price, column_price = np.zeros(count), np.zeros(width)
    holder = np.full(width, -1)
    for start in range(count):
        distance = np.full(width, np.inf)
        previous = np.full(width, -1)
        done = np.zeros(width, dtype=bool)
        row, column, reached = start, -1, 0.0
        while row >= 0:
            if column >= 0:
                done[column] = True
            through = reached + cost[row] - row_price[row] - column_price
            shorter = ~done & (through < distance)
            distance[shorter] = through[shorter]
            previous[shorter] = column
            column = int(np.where(done, np.inf, distance).argmin())
            reached = float(distance[column])
            row = int(holder[column])
        taken = np.flatnonzero(done)
        row_price[start] += reached
        row_price[holder[taken]] += reached - distance[taken]
        column_price[taken] -= reached - distance[taken]
        while column >= 0:
            before = int(previous[column])
            holder[column] = start if before < 0 else holder[before]
            column = before
    return [(int(row), column) for column, row in enumerate(holder) if row >= 0]
