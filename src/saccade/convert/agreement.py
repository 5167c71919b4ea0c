"""How alike two answers are: the measure by which a converted graph is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from saccade.errors import RunFailed
from saccade.results import Boxes, Crop, Depth, FloatArray, Labels, Masks, OrientedBoxes, Result

SCORE = 0.05
IOU = 0.9
MOST = float(np.finfo(np.float32).max)
"""How far what is no number is from one."""


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """Raw outputs: the largest difference, and the largest number it is measured against."""

    largest_error: float
    largest_value: float


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """Answers that both give: their ``share`` of all, weighed by score, so that the sure ones count; ``score`` is the
    largest difference of scores among them, ``compared`` the number of answers."""

    share: float
    score: float
    compared: int


def numbers(references: Sequence[Sequence[NDArray[Any]]], outputs: Sequence[Sequence[NDArray[Any]]]) -> Numbers:
    """Raises RunFailed where shapes differ: sizes became constants on the way, or the graph is another model's."""
    pairs = [
        (reference, output)
        for one, other in zip(references, outputs, strict=True)
        for reference, output in zip(one, other, strict=True)
    ]
    for reference, output in pairs:
        if reference.shape != output.shape:
            raise RunFailed(f"An output has the shape {output.shape}, the checkpoint's has {reference.shape}.")
    finite = [reference[np.isfinite(reference)] for reference, _ in pairs]
    return Numbers(
        largest_error=max(difference(reference, output) for reference, output in pairs),
        largest_value=max(float(np.abs(reference).max(initial=0.0)) for reference in finite),
    )


def difference(reference: NDArray[Any], output: NDArray[Any]) -> float:
    """The largest between two numbers at the same place; those that are infinite, or none, on both sides are equal."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.nan_to_num(np.abs(reference - output), nan=MOST, posinf=MOST)
    same = (reference == output) | (np.isnan(reference) & np.isnan(output))
    return float(np.where(same, 0.0, apart).max(initial=0.0))


def agreement(pairs: Sequence[tuple[Result, Result]]) -> Agreement:
    """Over all pairs of answers (expected, found). Two empty answers agree."""
    shared = total = worst = 0.0
    count = 0
    for expected, found in pairs:
        matched, weight, error = compared(expected, found)
        shared, total, worst = shared + matched, total + weight, max(worst, error)
        count += 1 if isinstance(expected, Depth) else len(expected.class_ids)
    return Agreement(share=shared / total if total else 1.0, score=worst, compared=count)


def compared(expected: Result, found: Result) -> tuple[float, float, float]:
    """(weight of what agrees, of how much weight, largest difference of scores)."""
    match expected, found:
        case Labels(), Labels():
            return labels(expected, found)
        case Boxes(), Boxes():
            return objects(
                expected.class_ids, expected.scores, found.class_ids, found.scores, box_ious(expected, found)
            )
        case OrientedBoxes(), OrientedBoxes():
            return compared(upright(expected), upright(found))
        case Masks(), Masks() if expected.kind == "semantic":
            return pixels(expected, found)
        case Masks(), Masks():
            return objects(
                expected.class_ids, expected.scores, found.class_ids, found.scores, mask_ious(expected, found)
            )
        case Depth(), Depth():
            spread = float(np.ptp(expected.depth)) or 1.0
            error = float(np.abs(expected.depth - found.depth).mean()) / spread
            return (1.0 if error < SCORE else 0.0), 1.0, error
    return 0.0, 1.0, float("inf")


def labels(expected: Labels, found: Labels) -> tuple[float, float, float]:
    """Scores by label, measured against the best one's size."""
    scores = dict(zip(found.class_ids.tolist(), found.scores.tolist(), strict=True))
    limit = SCORE * max(1.0, float(np.abs(expected.scores).max(initial=0)))
    weight = matched = worst = 0.0
    for number, score in zip(expected.class_ids.tolist(), expected.scores.tolist(), strict=True):
        error = abs(score - scores.get(number, 0.0))
        weight, worst = weight + abs(score), max(worst, error)
        matched += abs(score) if error <= limit else 0.0
    return matched, weight, worst


def objects(
    classes: NDArray[Any], scores: FloatArray, other_classes: NDArray[Any], other_scores: FloatArray, ious: FloatArray
) -> tuple[float, float, float]:
    """Greedy pairs of equal class and overlap; an object that only one side has counts against both."""
    allowed = np.nan_to_num((classes[:, None] == other_classes[None, :]) * ious)
    matched = worst = 0.0
    for index in np.argsort(-scores, kind="stable"):
        if not allowed.shape[1]:
            break
        partner = int(allowed[index].argmax())
        if allowed[index, partner] < IOU:
            continue
        allowed[:, partner] = 0
        error = abs(float(scores[index]) - float(other_scores[partner]))
        worst = max(worst, error)
        if error <= SCORE:
            matched += float(scores[index]) + float(other_scores[partner])
    return matched, float(scores.sum() + other_scores.sum()), worst


def upright(found: OrientedBoxes) -> Boxes:
    """The boxes around the corners."""
    low, high = found.corners_xy.min(axis=1, initial=np.inf), found.corners_xy.max(axis=1, initial=-np.inf)
    boxes_xyxy = np.concatenate([low, high], axis=1).astype(np.float32)
    return Boxes(boxes_xyxy, found.scores, found.class_ids, found.names)


def box_ious(expected: Boxes, found: Boxes) -> FloatArray:
    a, b = expected.boxes_xyxy[:, None], found.boxes_xyxy[None]
    overlap = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (a, b)]
    ratio: FloatArray = overlap / np.maximum(areas[0] + areas[1] - overlap, 1e-9)
    return ratio


def mask_ious(expected: Masks, found: Masks) -> FloatArray:
    ious = np.zeros((len(expected.crops), len(found.crops)), np.float32)
    for row, one in enumerate(expected.crops):
        for column, other in enumerate(found.crops):
            common = overlap(one, other)
            joined = int(np.count_nonzero(one.pixels)) + int(np.count_nonzero(other.pixels)) - common
            ious[row, column] = common / joined if joined else 1.0
    return ious


def overlap(one: Crop, other: Crop) -> int:
    """Pixels that both have."""
    left, top = max(one.x, other.x), max(one.y, other.y)
    right = min(one.x + one.pixels.shape[1], other.x + other.pixels.shape[1])
    bottom = min(one.y + one.pixels.shape[0], other.y + other.pixels.shape[0])
    if right <= left or bottom <= top:
        return 0
    parts = [
        crop.pixels[top - crop.y : bottom - crop.y, left - crop.x : right - crop.x].astype(bool)
        for crop in (one, other)
    ]
    return int(np.count_nonzero(parts[0] & parts[1]))


def pixels(expected: Masks, found: Masks) -> tuple[float, float, float]:
    """The share of pixels with the same class, as one answer."""
    height, width = expected.grid.height, expected.grid.width
    same = 0
    others = dict(zip(found.class_ids.tolist(), found.crops, strict=True))
    for number, crop in zip(expected.class_ids.tolist(), expected.crops, strict=True):
        if number in others:
            same += overlap(crop, others[number])
    share = same / (height * width)
    return share, 1.0, 1.0 - share
