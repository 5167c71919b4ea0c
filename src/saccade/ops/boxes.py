"""Boxes: from one form to another, and which of many overlapping ones to keep."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from saccade.results import FloatArray, IntArray

Rows = NDArray[np.intp]
Truths = NDArray[np.bool_]

CLASS_OFFSET = np.float32(7680)
"""Boxes of different classes are moved apart by this much, so that they never overlap."""

CANDIDATES = 30000
"""No more than so many of the best boxes are looked at."""

BLOCK = 256
"""Boxes are compared in squares of this many: large enough for numpy, small enough for the cache."""

TINY = np.float32(1e-7)


def corners_of(boxes_cxcywh: FloatArray) -> FloatArray:
    """(n, 4) centre and size → (n, 4) left, top, right, bottom."""
    half = boxes_cxcywh[:, 2:] / np.float32(2)
    return np.concatenate((boxes_cxcywh[:, :2] - half, boxes_cxcywh[:, :2] + half), axis=1)


def nms(
    boxes_xyxy: FloatArray,
    scores: FloatArray,
    class_ids: IntArray | None,
    iou: float,
    limit: int = 300,
) -> Rows:
    """Rows to keep, best first, by greedy non-maximum suppression.

    Boxes (n, 4), scores (n,); ``class_ids`` (n,) or None, which lets classes suppress one another. A box goes if it
    overlaps a better, kept one by more than ``iou``. Equal scores keep their order. All arithmetic is float32, and
    classes are told apart by moving their boxes, because that is how the reference rounds.
    """
    order = best_first(scores)
    boxes = boxes_xyxy[order]
    if class_ids is not None:
        boxes = boxes + (class_ids[order].astype(np.float32) * CLASS_OFFSET)[:, None]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for start in range(0, len(order), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(order)))
        if kept:
            block = block[~overlapping(boxes, areas, np.array(kept), block, iou).any(axis=0)]
        within = np.packbits(overlapping(boxes, areas, block, block, iou), axis=1, bitorder="little")
        gone = 0
        for place, row in enumerate(block.tolist()):
            if not gone >> place & 1:
                if len(kept) >= limit:
                    return order[kept]
                kept.append(row)
                # A row of truths as one whole number: Python joins those sooner than numpy rows of this length.
                gone |= int.from_bytes(within[place], "little")
    return order[kept]


def overlapping(boxes: FloatArray, areas: FloatArray, rows: Rows, columns: Rows, iou: float) -> Truths:
    """(rows, columns): whether the intersection over union of the two boxes is above ``iou``."""
    over: Truths = shares(boxes[rows], boxes[columns], areas[rows], areas[columns]) > np.float32(iou)
    return over


def ious(first_xyxy: FloatArray, second_xyxy: FloatArray) -> FloatArray:
    """(n, 4) and (m, 4) → (n, m) intersections over unions."""
    areas = [(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (first_xyxy, second_xyxy)]
    known: FloatArray = np.nan_to_num(shares(first_xyxy, second_xyxy, areas[0], areas[1]))
    return known


def shares(
    first_xyxy: FloatArray, second_xyxy: FloatArray, first_areas: FloatArray, second_areas: FloatArray
) -> FloatArray:
    """:func:`ious` with the areas at hand; not a number for two boxes without area."""
    first, second = first_xyxy.T[:, :, None], second_xyxy.T[:, None, :]
    width: FloatArray = np.minimum(first[2], second[2])
    width -= np.maximum(first[0], second[0])
    height = np.minimum(first[3], second[3])
    height -= np.maximum(first[1], second[1])
    np.maximum(width, 0, out=width)
    np.maximum(height, 0, out=height)
    width *= height
    union = first_areas[:, None] + second_areas[None, :]
    union -= width
    with np.errstate(divide="ignore", invalid="ignore"):
        width /= union
    return width


def rotated_nms(
    boxes_xywhr: FloatArray,
    scores: FloatArray,
    class_ids: IntArray | None,
    iou: float,
    limit: int = 300,
) -> Rows:
    """Rows to keep, best first: those that no better box, kept or not, overlaps by more than ``iou``.

    Overlap is that of the Gaussians of the boxes (Murrugarra-Llerena et al., "Gaussian Bounding Boxes and Probabilistic
    Intersection-over-Union for Object Detection", arXiv:2106.06072). Boxes (n, 5), scores (n,), ``class_ids`` (n,) or
    None, which lets classes suppress one another.
    """
    order = best_first(scores)
    boxes = boxes_xywhr[order].astype(np.float32, copy=True)
    if class_ids is not None:
        boxes[:, :2] += (class_ids[order].astype(np.float32) * CLASS_OFFSET)[:, None]
    shapes = covariances(boxes)
    reach = reaches(boxes, shapes, iou)
    kept: list[int] = []
    for start in range(0, len(order), BLOCK):
        stop = min(start + BLOCK, len(order))
        better, worse = np.nonzero(near(boxes[:stop], boxes[start:stop], reach[:stop], reach[start:stop]))
        worse += start
        above = better < worse
        better, worse = better[above], worse[above]
        overlap = gaussian_iou(boxes[better], boxes[worse], shapes[better], shapes[worse])
        alive = np.ones(stop - start, np.bool_)
        alive[worse[overlap > np.float32(iou)] - start] = False
        kept.extend((np.flatnonzero(alive) + start).tolist())
        if len(kept) >= limit:
            break
    return order[kept[:limit]]


def probiou(first_xywhr: FloatArray, second_xywhr: FloatArray) -> FloatArray:
    """(n,): overlap of the Gaussians of n pairs of rotated boxes (n, 5), from 0 to nearly 1."""
    return gaussian_iou(first_xywhr, second_xywhr, covariances(first_xywhr), covariances(second_xywhr))


def gaussian_iou(
    first: FloatArray, second: FloatArray, first_shape: FloatArray, second_shape: FloatArray
) -> FloatArray:
    """:func:`probiou` with the covariances at hand: 1 minus the Hellinger distance of the two Gaussians."""
    a1, b1, c1 = first_shape.T
    a2, b2, c2 = second_shape.T
    dx, dy = (second[:, :2] - first[:, :2]).T
    a, b, c = a1 + a2, b1 + b2, c1 + c2
    determinant = a * b - c * c
    place = (a * dy**2 + b * dx**2) / (determinant + TINY) * np.float32(0.25)
    slant = (c * dx * -dy) / (determinant + TINY) * np.float32(0.5)
    own = np.sqrt(np.maximum(a1 * b1 - c1 * c1, 0) * np.maximum(a2 * b2 - c2 * c2, 0))
    shape = np.log(determinant / (np.float32(4) * own + TINY) + TINY) * np.float32(0.5)
    distance = np.clip(place + slant + shape, TINY, np.float32(100))
    overlap: FloatArray = np.float32(1) - np.sqrt(np.float32(1) - np.exp(-distance) + TINY)
    return overlap


def covariances(boxes_xywhr: FloatArray) -> FloatArray:
    """(n, 3): a, b, c of the covariance [[a, c], [c, b]] of each rotated box."""
    wide, high = boxes_xywhr[:, 2] ** 2 / np.float32(12), boxes_xywhr[:, 3] ** 2 / np.float32(12)
    cosine, sine = np.cos(boxes_xywhr[:, 4]), np.sin(boxes_xywhr[:, 4])
    a = wide * cosine**2 + high * sine**2
    b = wide * sine**2 + high * cosine**2
    shapes: FloatArray = np.stack((a, b, (wide - high) * cosine * sine), axis=1)
    return shapes


def reaches(boxes_xywhr: FloatArray, shapes: FloatArray, iou: float) -> FloatArray:
    """(n,): two boxes further apart than the root of the sum of their reaches cannot overlap by more than ``iou``.

    The squared Mahalanobis distance is at least the squared distance over the sum of the largest variances.
    """
    farthest = -math.log(max(1 - (1 - iou) ** 2, 1e-7))
    reach = np.max(boxes_xywhr[:, 2:4], axis=1) ** 2 / np.float32(12) * np.float32(4 * farthest + 1)
    # Where the variances vanish, what keeps the formula from dividing by zero shortens distances.
    flat = shapes[:, 0] * shapes[:, 1] - shapes[:, 2] ** 2 < 1e-2
    return np.where(flat, np.float32(np.inf), reach).astype(np.float32)


def near(first: FloatArray, second: FloatArray, first_reach: FloatArray, second_reach: FloatArray) -> Truths:
    """(first, second): which pairs are worth a closer look."""
    squared = (first[:, 0, None] - second[None, :, 0]) ** 2
    squared += (first[:, 1, None] - second[None, :, 1]) ** 2
    close: Truths = squared <= first_reach[:, None] + second_reach[None, :]
    return close


def corners_of_rotated(boxes_xywhr: FloatArray) -> FloatArray:
    """(n, 5) → (n, 4, 2): the corners, going round."""
    centre = boxes_xywhr[:, :2]
    half_w, half_h, angle = boxes_xywhr[:, 2] / 2, boxes_xywhr[:, 3] / 2, boxes_xywhr[:, 4]
    cosine, sine = np.cos(angle), np.sin(angle)
    along = np.stack((half_w * cosine, half_w * sine), axis=1)
    across = np.stack((-half_h * sine, half_h * cosine), axis=1)
    corners = (centre + along + across, centre + along - across, centre - along - across, centre - along + across)
    return np.stack(corners, axis=1).astype(np.float32, copy=False)


def best_first(scores: FloatArray) -> Rows:
    """Rows by descending score; equal ones in the order in which they come."""
    return np.argsort(-scores, kind="stable")[:CANDIDATES]
