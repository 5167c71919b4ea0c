"""RF-DETR: detection and instance segmentation, for pictures that are resized as numbers and not as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from saccade import imageprocessor
from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.errors import BadOptions
from saccade.families.family import Prepared, Tensor, as_float32
from saccade.families.maskformer import CONF, MASK_THRESHOLD
from saccade.families.rtdetr import RtDetr, strongest
from saccade.families.semantic import model_class
from saccade.ops import maps
from saccade.ops.activations import sigmoid
from saccade.ops.resize import Frame
from saccade.results import Boxes, ByteArray, FloatArray, Masks


class RfDetr:
    """Graphs with the outputs logits (n, queries, classes) and boxes (n, queries, 4), or logits and mask logits
    (n, queries, h, w); they take normalised numbers (n, 3, h, w)."""

    def __init__(self, card: Card) -> None:
        config = card.config.get("preprocessor")
        self.processor = imageprocessor.of(config if isinstance(config, dict) else None, "RfDetr", card.input_hw)
        self.detector = RtDetr(card)
        self.task = card.task
        self.labels = card.labels
        self.model_class = model_class(card)

    def pixels(self) -> Mapping[str, Pixels]:
        return {}

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        facts, hw = self.processor.facts, (image_rgb.shape[0], image_rgb.shape[1])
        arithmetic = self.processor.pixels()[""]
        values: FloatArray = image_rgb.astype(np.float32) * np.float32(arithmetic.scale)
        if facts["do_resize"]:
            high, wide = imageprocessor.plain(hw, facts)
            # As interpolate(mode="bilinear", align_corners=False) does, without antialiasing.
            values = np.asarray(cv2.resize(values, (wide, high), interpolation=cv2.INTER_LINEAR), np.float32)
        mean, std = (np.array(numbers, np.float32) for numbers in (arithmetic.mean, arithmetic.std))
        values = np.asarray((values - mean) / std, np.float32)
        high, wide = values.shape[:2]
        tensor = np.ascontiguousarray(values.transpose(2, 0, 1))[None]
        return Prepared({"": tensor}, Frame(hw, (high, wide), wide / hw[1], high / hw[0]))

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Boxes | Masks:
        if self.task == "detect":
            return self.detector.read(outputs, frame, options)
        return self.instances(outputs, frame.image_hw, options)

    def instances(self, outputs: Sequence[Tensor], image_hw: tuple[int, int], options: Options) -> Masks:
        """Best first; a pixel belongs to the first that claims it, and who gets none is left out.

        Raises:
            BadOptions: another subtask than "instance" was asked for.
        """
        if options.subtask not in (None, "instance"):
            raise BadOptions(f"Subtask {options.subtask} is not supported for model {self.model_class}")
        logits, masks = as_float32(outputs[0])[0], as_float32(outputs[1])[0]
        best = strongest(logits, len(logits))
        scores = sigmoid(logits.reshape(-1)[best])
        kept = scores > (CONF if options.conf is None else options.conf)
        best, scores = best[kept], scores[kept]
        threshold = MASK_THRESHOLD if options.mask_threshold is None else options.mask_threshold
        owner = np.full(image_hw, -1, np.int32)
        shown = []
        for place, query in enumerate(best // logits.shape[1]):
            mine = (maps.bilinear(masks[query], image_hw) > threshold) & (owner < 0)
            if mine.any():
                owner[mine] = place
                shown.append(place)
        class_ids = (best % logits.shape[1]).astype(np.int32)[shown]
        names = tuple(self.labels.get(number, f"LABEL_{number}") for number in class_ids.tolist())
        crops = [maps.region(owner, place) for place in shown]
        return maps.segments(crops, scores[shown].tolist(), class_ids.tolist(), names, "instance", image_hw)


FAMILY = RfDetr
