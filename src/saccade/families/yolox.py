"""YOLOX exports whose boxes are still offsets in their grids.

Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021". Made ready and read as its ONNX demonstration does it: bytes in
BGR without arithmetic, the image at the top left of a grey square, boxes not cut off at the image's edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import cv2
import numpy as np

from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.errors import UnsupportedModel
from saccade.families.family import Prepared, Tensor, as_float32
from saccade.families.yolo import probabilities
from saccade.ops.boxes import Rows, corners_of, nms
from saccade.ops.resize import PADDING, Frame, Size
from saccade.results import Boxes, ByteArray, FloatArray, IntArray

CONF = 0.3
IOU = 0.45
MAX_DET = 300
SIDE = 640
STRIDES = (8, 16, 32)


class YoloX:
    """Graphs with one output (n, anchors, 5 + classes): x, y, width, height, objectness, a probability a class."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.size = card.input_hw or (SIDE, SIDE)

    def pixels(self) -> Mapping[str, Pixels]:
        return {"": Pixels(order="BGR")}

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        height, width = image_rgb.shape[:2]
        gain = min(self.size[0] / height, self.size[1] / width)
        new_h, new_w = max(int(height * gain), 1), max(int(width * gain), 1)
        canvas = np.full((1, *self.size, 3), PADDING, np.uint8)
        cv2.resize(image_rgb, (new_w, new_h), dst=canvas[0, :new_h, :new_w], interpolation=cv2.INTER_LINEAR)
        return Prepared({"": canvas}, Frame((height, width), self.size, gain, gain))

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Boxes:
        """An anchor may answer for several classes."""
        table = as_float32(outputs[0])[0]
        centres, steps = grids(frame.input_hw)
        if table.shape[0] != len(steps) or table.shape[1] < 6:
            raise UnsupportedModel(
                f"The model '{self.card.name}' answers with {table.shape[0]} × {table.shape[1]} numbers; a YOLOX of "
                f"this input answers with {len(steps)} × (5 + classes)."
            )
        scores = table[:, 5:] * table[:, 4:5]
        anchors, class_ids = np.nonzero(scores > (CONF if options.conf is None else options.conf))
        if options.classes is not None:
            wanted = np.isin(class_ids, options.classes)
            anchors, class_ids = anchors[wanted], class_ids[wanted]
        picked = scores[anchors, class_ids]
        probabilities(picked, self.card.name)
        boxes = corners_of(decoded(table, centres, steps)[anchors]) / np.float32(frame.gain_x)
        groups = np.zeros_like(class_ids) if options.agnostic_nms else class_ids
        limit = MAX_DET if options.max_det is None else options.max_det
        kept = by_class(boxes, picked, groups, IOU if options.iou is None else options.iou, limit)
        numbers: IntArray = class_ids[kept].astype(np.int32)
        labels = self.card.labels
        return Boxes(
            boxes_xyxy=boxes[kept],
            scores=picked[kept],
            class_ids=numbers,
            names=tuple(labels.get(number) or f"class{number}" for number in numbers.tolist()),
        )


FAMILY = YoloX


def decoded(table: FloatArray, centres: FloatArray, steps: FloatArray) -> FloatArray:
    """(anchors, 4): centre and size in input pixels. Some exports have done it in the graph."""
    # Offsets reach over a few cells, centres in pixels over the whole input.
    if table[:, :2].max() > centres.max() + 1:
        return table[:, :4]
    sizes = np.exp(np.minimum(table[:, 2:4], np.float32(20))) * steps[:, None]
    return np.concatenate(((table[:, :2] + centres) * steps[:, None], sizes), axis=1)


@cache
def grids(input_hw: Size) -> tuple[FloatArray, FloatArray]:
    """(anchors, 2) x and y of each cell in its grid, and (anchors,) the strides."""
    centres, steps = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: input_hw[0] // stride, : input_hw[1] // stride]
        centres.append(np.stack((columns.ravel(), rows.ravel()), axis=1).astype(np.float32))
        steps.append(np.full(rows.size, stride, np.float32))
    return np.concatenate(centres), np.concatenate(steps)


def by_class(boxes: FloatArray, scores: FloatArray, groups: IntArray | Rows, iou: float, limit: int) -> Rows:
    """Rows to keep, best first: suppression within each group, a box covering its last pixel too."""
    covering = boxes + np.array((0, 0, 1, 1), np.float32)
    kept = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        kept.append(rows[nms(covering[rows], scores[rows], None, iou, limit)])
    found = np.concatenate(kept) if kept else np.zeros(0, np.intp)
    return found[np.argsort(-scores[found], kind="stable")][:limit]
