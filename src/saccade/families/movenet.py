"""MoveNet MultiPose: up to six persons with 17 keypoints each.

Google, "MoveNet.MultiPose" model card, 2021. Rows are 17 × (y, x, score), then ymin, xmin, ymax, xmax, score, all in
fractions of the padded input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.families.family import Prepared, Tensor, as_float32
from saccade.ops.resize import Frame
from saccade.results import ByteArray, Keypoints

CONF = 0.1
"""Scores of persons are low: above 0.1 nearly all are real."""
SIZE = 320
STRIDE = 32
KEYPOINTS = 17


class MoveNet:
    """Graphs with one input (1, h, w, 3) of bytes and one output (1, 6, 56)."""

    def __init__(self, card: Card) -> None:
        self.labels = card.labels
        self.size = max(card.input_hw) if card.input_hw else SIZE

    def pixels(self) -> Mapping[str, Pixels]:
        return {}

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        """The longer side becomes ``imgsz``; zeros at the right and the bottom fill up to multiples of 32."""
        height, width = image_rgb.shape[:2]
        longer = -(-(options.imgsz or self.size) // STRIDE) * STRIDE
        scale = longer / max(height, width)
        new_height, new_width = max(round(height * scale), 1), max(round(width * scale), 1)
        input_hw = (-(-new_height // STRIDE) * STRIDE, -(-new_width // STRIDE) * STRIDE)
        padded = np.zeros((1, *input_hw, 3), np.uint8)
        cv2.resize(image_rgb, (new_width, new_height), dst=padded[0, :new_height, :new_width])
        return Prepared({"": padded}, Frame((height, width), input_hw, new_width / width, new_height / height))

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Keypoints:
        rows = as_float32(outputs[0]).reshape(-1, 3 * KEYPOINTS + 5)
        keep = np.flatnonzero(rows[:, -1] > (CONF if options.conf is None else options.conf))
        if options.classes is not None and 0 not in options.classes:
            keep = keep[:0]
        rows = rows[keep[np.argsort(-rows[keep, -1], kind="stable")]][: options.max_det]
        points = rows[:, : 3 * KEYPOINTS].reshape(-1, KEYPOINTS, 3)
        height, width = frame.image_hw
        to_image = np.array([frame.input_hw[1] / frame.gain_x, frame.input_hw[0] / frame.gain_y], np.float32)
        edge = np.array([width, height], np.float32)
        corners = rows[:, 3 * KEYPOINTS : -1].reshape(-1, 2, 2)[..., ::-1]
        return Keypoints(
            boxes_xyxy=np.clip(corners * to_image, 0, edge).reshape(-1, 4),
            scores=rows[:, -1].copy(),
            class_ids=np.zeros(len(rows), np.int32),
            names=(self.labels.get(0, "person"),) * len(rows),
            keypoints_xy=np.clip(points[..., 1::-1] * to_image, 0, edge),
            visibility=points[..., 2].copy(),
        )


FAMILY = MoveNet
