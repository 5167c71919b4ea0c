"""PP-PicoDet exports of PaddleDetection: boxes in image pixels, non-maximum suppression inside the graph.

Yu et al. 2021, "PP-PicoDet: A Better Real-Time Object Detector on Mobile Devices". The graph keeps at most 100 boxes
of a score above 0.025 and suppresses at an overlap of 0.6 per class, so that only a smaller ``iou`` changes anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.families.family import Prepared, Tensor, as_float32
from saccade.ops.boxes import nms
from saccade.ops.resize import Frame
from saccade.results import Boxes, ByteArray

CONF = 0.4
"""PaddleDetection draws boxes above 0.5 and its mobile demos above 0.4."""
IOU = 0.6
SIZE = (416, 416)


class PicoDet:
    """Graphs with the inputs "image" (1, 3, h, w) and "scale_factor" (1, 2), and rows of class, score, xyxy."""

    def __init__(self, card: Card) -> None:
        self.labels = card.labels
        self.hw = card.input_hw or SIZE

    def pixels(self) -> Mapping[str, Pixels]:
        return {"image": Pixels(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))}

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        height, width = image_rgb.shape[:2]
        gain_y, gain_x = self.hw[0] / height, self.hw[1] / width
        # Cubic also when it shrinks, as in training: any smoother filter costs accuracy.
        resized = cv2.resize(image_rgb, self.hw[::-1], interpolation=cv2.INTER_CUBIC)
        tensors = {"image": resized[None], "scale_factor": np.array([[gain_y, gain_x]], np.float32)}
        return Prepared(tensors, Frame((height, width), self.hw, gain_x, gain_y))

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Boxes:
        rows = as_float32(outputs[0]).reshape(-1, 6)
        class_ids = rows[:, 0].astype(np.int32)
        keep = (rows[:, 1] > (CONF if options.conf is None else options.conf)) & (class_ids >= 0)
        if options.classes is not None:
            keep &= np.isin(class_ids, options.classes)
        order = np.flatnonzero(keep)
        order = order[np.argsort(-rows[order, 1], kind="stable")]
        height, width = frame.image_hw
        boxes = np.clip(rows[:, 2:], 0, np.array([width, height, width, height], np.float32))
        if options.iou is not None or options.agnostic_nms:
            apart = None if options.agnostic_nms else class_ids[order]
            order = order[nms(boxes[order], rows[order, 1], apart, IOU if options.iou is None else options.iou)]
        order = order[: options.max_det]
        return Boxes(
            boxes_xyxy=boxes[order],
            scores=rows[order, 1],
            class_ids=class_ids[order],
            names=tuple(self.labels.get(number, f"class{number}") for number in class_ids[order].tolist()),
        )


FAMILY = PicoDet
