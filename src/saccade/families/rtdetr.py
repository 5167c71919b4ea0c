"""Detectors with a sigmoid for every query and class: RT-DETR, D-FINE, Deformable and Conditional DETR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from saccade import imageprocessor
from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.families.detr import chosen, corners, logits_and_boxes
from saccade.families.family import Prepared, Tensor
from saccade.ops.activations import sigmoid
from saccade.ops.resize import Frame
from saccade.results import Boxes, ByteArray, FloatArray, IntArray

CONF = 0.5
TOP = {"ConditionalDetr": 100, "DeformableDetr": 100}
"""How many detections a processor keeps; the others keep as many as there are queries."""


class RtDetr:
    """Graphs with the outputs logits (n, queries, classes) and boxes (n, queries, 4) as centre x, centre y, width,
    height in parts of the picture.

    Detections come best first; one query may answer with several classes.
    """

    def __init__(self, card: Card) -> None:
        self.labels = card.labels
        config = card.config.get("preprocessor")
        self.processor = imageprocessor.of(config if isinstance(config, dict) else None, "RTDetr", card.input_hw)

    def pixels(self) -> Mapping[str, Pixels]:
        return self.processor.pixels()

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        return Prepared(*self.processor(image_rgb))

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Boxes:
        logits, boxes = logits_and_boxes(outputs)
        classes = logits.shape[1]
        best = strongest(logits, TOP.get(self.processor.kind, len(logits)))
        scores = sigmoid(logits.reshape(-1)[best])
        boxes_xyxy = corners(boxes, frame.image_hw)[best // classes]
        return chosen(boxes_xyxy, scores, (best % classes).astype(np.int32), self.labels, options, CONF)


FAMILY = RtDetr


def strongest(logits: FloatArray, count: int) -> IntArray:
    """Flat places of the largest of (queries, classes), best first."""
    flat = logits.reshape(-1)
    best = np.argpartition(-flat, min(count, logits.size) - 1)[:count]
    # Equal logits keep the order of the queries, as a full stable sort would have it.
    return best[np.lexsort((best, -flat[best]))].astype(np.int32)
