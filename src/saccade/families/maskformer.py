"""Segmentation by masks with a class each: MaskFormer, Mask2Former, DETR with a mask head.

The three subtasks follow the ``post_process_*_segmentation`` methods of the image processors of transformers 5.23 as
its pipeline calls them, quirks included; EoMT's and OneFormer's differ and have families of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from saccade import imageprocessor
from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.errors import BadOptions
from saccade.families.family import Prepared, Tensor, as_float32
from saccade.families.semantic import model_class, semantic_masks
from saccade.ops import maps
from saccade.ops.activations import sigmoid, softmax
from saccade.ops.resize import Frame
from saccade.ops.selection import torch_topk_unsorted
from saccade.results import ByteArray, Crop, FloatArray, IntArray, MaskKind, Masks

CONF, MASK_THRESHOLD, OVERLAP = 0.9, 0.5, 0.5
BETWEEN = {"Mask2Former": (384, 384)}
"""To this size masks are brought before anything else is done with them, whatever the size of the picture."""


class MaskFormer:
    """Graphs with the outputs class logits (n, queries, classes + 1), the last being "nothing", and mask logits
    (n, queries, h, w)."""

    usual_processor = "Mask2Former"
    """The kind of processor of a checkpoint that names none."""

    def __init__(self, card: Card) -> None:
        self.labels = card.labels
        self.model_class = model_class(card)
        config = card.config.get("preprocessor")
        self.processor = imageprocessor.of(config if isinstance(config, dict) else None, self.usual_processor)
        self.between = BETWEEN.get(self.processor.kind)

    def pixels(self) -> Mapping[str, Pixels]:
        return self.processor.pixels()

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        return Prepared(*self.processor(image_rgb))

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Masks:
        """Raises BadOptions for a subtask of another name than panoptic, instance and semantic."""
        classes, masks = as_float32(outputs[0])[0], as_float32(outputs[1])[0]
        match options.subtask:
            case None | "panoptic":
                return self.panoptic(classes, masks, frame.image_hw, options)
            case "instance" if self.processor.kind == "Detr":
                # DETR's processor answers instances as it answers panoptic segments.
                return self.panoptic(classes, masks, frame.image_hw, options)
            case "instance":
                return self.instance(classes, masks, frame.image_hw, options)
            case "semantic":
                return self.semantic(classes, masks, frame.image_hw)
        raise BadOptions(f"Subtask {options.subtask} is not supported for model {self.model_class}")

    def panoptic(
        self, class_logits: FloatArray, mask_logits: FloatArray, image_hw: tuple[int, int], options: Options
    ) -> Masks:
        probabilities = softmax(class_logits)
        class_ids = probabilities.argmax(axis=1)
        scores = probabilities.max(axis=1)
        conf = CONF if options.conf is None else options.conf
        kept = np.flatnonzero((class_ids != class_logits.shape[1] - 1) & (scores > conf))
        kind: MaskKind = "instance" if options.subtask == "instance" else "panoptic"
        planes = (sigmoid(self.mask(mask_logits[query])) for query in kept)
        return self.weighed(planes, scores[kept], class_ids[kept], kind, image_hw, options)

    def weighed(
        self,
        planes: Iterable[FloatArray],
        scores: FloatArray,
        class_ids: IntArray,
        kind: MaskKind,
        image_hw: tuple[int, int],
        options: Options,
    ) -> Masks:
        """Each pixel goes to the plane that is the strongest there, weighed with the class's score; segments of which
        too little remains are dropped, and their pixels stay free."""
        threshold = MASK_THRESHOLD if options.mask_threshold is None else options.mask_threshold
        overlap = OVERLAP if options.overlap_threshold is None else options.overlap_threshold
        best = np.full(image_hw, -np.inf, np.float32)
        winner = np.full(image_hw, -1, np.int32)
        areas = []
        for place, plane in enumerate(planes):
            weighed = self.enlarged(plane, image_hw) * scores[place]
            areas.append(int(np.count_nonzero(weighed >= threshold)))
            maps.outdo(best, winner, weighed, place)
        won = np.bincount(winner.reshape(-1) + 1, minlength=len(areas) + 1)[1:]
        shown = [
            place for place, area in enumerate(areas) if won[place] and area and maps.share(won[place], area) > overlap
        ]
        crops = [maps.region(winner, place) for place in shown]
        return self.named(crops, scores[shown], class_ids[shown], kind, image_hw)

    def instance(
        self, class_logits: FloatArray, mask_logits: FloatArray, image_hw: tuple[int, int], options: Options
    ) -> Masks:
        """The strongest pairs of query and class; a later one paints over an earlier one, which may be left empty."""
        queries, classes = class_logits.shape[0], class_logits.shape[1] - 1
        flat = softmax(class_logits)[:, :-1].reshape(-1)
        picked = torch_topk_unsorted(flat, queries)
        conf = CONF if options.conf is None else options.conf
        owner = np.full(image_hw, -1, np.int32)
        scores: list[float] = []
        class_ids: list[int] = []
        for index in picked:
            if flat[index] < conf:
                continue
            logits = self.mask(mask_logits[index // classes])
            inside = logits > 0
            mean = (sigmoid(logits) * inside).sum() / (inside.sum(dtype=np.float32) + np.float32(1e-6))
            score = float(flat[index] * mean)
            large = maps.nearest(inside, image_hw)
            if score >= conf and large.any():
                owner[large] = len(scores)
                scores.append(score)
                class_ids.append(int(index % classes))
        crops = [maps.region(owner, number) for number in range(len(scores))]
        return self.named(crops, np.array(scores), np.array(class_ids, np.int32), "instance", image_hw)

    def semantic(self, class_logits: FloatArray, mask_logits: FloatArray, image_hw: tuple[int, int]) -> Masks:
        """Classes weighed with the masks of all queries; the strongest class at each pixel."""
        masks = np.stack([sigmoid(self.mask(mask)) for mask in mask_logits])
        classes = softmax(class_logits)[:, :-1]
        summed = (classes.T @ masks.reshape(len(masks), -1)).reshape(-1, *masks.shape[1:])
        return semantic_masks(maps.winners(summed, image_hw), len(summed), self.labels)

    def mask(self, logits: FloatArray) -> FloatArray:
        return maps.bilinear(logits, self.between) if self.between else logits

    def enlarged(self, plane: FloatArray, image_hw: tuple[int, int]) -> FloatArray:
        return maps.bilinear(plane, image_hw)

    def named(
        self,
        crops: Sequence[Crop],
        scores: FloatArray,
        class_ids: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.integer]],
        kind: MaskKind,
        image_hw: tuple[int, int],
    ) -> Masks:
        numbers = [int(number) for number in class_ids]
        names = tuple(self.labels.get(number, f"LABEL_{number}") for number in numbers)
        return maps.segments(crops, scores.tolist(), numbers, names, kind, image_hw)


FAMILY = MaskFormer
