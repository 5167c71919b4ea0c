"""One example a family (or more): a Card, and a stand-in for its graph that answers by the shapes it is given.

``graph`` turns one image's tensors into that image's outputs, each with a leading axis of 1; it must depend on the
pixels, so that a mixed-up answer is noticed. ``nothing`` are options at which no object is left.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.call import Options
from saccade.card import Card, Task
from saccade.results import Boxes, Keypoints, Labels, Masks, OrientedBoxes

Tensors = Mapping[str, NDArray[Any]]
Outputs = list[NDArray[Any]]

RESULTS: dict[str, type] = {
    "classify": Labels,
    "detect": Boxes,
    "segment": Masks,
    "pose": Keypoints,
    "obb": OrientedBoxes,
}
NAMES = {number: f"name{number}" for number in range(6)}
PREPROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 64}}


@dataclass(frozen=True)
class Example:
    card: Card
    graph: Callable[[Tensors], Outputs]
    nothing: Options | None = field(default=Options(conf=1.0))


def example(
    family: str, task: Task, graph: Callable[[Tensors], Outputs], nothing: Options | None = None, **facts: Any
) -> Example:
    facts = {"labels": NAMES, "input_hw": (64, 64), **facts}
    card = Card(name=family, task=task, family=family, runtime="simulated", **facts)
    return Example(card, graph, nothing or Options(conf=1.0))


def chance(tensors: Tensors) -> np.random.Generator:
    """Random numbers that are the image's own."""
    return np.random.default_rng(zlib.crc32(b"".join(np.ascontiguousarray(t).tobytes() for t in tensors.values())))


def picture(tensors: Tensors) -> NDArray[Any]:
    return max(tensors.values(), key=lambda tensor: tensor.size)


def normal(tensors: Tensors, *shapes: tuple[int, ...]) -> Outputs:
    random = chance(tensors)
    return [random.normal(0, 3, shape).astype(np.float32) for shape in shapes]


def queries(extra: int) -> Callable[[Tensors], Outputs]:
    """Class logits and boxes of 20 queries."""

    def graph(tensors: Tensors) -> Outputs:
        logits, boxes = normal(tensors, (1, 20, 6 + extra), (1, 20, 4))
        return [logits, 1 / (1 + np.exp(-boxes))]

    return graph


def finished_queries(tensors: Tensors) -> Outputs:
    """Box and scores of 20 queries."""
    return [chance(tensors).uniform(0, 1, (1, 20, 10)).astype(np.float32)]


def masked_queries(tensors: Tensors) -> Outputs:
    height, width = picture(tensors).shape[1:3]
    logits, masks = normal(tensors, (1, 20, 7), (1, 20, height // 4, width // 4))
    return [4 * logits, masks]


def plain_queries(tensors: Tensors) -> Outputs:
    """Masks of a picture that has its channels first, and no class for nothing."""
    height, width = picture(tensors).shape[2:4]
    return normal(tensors, (1, 20, 6), (1, 20, height // 4, width // 4))


def semantic(tensors: Tensors) -> Outputs:
    height, width = picture(tensors).shape[1:3]
    return normal(tensors, (1, 6, height // 4, width // 4))


def ids(tensors: Tensors) -> Outputs:
    height, width = picture(tensors).shape[1:3]
    return [chance(tensors).integers(0, 6, (1, height, width), np.uint8)]


def picodet(tensors: Tensors) -> Outputs:
    random = chance(tensors)
    corners = np.sort(random.uniform(0, 64, (9, 2, 2)), axis=1).reshape(9, 4) / np.tile(tensors["scale_factor"], 2)
    rows = np.column_stack([random.integers(0, 6, 9), random.uniform(0, 1, 9), corners])
    return [rows.astype(np.float32), np.array([9], np.int32)]


def movenet(tensors: Tensors) -> Outputs:
    rows = chance(tensors).uniform(0, 1, (1, 6, 56)).astype(np.float32)
    rows[..., 51:55] = np.sort(rows[..., 51:55].reshape(1, 6, 2, 2), axis=2).reshape(1, 6, 4)
    return [rows]


def dbnet(tensors: Tensors) -> Outputs:
    """Bars whose place depends on the image."""
    height, width = picture(tensors).shape[1:3]
    ink = np.zeros((1, 1, height, width), np.float32)
    top = int(chance(tensors).integers(0, max(1, height - 16)))
    ink[0, 0, top : top + 10, width // 4 : width // 2] = 0.9
    return [ink]


def yolo(classes: int, extra: int = 0) -> Callable[[Tensors], Outputs]:
    """Raw anchors: centre, size, scores, extras; prototypes with 32 extras."""

    def graph(tensors: Tensors) -> Outputs:
        random = chance(tensors)
        height, width = picture(tensors).shape[1:3]
        anchors = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
        table = random.uniform(0, 1, (1, 4 + classes + extra, anchors)).astype(np.float32)
        table[:, 0] *= width
        table[:, 1] *= height
        table[:, 2:4] *= 20
        prototypes = random.normal(0, 1, (1, 32, height // 4, width // 4)).astype(np.float32)
        return [table, prototypes] if extra == 32 else [table]

    return graph


def yolox(tensors: Tensors) -> Outputs:
    """Undecoded: logarithms of sizes, offsets in cells."""
    random = chance(tensors)
    image = picture(tensors)
    height, width = image.shape[1:3]
    anchors = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
    return [random.uniform(0, 1, (1, anchors, 11)).astype(np.float32)]


def one_number(tensors: Tensors) -> Outputs:
    return [np.array([[picture(tensors).mean()]], np.float32)]


HUB = {"config": {"preprocessor": PREPROCESSOR, "config": {}}}

EOMT = {
    "config": {
        "preprocessor": {
            "image_processor_type": "EomtImageProcessor",
            "size": {"shortest_edge": 64, "longest_edge": 64},
            "do_pad": True,
        },
        "config": {},
    }
}

RFDETR = {
    "config": {
        "preprocessor": {"image_processor_type": "RfDetrImageProcessor", "size": {"height": 64, "width": 64}},
        "config": {},
    }
}

EXAMPLES: dict[str, list[Example]] = {
    "classifier": [
        example("classifier", "classify", lambda tensors: normal(tensors, (1, 6)), Options(top_k=0), **HUB),
    ],
    "dbnet": [example("dbnet", "obb", dbnet, labels={0: "text"}, input_hw=None)],
    "eomt": [example("eomt", "segment", masked_queries, **EOMT)],
    "detr": [example("detr", "detect", queries(1), **HUB)],
    "maskformer": [example("maskformer", "segment", masked_queries, **HUB)],
    "movenet": [example("movenet", "pose", movenet, labels={0: "person"}, dynamic=True, keypoint_shape=(17, 3))],
    "oneformer": [example("oneformer", "segment", masked_queries, **HUB)],
    "picodet": [example("picodet", "detect", picodet)],
    "rfdetr": [
        example("rfdetr", "detect", queries(0), **RFDETR),
        example("rfdetr", "segment", plain_queries, **RFDETR),
    ],
    "rtdetr": [example("rtdetr", "detect", queries(0), **HUB)],
    "rtdetr_ultralytics": [example("rtdetr_ultralytics", "detect", finished_queries)],
    "yolo_maps": [Example(example("yolo_maps", "segment", ids).card, ids, None)],
    "semantic": [Example(example("semantic", "segment", semantic, **HUB).card, semantic, None)],
    "simulated": [example("simulated", "detect", one_number)],
    "yolo": [
        example("yolo", "detect", yolo(6)),
        example("yolo", "segment", yolo(6, 32)),
        example("yolo", "pose", yolo(1, 51), labels={0: "person"}, keypoint_shape=(17, 3), dynamic=True),
        example("yolo", "obb", yolo(6, 1)),
        example("yolo", "classify", lambda tensors: normal(tensors, (1, 6)), Options(top_k=0)),
    ],
    "yolox": [example("yolox", "detect", yolox)],
}
