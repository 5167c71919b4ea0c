"""Maps of numbers per pixel: resized as torch resizes them, and cut into segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from saccade.results import ByteArray, Crop, FloatArray, Grid, IntArray, MaskKind, Masks

Size = tuple[int, int]
NOTHING = np.zeros((1, 1), np.uint8)


def bilinear(plane: FloatArray, hw: Size) -> FloatArray:
    """(h, w) → (height, width), as ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``.

    Neither antialiases when it shrinks; the results differ by rounding only.
    """
    if plane.shape == hw:
        return plane
    resized: Any = cv2.resize(plane, (hw[1], hw[0]), interpolation=cv2.INTER_LINEAR)
    return cast(FloatArray, resized)


def stretched(plane: FloatArray, hw: Size) -> FloatArray:
    """(h, w) → (height, width), as ``interpolate(mode="bilinear", align_corners=True)``: corners stay at corners."""
    for axis, wanted in enumerate(hw):
        size = plane.shape[axis]
        places = np.arange(wanted, dtype=np.float32) * np.float32((size - 1) / max(wanted - 1, 1))
        first = places.astype(np.int32)
        part = np.expand_dims(places - np.floor(places), 1 - axis)
        second = np.minimum(first + 1, size - 1)
        plane = plane.take(first, axis) * (1 - part) + plane.take(second, axis) * part
    return plane


def nearest(plane: NDArray[Any], hw: Size) -> NDArray[Any]:
    """(h, w) → (height, width), as ``interpolate(mode="nearest")``, which rounds down in single precision."""
    rows, columns = (steps(size, wanted) for size, wanted in zip(plane.shape, hw, strict=True))
    return plane[rows[:, None], columns]


def steps(size: int, wanted: int) -> IntArray:
    """Which source index each of ``wanted`` places takes."""
    scale = np.float32(size) / np.float32(wanted)
    places: IntArray = (np.arange(wanted, dtype=np.float32) * scale).astype(np.int32)
    np.minimum(places, size - 1, out=places)
    return places


def winners(logits: FloatArray, hw: Size) -> IntArray:
    """The strongest plane of (c, h, w) at each pixel of the (height, width) to which they are resized; ties: the first.

    Bilinear values lie between those of the four corners of a cell, so that a plane whose highest corner is
    below another's lowest cannot win in that cell, and a plane that can win nowhere is not resized. Photos hold few of
    a model's classes: at 150 classes about one in six remains.
    """
    if logits.shape[1:] == hw:
        highest: IntArray = np.argmax(logits, axis=0).astype(np.int32)
        return highest
    best = np.full(hw, -np.inf, np.float32)
    winner = np.zeros(hw, np.int32)
    for index in np.flatnonzero(contenders(logits)):
        plane = bilinear(logits[index], hw)
        outdo(best, winner, plane, int(index))
    return winner


def outdo(best: FloatArray, winner: IntArray, plane: FloatArray, number: int) -> None:
    """Gives the pixels where a plane is stronger than the best before it to its number, in place; what is no number
    wins nowhere."""
    np.copyto(winner, number, where=plane > best)
    np.fmax(best, plane, out=best)


def contenders(planes: FloatArray) -> NDArray[np.bool_]:
    """(c,): which planes of (c, h, w) could be the highest anywhere between the grid's points."""
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = np.maximum(padded[:, 1:], padded[:, :-1])
    highest = np.maximum(rows[:, :, 1:], rows[:, :, :-1])
    rows = np.minimum(padded[:, 1:], padded[:, :-1])
    floor = np.minimum(rows[:, :, 1:], rows[:, :, :-1]).max(axis=0)
    # A last digit lost in the interpolation must not lose a plane.
    slack = 1e-5 * max(1.0, float(np.abs(planes).max()))
    found: NDArray[np.bool_] = (highest >= floor - slack).any(axis=(1, 2))
    return found


def cut(mask: ByteArray) -> Crop:
    """The part of a map (height, width) of 0 and 1 that is set; a single empty pixel if nothing is."""
    left, top, wide, high = cv2.boundingRect(mask)
    if not wide:
        return Crop(0, 0, NOTHING)
    return Crop(left, top, mask[top : top + high, left : left + wide])


def region(winner: IntArray, number: int) -> Crop:
    """The crop of the pixels that have this number."""
    return cut((winner == number).view(np.uint8))


def segments(
    crops: Sequence[Crop],
    scores: Sequence[float],
    class_ids: Sequence[int],
    names: tuple[str, ...],
    kind: MaskKind,
    image_hw: Size,
) -> Masks:
    """A result whose grid is the image itself."""
    boxes = [(crop.x, crop.y, crop.x + crop.pixels.shape[1], crop.y + crop.pixels.shape[0]) for crop in crops]
    return Masks(
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        class_ids=np.array(class_ids, np.int32),
        names=names,
        kind=kind,
        grid=Grid(*image_hw, 1.0, 1.0, 0.0, 0.0, image_hw),
        areas=np.array([np.count_nonzero(crop.pixels) for crop in crops], np.int32),
        crops=tuple(crops),
    )


def share(part: int, whole: int) -> float:
    """How much of the whole the part is, in single precision, as torch divides counts: at a threshold it decides."""
    return float(np.float32(part) / np.float32(whole))
