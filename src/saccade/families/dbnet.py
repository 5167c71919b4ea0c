"""Text detection by differentiable binarisation: lines of text as oriented boxes, all of the class "text".

Liao et al. 2020, "Real-time Scene Text Detection with Differentiable Binarization"; parameters are those of PP-OCR, or
of its checkpoints for transformers, where a ``preprocessor_config.json`` is there. We differ in one place: the grown
outline of a rectangle is a larger rectangle, computed as such and not by clipping polygons.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from saccade import imageprocessor
from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.families.family import Prepared, Tensor, as_float32
from saccade.ops import antialias
from saccade.ops.resize import Frame
from saccade.results import ByteArray, FloatArray, OrientedBoxes

INK = 0.3
"""Probability above which a pixel belongs to a text."""
STRIDE = 32
SMALLEST = 3.0
"""Sides below this, in pixels of the network's input, are specks."""
CANDIDATES = 1000


@dataclass(frozen=True, slots=True)
class Manner:
    """How networks of one origin are used.

    ``growth``: area through perimeter times this is how far a box grows, because the network learnt shrunken texts.
    ``joined``: strokes that nearly touch are joined. ``smooth``: pictures shrink with antialiasing. The shorter side is
    enlarged to at least ``short``, as long as the longer one does not exceed ``long``.
    """

    conf: float = 0.5
    growth: float = 1.6
    joined: bool = True
    smooth: bool = False
    short: float = 736
    long: float = 2000
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def scale(self, height: int, width: int) -> float:
        return min(max(1.0, self.short / min(height, width)), self.long / max(height, width))


def manner(card: Card) -> Manner:
    """That of the card's network."""
    config = card.config.get("preprocessor")
    if not isinstance(config, dict):
        return Manner()
    facts = imageprocessor.of(config, "PPOCRV5ServerDet").facts
    limit, most = float(facts["limit_side_len"]), float(facts["max_side_limit"] or math.inf)
    arithmetic = imageprocessor.arithmetic(facts)
    return Manner(
        conf=0.6,
        growth=1.5,
        joined=False,
        smooth=True,
        short={"min": limit, "resize_long": math.inf}.get(facts["limit_type"], 0.0),
        long=most if facts["limit_type"] == "min" else min(limit, most),
        mean=arithmetic.mean,
        std=arithmetic.std,
    )


class DbNet:
    """Graphs with one input (n, 3, h, w) and one map of probabilities (n, 1, h, w)."""

    def __init__(self, card: Card) -> None:
        self.name = card.labels.get(0, "text")
        self.manner = manner(card)

    def pixels(self) -> Mapping[str, Pixels]:
        return {"": Pixels(order="BGR", scale=1 / 255, mean=self.manner.mean, std=self.manner.std)}

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        height, width = image_rgb.shape[:2]
        scale = self.manner.scale(height, width) if options.imgsz is None else options.imgsz / max(height, width)
        input_hw = network_hw(height, width, scale)
        return Prepared(
            {"": self.resized(image_rgb, input_hw)[None]},
            Frame((height, width), input_hw, input_hw[1] / width, input_hw[0] / height),
        )

    def resized(self, image_rgb: ByteArray, hw: tuple[int, int]) -> ByteArray:
        if image_rgb.shape[:2] == hw:
            return image_rgb
        if self.manner.smooth:
            return antialias.picture(image_rgb, hw)
        return np.asarray(cv2.resize(image_rgb, hw[::-1]), np.uint8)

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> OrientedBoxes:
        """Boxes from the best score down; the width runs along the longer side, the angle lies in (-π/2, π/2]."""
        conf = self.manner.conf if options.conf is None else options.conf
        found = rectangles(as_float32(outputs[0])[0, 0], conf, self.manner)
        if options.classes is not None and 0 not in options.classes:
            found = found[:0]
        found = found[np.argsort(-found[:, 5], kind="stable")][: options.max_det]
        boxes = in_image(found[:, :5], frame)
        boxes = boxes if len(boxes) else np.zeros((0, 5), np.float32)
        return OrientedBoxes(
            boxes_xywhr=boxes,
            corners_xy=corners(boxes),
            scores=found[:, 5].astype(np.float32),
            class_ids=np.zeros(len(boxes), np.int32),
            names=(self.name,) * len(boxes),
        )


FAMILY = DbNet


def network_hw(height: int, width: int, scale: float) -> tuple[int, int]:
    """(height, width) of the input: a multiple of 32 each."""
    return (
        max(round(int(height * scale) / STRIDE) * STRIDE, STRIDE),
        max(round(int(width * scale) / STRIDE) * STRIDE, STRIDE),
    )


def rectangles(ink: FloatArray, conf: float, manner: Manner) -> NDArray[np.float64]:
    """(n, 6) rows of centre x, y, width, height, radians, score, in pixels of the map (h, w)."""
    mask = (ink > INK).astype(np.uint8)
    if manner.joined:
        # One pixel to the left and up, as PP-OCR does.
        mask = np.asarray(cv2.dilate(mask, np.ones((2, 2), np.uint8)), np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    rows = []
    for contour in contours[:CANDIDATES]:
        (x, y), (width, height), degrees = cv2.minAreaRect(contour)
        if min(width, height) < SMALLEST:
            continue
        score = mean_inside(ink, cv2.boxPoints(((x, y), (width, height), degrees)))
        grown = 2 * manner.growth * width * height / (2 * (width + height))
        if score > conf and min(width, height) + grown >= SMALLEST + 2:
            rows.append((x, y, width + grown, height + grown, np.radians(degrees), score))
    return np.array(rows, np.float64).reshape(-1, 6)


def mean_inside(ink: FloatArray, polygon: NDArray[Any]) -> float:
    """Mean of the map over a polygon (4, 2)."""
    height, width = ink.shape
    left, top = np.floor(polygon.min(axis=0)).astype(int).clip(0, (width - 1, height - 1))
    right, bottom = np.ceil(polygon.max(axis=0)).astype(int).clip(0, (width - 1, height - 1))
    window = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    cv2.fillPoly(window, [(polygon - (left, top)).astype(np.int32)], 1)
    return float(cv2.mean(ink[top : bottom + 1, left : right + 1], window)[0])


def in_image(boxes: NDArray[np.float64], frame: Frame) -> FloatArray:
    """Boxes (n, 5) of the map as boxes of the image, the longer side first.

    The two axes shrink by slightly different factors (sizes are multiples of 32); sides and angle follow their own
    direction, which keeps rectangles rectangles.
    """
    x, y, width, height, angle = boxes.T
    cos, sin = np.cos(angle), np.sin(angle)
    gain = np.array([frame.gain_x, frame.gain_y])
    along = np.stack([cos, sin], 1) / gain
    across = np.stack([-sin, cos], 1) / gain
    width, height = width * np.linalg.norm(along, axis=1), height * np.linalg.norm(across, axis=1)
    angle = np.arctan2(along[:, 1], along[:, 0])
    tall = height > width
    width, height = np.where(tall, height, width), np.where(tall, width, height)
    angle = np.where(tall, angle + np.pi / 2, angle)
    angle = np.pi / 2 - np.mod(np.pi / 2 - angle, np.pi)
    centre = np.stack([x, y], 1) / gain
    return np.column_stack([centre, width, height, angle]).astype(np.float32)


def corners(boxes: FloatArray) -> FloatArray:
    """(n, 5) → (n, 4, 2): clockwise on screen from the corner where the text begins."""
    centre, angle = boxes[:, None, :2], boxes[:, 4]
    along = boxes[:, 2:3] / 2 * np.stack([np.cos(angle), np.sin(angle)], 1)
    across = boxes[:, 3:4] / 2 * np.stack([-np.sin(angle), np.cos(angle)], 1)
    offsets = np.stack([-along - across, along - across, along + across, across - along], axis=1)
    return np.asarray(centre + offsets, np.float32)
