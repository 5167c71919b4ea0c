"""What a task answers: one frozen type a task.

Conventions of the whole house: coordinates are pixels of the upright original image, float32, ``xyxy`` = left, top,
right, bottom; row ``i`` of every array of a result speaks of the same object. Nobody mutates a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int32]
ByteArray: TypeAlias = NDArray[np.uint8]

MaskKind = Literal["instance", "panoptic", "semantic"]
MaskForm = Literal["crop", "polygon", "png", "rle"]


@dataclass(frozen=True, slots=True)
class Labels:
    """Classes of the whole image, best first.

    ``class_ids`` (n,), ``scores`` (n,), ``names`` n strings.
    """

    class_ids: IntArray
    scores: FloatArray
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Boxes:
    """Upright boxes: ``boxes_xyxy`` (n, 4), ``scores`` (n,), ``class_ids`` (n,), ``track_ids`` (n,) when tracking."""

    boxes_xyxy: FloatArray
    scores: FloatArray
    class_ids: IntArray
    names: tuple[str, ...]
    track_ids: IntArray | None = None


@dataclass(frozen=True, slots=True)
class OrientedBoxes:
    """Rotated boxes: ``boxes_xywhr`` (n, 5) = centre x, centre y, width, height, angle in radians, clockwise on screen.

    ``corners_xy`` (n, 4, 2) may lie outside the image.
    """

    boxes_xywhr: FloatArray
    corners_xy: FloatArray
    scores: FloatArray
    class_ids: IntArray
    names: tuple[str, ...]
    track_ids: IntArray | None = None


@dataclass(frozen=True, slots=True)
class Keypoints:
    """Boxes with keypoints: ``keypoints_xy`` (n, k, 2); ``visibility`` (n, k) in 0..1, or None for 2-D keypoints."""

    boxes_xyxy: FloatArray
    scores: FloatArray
    class_ids: IntArray
    names: tuple[str, ...]
    keypoints_xy: FloatArray
    visibility: FloatArray | None
    track_ids: IntArray | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """The pixel grid on which masks were made, and how it lies on the image.

    Image x = (grid x - ``pad_x``) / ``gain_x``, the same for y. ``height`` and ``width`` are those of the grid;
    ``image_hw`` those of the upright original.
    """

    height: int
    width: int
    gain_x: float
    gain_y: float
    pad_x: float
    pad_y: float
    image_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Crop:
    """The part of the grid that holds one object: ``pixels`` (h, w) of 0 and 1, its corner at ``x``, ``y``."""

    x: int
    y: int
    pixels: ByteArray


@dataclass(frozen=True, slots=True)
class Rle:
    """COCO run lengths: ``counts`` of alternating 0s and 1s, column by column, over an image of ``size`` (h, w)."""

    size: tuple[int, int]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Masks:
    """Segments with one mask each, in the form that was asked for.

    ``form`` says which of the tuples is filled: ``crops`` (grid space, the compact form that families make),
    ``polygons`` (each (k, 2), image pixels), ``pngs`` (8-bit greyscale files of 0 and 255, image size) or ``rles``.
    ``areas`` (n,) counts set pixels on the grid. ``boxes_xyxy`` (n, 4) are image pixels.
    Semantic segments have score 1.0 and ascend by class.
    """

    boxes_xyxy: FloatArray
    scores: FloatArray
    class_ids: IntArray
    names: tuple[str, ...]
    kind: MaskKind
    grid: Grid
    areas: IntArray
    form: MaskForm = "crop"
    crops: tuple[Crop, ...] = ()
    polygons: tuple[FloatArray, ...] = ()
    pngs: tuple[bytes, ...] = ()
    rles: tuple[Rle, ...] = ()
    track_ids: IntArray | None = None


@dataclass(frozen=True, slots=True)
class Depth:
    """Relative or metric depth: ``depth`` (height, width) float32 on the upright original."""

    depth: FloatArray


Result: TypeAlias = Labels | Boxes | OrientedBoxes | Keypoints | Masks | Depth
