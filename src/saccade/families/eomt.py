"""Segmentation by EoMT, a plain ViT that answers masks with a class each.

The subtasks follow ``EomtImageProcessor`` of transformers 5.23, which differs from the MaskFormers' in small ways: a
segment keeps only its pixels above the mask threshold, which is tested before the class's score is applied; the padding
is cut off; classes of instances are not shared among queries.
"""

from __future__ import annotations

import numpy as np

from saccade import imageprocessor
from saccade.call import Options
from saccade.card import Card
from saccade.families.maskformer import CONF, MASK_THRESHOLD, OVERLAP, MaskFormer
from saccade.families.semantic import semantic_masks
from saccade.ops import maps
from saccade.ops.activations import sigmoid, softmax
from saccade.results import Crop, FloatArray, Masks


class Eomt(MaskFormer):
    """Reads the same two outputs as the MaskFormers; only the subtasks differ."""

    usual_processor = "Eomt"

    def __init__(self, card: Card) -> None:
        super().__init__(card)
        size = self.processor.facts["size"]
        self.edges = (int(size["shortest_edge"]), int(size.get("longest_edge") or size["shortest_edge"]))

    def panoptic(
        self, class_logits: FloatArray, mask_logits: FloatArray, image_hw: tuple[int, int], options: Options
    ) -> Masks:
        """Each pixel goes to the mask that is the strongest there, weighed with the class's score."""
        probabilities = softmax(class_logits)
        class_ids, scores = probabilities.argmax(axis=1), probabilities.max(axis=1)
        conf = CONF if options.conf is None else options.conf
        kept = np.flatnonzero((class_ids != class_logits.shape[1] - 1) & (scores > conf))
        threshold = MASK_THRESHOLD if options.mask_threshold is None else options.mask_threshold
        overlap = OVERLAP if options.overlap_threshold is None else options.overlap_threshold
        best = np.full(image_hw, -np.inf, np.float32)
        winner = np.full(image_hw, -1, np.int32)
        inside = []
        for place, query in enumerate(kept):
            probability = sigmoid(self.unpadded(mask_logits[query], image_hw))
            inside.append(probability >= threshold)
            weighed = probability * scores[query]
            better = weighed > best
            np.copyto(best, weighed, where=better)
            winner[better] = place
        crops: list[Crop] = []
        queries: list[int] = []
        for place, mask in enumerate(inside):
            mine = winner == place
            area, whole, common = mine.sum(), mask.sum(), mine & mask
            if area and whole and common.any() and maps.share(area, whole) > overlap:
                crops.append(maps.cut(common.view(np.uint8)))
                queries.append(int(kept[place]))
        return self.named(crops, scores[queries], class_ids[queries], "panoptic", image_hw)

    def instance(
        self, class_logits: FloatArray, mask_logits: FloatArray, image_hw: tuple[int, int], options: Options
    ) -> Masks:
        """One instance a query; a later one paints over an earlier one."""
        probabilities = softmax(class_logits)[:, :-1]
        class_ids, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
        conf = CONF if options.conf is None else options.conf
        owner = np.full(image_hw, -1, np.int32)
        scores: list[float] = []
        numbers: list[int] = []
        for query in np.flatnonzero(sure >= conf):
            logits = self.unpadded(mask_logits[query], image_hw)
            inside = logits > 0
            mean = (sigmoid(logits) * inside).sum() / (inside.sum(dtype=np.float32) + np.float32(1e-6))
            score = float(sure[query] * mean)
            if score >= conf and inside.any():
                owner[inside] = len(scores)
                scores.append(score)
                numbers.append(int(class_ids[query]))
        crops = [maps.region(owner, number) for number in range(len(scores))]
        return self.named(crops, np.array(scores, np.float32), numbers, "instance", image_hw)

    def semantic(self, class_logits: FloatArray, mask_logits: FloatArray, image_hw: tuple[int, int]) -> Masks:
        """Classes weighed with the masks of all queries, padding and all, as transformers has it."""
        masks = np.stack([sigmoid(maps.bilinear(mask, self.edges)) for mask in mask_logits])
        classes = softmax(class_logits)[:, :-1]
        summed = (classes.T @ masks.reshape(len(masks), -1)).reshape(-1, *masks.shape[1:])
        return semantic_masks(maps.winners(summed, image_hw), len(summed), self.labels)

    def unpadded(self, logits: FloatArray, image_hw: tuple[int, int]) -> FloatArray:
        """One query's mask on the image, without the padding at the right and the bottom."""
        height, width = imageprocessor.within(image_hw, *self.edges)
        inside = maps.bilinear(logits, self.edges)[: max(height, 1), : max(width, 1)]
        return maps.bilinear(np.ascontiguousarray(inside), image_hw)


FAMILY = Eomt
