"""Checkpoints whose pictures or answers no family of ours knows, read by their own processor from transformers.

Slower than the other families, and needs the extra ``saccade[transformers]``; the runtime is torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.errors import BadOptions, MissingExtra, RunFailed, UnsupportedModel, first_line
from saccade.families.classifier import activation, mapping, ranked
from saccade.families.detr import chosen
from saccade.families.family import Prepared, Tensor
from saccade.families.semantic import model_class, semantic_masks
from saccade.offline import ELSEWHERE, kept_back, offline
from saccade.ops import maps
from saccade.ops.resize import Frame
from saccade.results import Boxes, ByteArray, Depth, IntArray, Labels, MaskKind, Masks

CONF, SEGMENT_CONF, MASK_THRESHOLD, OVERLAP = 0.5, 0.9, 0.5, 0.5
NAMES = {
    "detect": (
        ("logits",),
        ("pred_boxes",),
        ("order_logits", "relative_order_logits"),
        ("out_masks", "successor_order_logits"),
    ),
    "segment": (("class_queries_logits", "logits"), ("masks_queries_logits", "pred_masks")),
    "depth": (("predicted_depth",), ("field_of_view",)),
}
"""By task: under which names a processor may look for each output."""
READERS = {"detect": "post_process_object_detection", "depth": "post_process_depth_estimation"}
"""By task: the processor's way to read answers; of segmentation it has several."""
BACKEND = "pil"
"""Of the processor, where it has several: the same pixels whether torchvision is installed or not."""


class Transformers:
    """Any model of the three auto-classes, and of depth, whose inputs are pictures alone."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.model_class = model_class(card)
        self.processor = processor(card)
        if not hasattr(self.processor, READERS.get(card.task, "preprocess")):
            kind = type(self.processor).__name__
            raise UnsupportedModel(f"The answers of '{card.name}' cannot be read by {kind}, its image processor.")
        self.activation = activation(mapping(card.config.get("config")), card)

    def pixels(self) -> Mapping[str, Pixels]:
        return {}

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        picture = import_module("PIL.Image").fromarray(np.ascontiguousarray(image_rgb))
        try:
            made = self.processor(images=[picture], return_tensors="np")
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = first_line(error)
            raise RunFailed(f"The image processor of '{self.card.name}' failed on the picture: {reason}") from None
        tensors = {key: np.asarray(value) for key, value in made.items() if hasattr(value, "shape")}
        first = tensors.get("pixel_values", next(iter(tensors.values())))
        return Prepared(tensors, Frame((image_rgb.shape[0], image_rgb.shape[1]), (first.shape[-2], first.shape[-1])))

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Labels | Boxes | Masks | Depth:
        if self.card.task == "classify":
            return ranked(outputs[0], self.activation, self.card.labels, options)
        torch = import_module("torch")
        found = SimpleNamespace(patch_offsets=None, field_of_view=None)
        for names, output in zip(NAMES[self.card.task], outputs, strict=False):
            for name in names:
                setattr(found, name, torch.from_numpy(np.asarray(output)))
        if self.card.task == "depth":
            return self.depth(found, frame)
        return self.boxes(found, frame, options) if self.card.task == "detect" else self.masks(found, frame, options)

    def depth(self, found: Any, frame: Frame) -> Depth:
        answer = self.processor.post_process_depth_estimation(found, [frame.image_hw])[0]
        return Depth(depth=answer["predicted_depth"].numpy().astype(np.float32))

    def boxes(self, found: Any, frame: Frame, options: Options) -> Boxes:
        conf = CONF if options.conf is None else options.conf
        sizes = import_module("torch").IntTensor([frame.image_hw])
        answer = self.processor.post_process_object_detection(found, threshold=conf, target_sizes=sizes)[0]
        return chosen(
            answer["boxes"].numpy().astype(np.float32),
            answer["scores"].numpy().astype(np.float32),
            answer["labels"].numpy().astype(np.int32),
            self.card.labels,
            msgspec.structs.replace(options, conf=-np.inf),
            CONF,
        )

    def masks(self, found: Any, frame: Frame, options: Options) -> Masks:
        """As the pipeline of transformers chooses among the processor's ways."""
        kinds: tuple[MaskKind, ...] = ("panoptic", "instance", "semantic")
        for kind in kinds:
            way = getattr(self.processor, f"post_process_{kind}_segmentation", None)
            if way is None or options.subtask not in (None, kind):
                continue
            if kind == "semantic":
                winner = way(found, target_sizes=[frame.image_hw])[0].numpy().astype(np.int32)
                return semantic_masks(winner, int(winner.max()) + 1, self.card.labels)
            return self.segments(way, kind, found, frame, options)
        raise BadOptions(f"Subtask {options.subtask} is not supported for model {self.model_class}")

    def segments(self, way: Any, kind: MaskKind, found: Any, frame: Frame, options: Options) -> Masks:
        answer = way(
            found,
            threshold=SEGMENT_CONF if options.conf is None else options.conf,
            mask_threshold=MASK_THRESHOLD if options.mask_threshold is None else options.mask_threshold,
            overlap_mask_area_threshold=OVERLAP if options.overlap_threshold is None else options.overlap_threshold,
            target_sizes=[frame.image_hw],
        )[0]
        winner, entries = answer["segmentation"].numpy().astype(np.int32), answer["segments_info"]
        class_ids = np.array([entry["label_id"] for entry in entries], np.int32)
        return maps.segments(
            [maps.region(winner, entry["id"]) for entry in entries],
            [entry["score"] for entry in entries],
            class_ids.tolist(),
            self.names(class_ids),
            kind,
            frame.image_hw,
        )

    def names(self, class_ids: IntArray) -> tuple[str, ...]:
        return tuple(self.card.labels.get(number, f"LABEL_{number}") for number in class_ids.tolist())


FAMILY = Transformers


def processor(card: Card) -> Any:
    """The checkpoint's own image processor.

    Raises:
        MissingExtra: transformers is not installed.
        UnsupportedModel: this transformers cannot make it.
    """
    try:
        transformers = import_module("transformers")
    except ImportError:
        raise MissingExtra(f"The model '{card.name}'", extra="transformers") from None
    transformers.utils.logging.set_verbosity_error()
    folder = Path(card.files[0]).parent
    try:
        with offline():
            return transformers.AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, backend=BACKEND
            )
    except (ImportError, OSError, ValueError, KeyError) as error:
        if kept_back(error):
            raise UnsupportedModel(f"The image processor of '{card.name}' {ELSEWHERE}.") from None
        reason = str(error).replace(str(folder), card.name).strip().splitlines()[0][:300]
        raise UnsupportedModel(f"The pictures of '{card.name}' cannot be prepared: {reason}") from None
