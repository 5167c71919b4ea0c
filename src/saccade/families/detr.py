"""Detectors with one softmax a query: DETR, YOLOS, Table Transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from saccade import imageprocessor
from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.errors import TooLarge
from saccade.families.family import Prepared, Tensor, as_float32
from saccade.ops.activations import softmax
from saccade.ops.resize import Frame
from saccade.results import Boxes, ByteArray, FloatArray, IntArray

CONF = 0.5


class Detr:
    """Graphs with the outputs logits (n, queries, classes + 1), the last being "no object", and boxes (n, queries, 4)
    as centre x, centre y, width, height in parts of the picture.

    Detections keep the order of the queries; boxes may reach over the picture's edge.
    """

    def __init__(self, card: Card) -> None:
        self.labels = card.labels
        config = card.config.get("preprocessor")
        self.processor = imageprocessor.of(config if isinstance(config, dict) else None, "Detr", card.input_hw)
        self.patch = patch_of(card)

    def pixels(self) -> Mapping[str, Pixels]:
        return self.processor.pixels()

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        """Raises TooLarge: it is a ribbon of which no patch is left, on which the graph would fail."""
        prepared = Prepared(*self.processor(image_rgb))
        height, width = prepared.frame.input_hw
        if min(height, width) < self.patch:
            raise TooLarge(
                f"the picture of {image_rgb.shape[1]}x{image_rgb.shape[0]} is so long and narrow that this model would "
                f"look at it in {width}x{height}, and its patches have {self.patch} pixels: cut it into pieces"
            )
        return prepared

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Boxes:
        logits, boxes = logits_and_boxes(outputs)
        probabilities = softmax(logits)[:, :-1]
        class_ids = probabilities.argmax(axis=1).astype(np.int32)
        scores = np.take_along_axis(probabilities, class_ids[:, None], axis=1)[:, 0]
        boxes_xyxy = corners(boxes, frame.image_hw)
        return chosen(boxes_xyxy, scores, class_ids, self.labels, options, CONF)


FAMILY = Detr


def patch_of(card: Card) -> int:
    """The side of the patches into which a picture is cut, as YOLOS does; 1 where it is not."""
    config = card.config.get("config")
    patch = config.get("patch_size") if isinstance(config, dict) else None
    return max([1, *(side for side in (patch if isinstance(patch, list) else [patch]) if isinstance(side, int))])


def logits_and_boxes(outputs: Sequence[Tensor]) -> tuple[FloatArray, FloatArray]:
    """(queries, classes) and (queries, 4), also of graphs that give the boxes first, as RF-DETR's own exports do.

    Raises:
        ValueError: the first two outputs are something else.
    """
    first, second = (as_float32(output)[0] for output in outputs[:2])
    logits, boxes = (second, first) if first.shape[-1] == 4 != second.shape[-1] else (first, second)
    if boxes.shape != (len(logits), 4) or logits.ndim != 2:
        raise ValueError("no boxes for the logits")
    return logits, boxes


def corners(boxes_cxcywh: FloatArray, image_hw: tuple[int, int]) -> FloatArray:
    """Parts of the picture around a centre → pixels of the corners (n, 4)."""
    centre, half = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:] * np.float32(0.5)
    height, width = image_hw
    scale = np.array([width, height, width, height], np.float32)
    return np.concatenate([centre - half, centre + half], axis=1) * scale


def chosen(
    boxes_xyxy: FloatArray,
    scores: FloatArray,
    class_ids: IntArray,
    labels: Mapping[int, str],
    options: Options,
    conf: float,
) -> Boxes:
    """The detections above the threshold, of the wanted classes, at most ``max_det`` (the strongest), in order."""
    keep = scores > (conf if options.conf is None else options.conf)
    if options.classes is not None:
        keep &= np.isin(class_ids, options.classes)
    rows = np.flatnonzero(keep)
    if options.max_det is not None and len(rows) > options.max_det:
        rows = np.sort(rows[np.argsort(-scores[rows], kind="stable")[: options.max_det]])
    return Boxes(
        boxes_xyxy=boxes_xyxy[rows],
        scores=scores[rows],
        class_ids=class_ids[rows],
        names=tuple(labels.get(number, f"LABEL_{number}") for number in class_ids[rows].tolist()),
    )
