"""Which family reads which architecture of a Hugging Face ``config.json``."""

from __future__ import annotations

from typing import NamedTuple

from saccade.card import Task


class Architecture(NamedTuple):
    task: Task
    family: str


SPECIAL: dict[str, Architecture] = {
    "DetrForObjectDetection": Architecture("detect", "detr"),
    "ConditionalDetrForObjectDetection": Architecture("detect", "rtdetr"),
    "DabDetrForObjectDetection": Architecture("detect", "rtdetr"),
    "DeformableDetrForObjectDetection": Architecture("detect", "rtdetr"),
    "LwDetrForObjectDetection": Architecture("detect", "rtdetr"),
    "Deimv2ForObjectDetection": Architecture("detect", "rtdetr"),
    "TableTransformerForObjectDetection": Architecture("detect", "detr"),
    "YolosForObjectDetection": Architecture("detect", "detr"),
    "RTDetrForObjectDetection": Architecture("detect", "rtdetr"),
    "RTDetrV2ForObjectDetection": Architecture("detect", "rtdetr"),
    "DFineForObjectDetection": Architecture("detect", "rtdetr"),
    "DetrForSegmentation": Architecture("segment", "maskformer"),
    "MaskFormerForInstanceSegmentation": Architecture("segment", "maskformer"),
    "Mask2FormerForUniversalSegmentation": Architecture("segment", "maskformer"),
    "EomtForUniversalSegmentation": Architecture("segment", "eomt"),
    "EomtDinov3ForUniversalSegmentation": Architecture("segment", "eomt"),
    "CLIPModel": Architecture("zero-shot-classify", "clip"),
    "SiglipModel": Architecture("zero-shot-classify", "clip"),
    "Siglip2Model": Architecture("zero-shot-classify", "clip"),
}

ENDINGS: dict[str, Architecture] = {
    "ForImageClassification": Architecture("classify", "classifier"),
    "ForImageClassificationWithTeacher": Architecture("classify", "classifier"),
    "ForSemanticSegmentation": Architecture("segment", "semantic"),
    "ForObjectDetection": Architecture("detect", "transformers"),
    "ForDepthEstimation": Architecture("depth", "depth"),
    "ForUniversalSegmentation": Architecture("segment", "transformers"),
    "ForInstanceSegmentation": Architecture("segment", "transformers"),
}
"""Families of whole groups: the heads of one ending answer alike."""


def find(name: str) -> Architecture | None:
    """The architecture of this class name, or None if no family reads it."""
    if name in SPECIAL:
        return SPECIAL[name]
    return next((known for ending, known in ENDINGS.items() if name.endswith(ending)), None)
