"""Depth from one picture: Depth-Anything, DPT, GLPN, TIPS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from saccade import imageprocessor
from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.families.family import Prepared, Tensor, as_float32
from saccade.ops import maps
from saccade.ops.resize import Frame
from saccade.results import ByteArray, Depth, FloatArray

BILINEAR = ("Tipsv2Dpt",)
"""Processors that resize the depth so; the others' way is bicubic."""


class DepthEstimator:
    """Graphs whose first output is (n, h, w); whether larger means nearer is as the model was trained."""

    def __init__(self, card: Card) -> None:
        config = card.config.get("preprocessor")
        self.processor = imageprocessor.of(config if isinstance(config, dict) else None, "DPT", card.input_hw)
        self.resized = maps.bilinear if self.processor.kind in BILINEAR else bicubic

    def pixels(self) -> Mapping[str, Pixels]:
        return self.processor.pixels()

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        return Prepared(*self.processor(image_rgb))

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Depth:
        plane = as_float32(outputs[0])
        return Depth(depth=self.resized(plane.reshape(plane.shape[-2:]), frame.image_hw))


FAMILY = DepthEstimator


def bicubic(plane: FloatArray, hw: tuple[int, int]) -> FloatArray:
    """As ``torch.nn.functional.interpolate(mode="bicubic", align_corners=False)``, whose kernel OpenCV shares."""
    return np.asarray(cv2.resize(plane, (hw[1], hw[0]), interpolation=cv2.INTER_CUBIC), np.float32)
