"""Semantic segmentation: one class a pixel (SegFormer, UperNet, BEiT, DPT, MobileViT, DeepLab …)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from saccade import imageprocessor
from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.errors import BadOptions
from saccade.families.family import Prepared, Tensor, as_float32
from saccade.ops import maps
from saccade.ops.resize import Frame
from saccade.results import ByteArray, IntArray, Masks


class Semantic:
    """Graphs whose first output is logits (n, classes, h, w), at any scale of the picture.

    ``card.config["layout"]`` "NHWC" says that the graph, made by TensorFlow, has its channels last.
    """

    def __init__(self, card: Card) -> None:
        self.labels = card.labels
        self.model_class = model_class(card)
        config = card.config.get("preprocessor")
        self.processor = imageprocessor.of(config if isinstance(config, dict) else None, "Segformer", card.input_hw)
        self.channels_last = card.config.get("layout") == "NHWC"

    def pixels(self) -> Mapping[str, Pixels]:
        pictures = self.processor.pixels()
        if not self.channels_last:
            return pictures
        return {name: msgspec.structs.replace(picture, layout="NHWC") for name, picture in pictures.items()}

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        return Prepared(*self.processor(image_rgb))

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Masks:
        """Segments ascend by class; scores are 1.

        Raises:
            BadOptions: another subtask than "semantic" was asked for.
        """
        if options.subtask not in (None, "semantic"):
            raise BadOptions(f"Subtask {options.subtask} is not supported for model {self.model_class}")
        logits = as_float32(outputs[0])[0]
        if self.channels_last:
            logits = np.ascontiguousarray(logits.transpose(2, 0, 1))
        winner = maps.winners(logits, frame.image_hw)
        return semantic_masks(winner, len(logits), self.labels)


FAMILY = Semantic


def model_class(card: Card) -> str:
    """The model's class as Python writes it; users of transformers know it from its errors."""
    config = card.config.get("config")
    facts = config if isinstance(config, dict) else {}
    names = facts.get("architectures")
    if not (isinstance(names, list) and names):
        return f"<class '{card.family}'>"
    room = str(facts.get("model_type", "auto")).replace("-", "_")
    return f"<class 'transformers.models.{room}.modeling_{room}.{names[0]}'>"


def semantic_masks(winner: IntArray, classes: int, labels: Mapping[int, str]) -> Masks:
    """A map of class ids as segments, one for each class that is present."""
    present = np.flatnonzero(np.bincount(winner.reshape(-1), minlength=classes)).tolist()
    return maps.segments(
        [maps.region(winner, number) for number in present],
        [1.0] * len(present),
        present,
        tuple(labels.get(number, f"LABEL_{number}") for number in present),
        "semantic",
        (winner.shape[0], winner.shape[1]),
    )
