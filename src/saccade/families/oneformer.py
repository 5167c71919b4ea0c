"""Segmentation by OneFormer, one network for three subtasks, which is told which of them it is to do.

It is told so in words ("the task is panoptic"), whose tokens lie in the graph; the graph takes the subtask's number in
``MaskKind``. The subtasks follow ``OneFormerImageProcessor`` of transformers 5.23, which differs from the MaskFormers'
in two things: planes are resized with antialiasing, and instances share out the pixels by their logits as panoptic
segments do by their probabilities.
"""

from __future__ import annotations

from typing import get_args

import numpy as np

from saccade.call import Options
from saccade.errors import BadOptions
from saccade.families.family import Prepared
from saccade.families.maskformer import CONF, MaskFormer
from saccade.ops import antialias
from saccade.ops.activations import softmax
from saccade.ops.selection import torch_topk_unsorted
from saccade.results import ByteArray, FloatArray, MaskKind, Masks

SUBTASKS: tuple[MaskKind, ...] = get_args(MaskKind)
SUBTASK = "subtask"
"""The graph's second input, (n, 1) int64."""


class OneFormer(MaskFormer):
    """Reads the same two outputs as the MaskFormers."""

    usual_processor = "OneFormer"

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        """Raises BadOptions for a subtask of another name than panoptic, instance and semantic."""
        subtask = options.subtask or "panoptic"
        if subtask not in SUBTASKS:
            raise BadOptions(f"Subtask {subtask} is not supported for model {self.model_class}")
        prepared = super().prepare(image_rgb, options)
        number = np.array([[SUBTASKS.index(subtask)]], np.int64)
        return Prepared({**prepared.tensors, SUBTASK: number}, prepared.frame)

    def instance(
        self, class_logits: FloatArray, mask_logits: FloatArray, image_hw: tuple[int, int], options: Options
    ) -> Masks:
        """The strongest pairs of query and class."""
        queries, classes = class_logits.shape[0], class_logits.shape[1] - 1
        flat = softmax(class_logits)[:, :-1].reshape(-1)
        picked = torch_topk_unsorted(flat, queries)
        picked = picked[flat[picked] > (CONF if options.conf is None else options.conf)]
        planes = (mask_logits[query] for query in picked // classes)
        class_ids = (picked % classes).astype(np.int32)
        return self.weighed(planes, flat[picked], class_ids, "instance", image_hw, options)

    def enlarged(self, plane: FloatArray, image_hw: tuple[int, int]) -> FloatArray:
        shrinks = plane.shape[0] > image_hw[0] or plane.shape[1] > image_hw[1]
        return antialias.plane(plane, image_hw) if shrinks else super().enlarged(plane, image_hw)


FAMILY = OneFormer
