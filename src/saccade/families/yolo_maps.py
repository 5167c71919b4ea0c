"""YOLO26 by Ultralytics that answers with a map: one class a pixel (semantic), or depth.

Graphs end in the class id of each pixel of the input (TFLite's in a number for each class), or in a distance. As the
package does it, pictures of the one are fitted into the middle of the input, those of the other stretched over it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from saccade.call import Options
from saccade.errors import BadOptions, UnsupportedModel
from saccade.families.family import Prepared, Tensor, as_float32
from saccade.families.semantic import semantic_masks
from saccade.families.yolo import Yolo
from saccade.ops import maps
from saccade.ops.masks import chosen
from saccade.ops.resize import Frame, Size, fitted
from saccade.results import ByteArray, Depth, FloatArray, IntArray, Masks


class YoloMaps(Yolo):
    """Graphs whose only output is a map: ids (n, h, w) or logits (n, classes, h, w) for the task "segment", or
    (n, 1, h, w) for "depth".

    A model of a single class has no rival to it: 1, or a logit above 0, is where it is.
    """

    def grids(self) -> None:
        """Nothing ends such a graph that could be left out."""

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        if self.card.task != "depth":
            return super().prepare(image_rgb, options)
        size = self.input_hw(options)
        pixels = cv2.resize(image_rgb, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        return Prepared({"": pixels[None]}, Frame((image_rgb.shape[0], image_rgb.shape[1]), size))

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Masks | Depth:
        """Segments ascend by class; scores are 1.

        Raises:
            BadOptions: another subtask than "semantic" was asked for.
            UnsupportedModel: the output is no map of the input's size.
        """
        if options.subtask not in (None, "semantic"):
            raise BadOptions(f"Subtask {options.subtask} is not supported for model '{self.card.name}'")
        answer = outputs[0]
        logits = self.card.task != "depth" and answer.ndim == 4
        planes = (len(self.card.labels) or answer.shape[1]) if logits else 1
        if answer.shape[-2:] != frame.input_hw or answer.size != planes * frame.input_hw[0] * frame.input_hw[1]:
            raise UnsupportedModel(
                f"The model '{self.card.name}' answers with {' × '.join(map(str, answer.shape))} numbers for a picture "
                f"of {' × '.join(map(str, frame.input_hw))}; expected one for each pixel"
                + (f" and each of {planes} classes. Check its task and labels." if logits else ". Check its task.")
            )
        answer = answer.reshape(planes, *frame.input_hw)
        if self.card.task == "depth":
            return Depth(depth=maps.stretched(as_float32(answer[0]), frame.image_hw))
        top, left = int(frame.pad_y), int(frame.pad_x)
        height, width = fitted(frame.image_hw, frame.input_hw)
        inside = answer[:, top : top + height, left : left + width]
        ids = strongest(as_float32(inside), frame.image_hw) if logits else maps.nearest(inside[0], frame.image_hw)
        return self.segments(ids.astype(np.int32))

    def segments(self, ids: IntArray) -> Masks:
        labels = self.card.labels
        if len(labels) != 1:
            return semantic_masks(ids, len(labels), labels)
        (number,) = labels
        return chosen(semantic_masks(np.where(ids == 1, number, number + 1), 0, labels), (number,), None)


def strongest(logits: FloatArray, hw: Size) -> IntArray:
    """The class of each pixel of an image of this size; of a single one, whether it is there."""
    if len(logits) > 1:
        return maps.winners(logits, hw)
    there: IntArray = (maps.bilinear(logits[0], hw) > 0).astype(np.int32)
    return there


FAMILY = YoloMaps
