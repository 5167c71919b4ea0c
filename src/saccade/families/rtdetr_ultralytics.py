"""RT-DETR as Ultralytics exports it: scores are finished, boxes are parts of the picture, which is stretched.

Zhao et al. 2023, "DETRs Beat YOLOs on Real-time Object Detection". Older exports answer with a score for each class, of
which a query's best counts; those of ultralytics 8.4 with the best score and its class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.errors import UnsupportedModel
from saccade.families.detr import chosen, corners
from saccade.families.family import Prepared, Tensor, as_float32
from saccade.families.yolo import best_class
from saccade.ops.resize import Frame, rounded_up
from saccade.results import Boxes, ByteArray

CONF = 0.25
MAX_DET = 300
SIDE = 640


class RtDetrUltralytics:
    """Graphs with one output (n, queries, 6): centre, size, score, class; or (n, queries, 4 + classes)."""

    def __init__(self, card: Card) -> None:
        self.card = card

    def pixels(self) -> Mapping[str, Pixels]:
        return {"": Pixels(scale=1 / 255)}

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        height, width = self.card.input_hw or (SIDE, SIDE)
        if options.imgsz is not None and self.card.dynamic:
            height = width = rounded_up(options.imgsz, self.card.stride)
        hw = (image_rgb.shape[0], image_rgb.shape[1])
        pixels = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_LINEAR)
        return Prepared({"": pixels[None]}, Frame(hw, (height, width), width / hw[1], height / hw[0]))

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Boxes:
        """Boxes may reach over the picture's edge; nothing is suppressed, so ``iou`` changes nothing.

        Raises:
            UnsupportedModel: the graph does not answer as an RT-DETR with these classes.
        """
        table = as_float32(outputs[0])
        classes = len(self.card.labels)
        if table.ndim != 3 or table.shape[2] not in (6, 4 + classes):
            numbers = " × ".join(map(str, table.shape[1:]))
            raise UnsupportedModel(
                f"The model '{self.card.name}' answers with {numbers} numbers; an RT-DETR with {classes} classes "
                f"answers with {' or '.join(map(str, sorted({6, 4 + classes})))} a query. Check its labels."
            )
        rows = table[0]
        # A model of two classes has six numbers a query either way; only a class id is whole.
        if rows.shape[1] == 6 and (rows[:, 5] == np.rint(rows[:, 5])).all():
            scores, class_ids = rows[:, 4], rows[:, 5].astype(np.int32)
        else:
            class_ids, scores = best_class(rows[:, 4:])
        order = np.argsort(-scores, kind="stable")
        limit = MAX_DET if options.max_det is None else options.max_det
        boxes = corners(rows[order, :4], frame.image_hw)
        found = chosen(boxes, scores[order], class_ids[order], self.card.labels, options, CONF)
        return Boxes(
            boxes_xyxy=found.boxes_xyxy[:limit],
            scores=found.scores[:limit],
            class_ids=found.class_ids[:limit],
            names=found.names[:limit],
        )


FAMILY = RtDetrUltralytics
