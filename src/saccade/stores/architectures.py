"""Which family reads which architecture of a Hugging Face ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from saccade.card import Task


class Architecture(NamedTuple):
    """``words``: a graph can be made of the weights only, together with the tokenizer."""

    task: Task
    family: str
    words: bool = False


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
    "PPOCRV5MobileDetForObjectDetection": Architecture("obb", "dbnet"),
    "PPOCRV5ServerDetForObjectDetection": Architecture("obb", "dbnet"),
    "PPOCRV6SmallDetForObjectDetection": Architecture("obb", "dbnet"),
    "PPOCRV6MediumDetForObjectDetection": Architecture("obb", "dbnet"),
    "RfDetrForObjectDetection": Architecture("detect", "rfdetr"),
    "RfDetrForInstanceSegmentation": Architecture("segment", "rfdetr"),
    "DetrForSegmentation": Architecture("segment", "maskformer"),
    "MaskFormerForInstanceSegmentation": Architecture("segment", "maskformer"),
    "Mask2FormerForUniversalSegmentation": Architecture("segment", "maskformer"),
    "EomtForUniversalSegmentation": Architecture("segment", "eomt"),
    "EomtDinov3ForUniversalSegmentation": Architecture("segment", "eomt"),
    "OneFormerForUniversalSegmentation": Architecture("segment", "oneformer", words=True),
    "CLIPModel": Architecture("zero-shot-classify", "clip", words=True),
    "SiglipModel": Architecture("zero-shot-classify", "clip", words=True),
    "Siglip2Model": Architecture("zero-shot-classify", "clip", words=True),
}

ENDINGS: dict[str, Architecture] = {
    "ForImageClassification": Architecture("classify", "classifier"),
    "ForImageClassificationWithTeacher": Architecture("classify", "classifier"),
    "ForImageClassificationLearned": Architecture("classify", "classifier"),
    "ForImageClassificationFourier": Architecture("classify", "classifier"),
    "ForImageClassificationConvProcessing": Architecture("classify", "classifier"),
    "ForSemanticSegmentation": Architecture("segment", "semantic"),
    "ForObjectDetection": Architecture("detect", "transformers"),
    "ForDepthEstimation": Architecture("depth", "depth"),
    "ForUniversalSegmentation": Architecture("segment", "transformers"),
    "ForInstanceSegmentation": Architecture("segment", "transformers"),
}
"""Families of whole groups: the heads of one ending answer alike."""

TEXTUAL = "looks for what a text names"
REFUSED: dict[str, str] = {
    "GroundingDinoForObjectDetection": TEXTUAL,
    "MMGroundingDinoForObjectDetection": TEXTUAL,
    "OmDetTurboForObjectDetection": TEXTUAL,
    "OwlViTForObjectDetection": TEXTUAL,
    "Owlv2ForObjectDetection": TEXTUAL,
    "ShieldGemma2ForImageClassification": "judges a picture by a rule written as text",
    "VideomtForUniversalSegmentation": "takes videos",
}
"""What no family reads though it ends like others: it takes more, or something else, than a picture."""
TIMM = "TimmWrapperForImageClassification"


def named(config: Mapping[str, Any]) -> list[str]:
    """The classes that a ``config.json`` names, the best first; timm's own configurations name none."""
    written = config.get("architectures")
    names = [str(item) for item in written] if isinstance(written, list) else []
    return names or ([TIMM] if "pretrained_cfg" in config else [])


def find(name: str) -> Architecture | None:
    """The architecture of this class name, or None if no family reads it."""
    if name in SPECIAL:
        return SPECIAL[name]
    if name in REFUSED:
        return None
    return next((known for ending, known in ENDINGS.items() if name.endswith(ending)), None)
