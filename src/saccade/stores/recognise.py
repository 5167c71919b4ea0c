"""Which family can read a graph, told from its metadata and, without any, from its shapes alone."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from saccade.card import Task
from saccade.errors import CorruptFiles, UnsupportedModel
from saccade.stores import labels
from saccade.stores.graph import Header, Port

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "classify": "classify",
        "depth": "depth",
        "detect": "detect",
        "obb": "obb",
        "pose": "pose",
        "segment": "segment",
        "semantic": "segment",
    }
)
"""The tasks of the ultralytics package, in a Card's words."""
MAPS = ("semantic", "depth")
"""Those of its tasks whose models answer with a map."""
STRIDES = (8, 16, 32)
PROTOTYPES = 32
"""Mask coefficients of every YOLO segmentation model."""
PERSONS = 4 + 1 + 17 * 3
"""Numbers at each place of a YOLO for the poses of persons, as COCO has them."""
YOLOV6 = "outputs"
"""What the yolov6 repository's exporter calls its output; YOLOX, whose is of the same shape, calls it "output"."""
TURNED = 84
"""Numbers at each place of a YOLO for COCO's 80 classes whose table was turned round: nobody has a YOLOX of 79."""
COUNTS = ("num_dets", "num_detections")
"""What exporters call the number of boxes that TensorRT's suppression (EfficientNMS) leaves."""
ROW = 7
"""Numbers of a row after the suppression that the yolov7 repository exports for ONNX Runtime."""
NANODET = "data"
"""What NanoDet's exporter calls its input; its output has a YOLOX's shape, and something else in it."""
LITERAL_LIMIT = 1_000_000
"""Longest metadata value that is parsed: class lists of tens of thousands fit."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a graph tells of itself, in a Card's words."""

    task: Task
    family: str
    labels: dict[int, str] = {}
    input_hw: tuple[int, int] | None = None
    dynamic: bool = False
    stride: int = 32
    keypoint_shape: tuple[int, int] | None = None
    licence: str = "unknown"


def facts(name: str, header: Header) -> Facts:
    """The facts of the model called ``name``.

    Raises:
        UnsupportedModel: neither metadata nor shapes say how to read it.
        CorruptFiles: the metadata is damaged.
    """
    if "task" in header.metadata and ("names" in header.metadata or header.metadata["task"] in TASKS):
        return ultralytics(name, header)
    if "names" not in header.metadata:
        return by_shape(name, header)
    if "stride" in header.metadata:
        return classic(name, header, class_names(name, header.metadata))
    return msgspec.structs.replace(by_shape(name, header), labels=class_names(name, header.metadata))


def ultralytics(name: str, header: Header) -> Facts:
    """Exports of the ultralytics package carry ``str()`` of Python objects; they are parsed, never evaluated."""
    metadata = header.metadata
    task = metadata["task"]
    if task not in TASKS:
        raise UnsupportedModel(f"'{name}' does the task '{task}'; known are {', '.join(TASKS)}.")
    if (channels := metadata.get("channels", "3").strip()) != "3":
        raise UnsupportedModel(
            f"'{name}' takes pictures of {channels} channel{'s' * (channels != '1')}; only colour (3) is supported. "
            "Train and export it for pictures of three channels."
        )
    size = pair(literal(name, metadata, "imgsz"))
    static = image_hw(header, size)
    keypoints = pair(literal(name, metadata, "kpt_shape"))
    names = class_names(name, metadata) if "names" in metadata else unnamed(task, header, keypoints or (17, 3))
    family = "yolo_maps" if task in MAPS else "yolo"
    if task == "detect" and is_rtdetr(header, len(names)):
        family = "rtdetr_ultralytics"
    return Facts(
        task=TASKS[task],
        family=family,
        labels=names,
        input_hw=static or size,
        # Graphs that were exported as dynamic and given a fixed size later say "dynamic" still.
        dynamic=static is None,
        stride=whole(literal(name, metadata, "stride"), 32),
        keypoint_shape=keypoints,
        licence=metadata.get("license", "unknown").split(" ")[0] or "unknown",
    )


def unnamed(task: str, header: Header, keypoints: tuple[int, int]) -> dict[int, str]:
    """Names for as many classes as the first output has numbers for; none where that does not show."""
    shape = header.outputs[0].shape
    if task == "classify":
        return labels.fallback(shape[-1]) if shape and shape[-1] else {}
    rows, columns = shape[1:] if len(shape) == 3 else (None, None)
    extra = {"segment": PROTOTYPES, "pose": keypoints[0] * keypoints[1], "obb": 1}.get(task, 0)
    if not rows or rows <= 4 + extra or (columns is not None and columns <= rows):
        return {}
    if task == "pose" and rows == PERSONS:
        return {0: "person"}
    return labels.fallback(rows - 4 - extra)


def is_rtdetr(header: Header, classes: int) -> bool:
    """Whether the exporter calls it so, or it answers with a number a class for each of at most a thousand queries."""
    shape = header.outputs[0].shape
    queries, columns = shape[1:] if len(shape) == 3 else (None, None)
    # Six are rows of a YOLO, too; a tiny YOLO of as many anchors as rows is a square.
    shaped = columns == 4 + classes != 6 and queries is not None and queries <= 1000 and queries != columns
    return shaped or "rtdetr" in header.metadata.get("description", "").lower().replace("-", "")


def classic(name: str, header: Header, names: dict[int, str]) -> Facts:
    """Exports of the yolov5 repository: metadata has names and stride alone, the task shows in the outputs.

    Where the task was lost out of other metadata, the shape of keypoints may be left.
    """
    shape = header.outputs[0].shape
    keypoints = pair(literal(name, header.metadata, "kpt_shape"))
    if counted(header) or (len(shape) == 2 and shape[1] not in (None, len(names))):
        raise unknown(name, header)  # boxes after a suppression of the graph's own, in rows or in several outputs
    task: Task = "detect"
    if len(shape) == 2:
        task = "classify"
    elif has_prototypes(header):
        task = "segment"
    elif keypoints is not None:
        task = "pose"
    return Facts(
        task=task,
        family="yolo",
        labels=names,
        input_hw=(hw := image_hw(header)),
        dynamic=hw is None,
        stride=whole(literal(name, header.metadata, "stride"), 32),
        keypoint_shape=keypoints,
    )


def by_shape(name: str, header: Header) -> Facts:
    """A detector without metadata, if its output fits one known layout and no other."""
    if image_input(header) is None:
        raise unknown(name, header)
    hw = image_hw(header)
    shape = header.outputs[0].shape
    rows, columns = shape[1:] if len(shape) == 3 else (None, None)
    extra = PROTOTYPES if has_prototypes(header) else 0
    task: Task = "segment" if extra else "detect"
    anchors = cells(hw) if hw else None
    if rows and columns and rows == anchors and columns > 5 and not extra:
        if header.inputs[0].name == NANODET or len(header.outputs) > 1:
            raise unknown(name, header)
        if columns == TURNED:
            return Facts(task="detect", family="yolo", labels=labels.fallback(columns - 4), input_hw=hw)
        family = "yolo" if header.outputs[0].name == YOLOV6 else "yolox"
        return Facts(task="detect", family=family, labels=labels.fallback(columns - 5), input_hw=hw)
    if rows and columns and anchors and rows == 3 * anchors and columns > 5 + extra:
        return Facts(task=task, family="yolo", labels=labels.fallback(columns - 5 - extra), input_hw=hw)
    if rows == PERSONS and not extra and columns in (anchors, None):
        person = {0: "person"}
        return Facts(task="pose", family="yolo", labels=person, input_hw=hw, dynamic=hw is None, keypoint_shape=(17, 3))
    if rows and rows > 4 + extra and columns in (anchors, None):
        names = labels.fallback(rows - 4 - extra)
        return Facts(task=task, family="yolo", labels=names, input_hw=hw, dynamic=hw is None)
    if columns == 6 + extra and rows and rows <= 1000:
        return Facts(task=task, family="yolo", input_hw=hw, dynamic=hw is None)
    raise unknown(name, header)


def unknown(name: str, header: Header) -> UnsupportedModel:
    if suppressed(header):
        return UnsupportedModel(
            f"'{name}' ends in a non-maximum suppression whose answers no family reads ({header}). Export it again "
            "without that: yolov7's export.py with --grid and without --end2end, yolov9's with --include onnx."
        )
    return UnsupportedModel(
        f"'{name}' carries no metadata that says what it is, and its shapes fit no known model ({header}). If you know "
        f"its family, write '{name}.toml' beside it with family, task and labels; else export it again with metadata."
    )


def suppressed(header: Header) -> bool:
    """Whether it answers with how many boxes there are, or with rows of picture, box, class and score."""
    shape = header.outputs[0].shape
    rows = len(header.outputs) == 1 and len(shape) == 2 and shape[0] is None and shape[1] == ROW
    return rows or counted(header)


def counted(header: Header) -> bool:
    return any(port.name in COUNTS for port in header.outputs)


def image_input(header: Header) -> Port | None:
    """The input that takes the picture: the only one of four dimensions with three channels."""
    pictures = [port for port in header.inputs if len(port.shape) == 4 and (port.shape[1] == 3 or port.shape[3] == 3)]
    return pictures[0] if len(pictures) == 1 else None


def image_hw(header: Header, exported: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """(height, width) of the picture's input, None if they are free. If one of them alone is free, it is what it was
    when the graph was ``exported``, or the side of a square."""
    port = image_input(header)
    if port is None:
        return None
    height, width = port.shape[2:] if port.shape[1] == 3 else port.shape[1:3]
    if not height and not width:
        return None
    usual = exported or (width, height)
    return height or usual[0] or 0, width or usual[1] or 0


def has_prototypes(header: Header) -> bool:
    return len(header.outputs) > 1 and len(header.outputs[1].shape) == 4 and header.outputs[1].shape[1] == PROTOTYPES


def cells(hw: tuple[int, int]) -> int:
    """How many places a detector with strides 8, 16 and 32 looks at."""
    return sum((hw[0] // stride) * (hw[1] // stride) for stride in STRIDES)


def class_names(name: str, metadata: Mapping[str, str]) -> dict[int, str]:
    """Class id → name from a written dict or list."""
    names = literal(name, metadata, "names")
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if isinstance(names, dict):  # JSON has numbers as keys only as strings
        names = {int(key) if isinstance(key, str) and key.isdecimal() else key: names[key] for key in names}
    if not isinstance(names, dict) or not names or not all(isinstance(number, int) for number in names):
        raise CorruptFiles(f"The class names in the metadata of '{name}' are damaged. Export the model again.")
    return labels.readable({number: str(value) for number, value in sorted(names.items())})


def literal(name: str, metadata: Mapping[str, str], key: str) -> Any:
    """A Python literal out of the metadata; None if the key is missing."""
    written = metadata.get(key)
    if written is None:
        return None
    try:
        if len(written) > LITERAL_LIMIT:
            raise ValueError("too long")
        return ast.literal_eval(written)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise CorruptFiles(f"'{key}' in the metadata of '{name}' is damaged. Export the model again.") from error


def pair(value: Any) -> tuple[int, int] | None:
    """[a, b] or a single number for both."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(part, int) for part in value):
        return value[0], value[1]
    return None


def whole(value: Any, otherwise: int) -> int:
    """A positive whole number; lists (strides of old exports) give their largest."""
    numbers = [number for number in (value if isinstance(value, list | tuple) else [value]) if positive(number)]
    return int(max(numbers, default=otherwise))


def positive(value: Any) -> bool:
    return isinstance(value, int | float) and 1 <= value < float("inf")
