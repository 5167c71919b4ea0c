"""A desk, requests and results made for the tests of the Ultralytics dialects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from saccade.call import Answer
from saccade.card import Card, Task
from saccade.dialects.dialect import Dialect, Incoming, ModelState, Outgoing
from saccade.errors import UnknownModel
from saccade.meter import Timings
from saccade.results import Boxes, Depth, Grid, Keypoints, Labels, Masks, OrientedBoxes, Result, Rle

SHAPE = (750, 600)
BOUNDARY = "cut"


def card(name: str, task: Task = "detect", **facts: Any) -> Card:
    labels = {0: "person", 27: "tie"}
    return Card(name=name, task=task, family="toy", runtime="toy", labels=labels, dynamic=True, **facts)


class Desk:
    """A house with a few models."""

    def __init__(self, *cards: Card) -> None:
        self._cards = cards or (card("yolo11n"), card("AbCdEfGhIjKlMnOpQrSt"))

    def card(self, ref: str) -> Card:
        for each in self._cards:
            if each.name == ref:
                return each
        raise UnknownModel(f"There is no model '{ref}'.")

    def cards(self) -> Sequence[Card]:
        return self._cards

    def state(self, ref: str) -> ModelState:
        return "warm"

    def device(self) -> Any:
        return "cpu"

    def default_model(self) -> str | None:
        return self._cards[0].name

    def uptime_s(self) -> float:
        return 12.5


def photo(width: int = 8, height: int = 6) -> bytes:
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()


def form(
    path: str,
    fields: dict[str, str] | None = None,
    files: dict[str, bytes] | None = None,
    query: tuple[tuple[str, str], ...] = (),
    headers: dict[str, str] | None = None,
    match: dict[str, str] | None = None,
) -> Incoming:
    """A multipart POST; ``files`` get their field's name as file name, as the old SDK does it."""
    body = b""
    for name, value in (fields or {}).items():
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    for name, data in (files or {}).items():
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'
        body += head.encode() + data + b"\r\n"
    body += f"--{BOUNDARY}--\r\n".encode()
    kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    return Incoming("POST", path, query=query, headers=kind | (headers or {}), body=body, match=match or {})


def posted(path: str, body: object, match: dict[str, str] | None = None, **query: str) -> Incoming:
    """A JSON POST."""
    return Incoming(
        "POST",
        path,
        query=tuple(query.items()),
        headers={"content-type": "application/json"},
        body=json.dumps(body).encode(),
        match=match or {},
    )


def answer(result: Result, image_hw: tuple[int, int] = SHAPE, **facts: Any) -> Answer:
    timings = Timings(preprocess_ms=2.8, inference_ms=200.8, postprocess_ms=0.8)
    return Answer(result=result, image_hw=image_hw, timings=timings, input_hw=(640, 512), **facts)


def told(dialect: Dialect, incoming: Incoming, *answers: Answer, desk: Desk | None = None) -> Outgoing:
    """What the dialect answers when the engine answers like this."""
    return dialect.render(dialect.parse(incoming, desk or Desk()), answers)


BOXES = Boxes(
    boxes_xyxy=np.array([[118, 112, 416, 660], [10.123456, 20.5, 30.25, 40]], np.float32),
    scores=np.array([0.92, 0.5123456], np.float32),
    class_ids=np.array([0, 27], np.int32),
    names=("person", "tie"),
)
NOTHING = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), ())
LABELS = Labels(
    class_ids=np.array([2, 3, 4, 0, 5], np.int32),
    scores=np.array([0.4, 0.2, 0.15, 0.1, 0.07], np.float32),
    names=("c", "d", "e", "a", "f"),
)
ORIENTED = OrientedBoxes(
    boxes_xywhr=np.array([[100, 80, 60, 20, 0.3]], np.float32),
    corners_xy=np.array(
        [[[125.7049, 98.4190], [131.6153, 79.3122], [74.2951, 61.5810], [68.3847, 80.6878]]], np.float32
    ),
    scores=np.array([0.92], np.float32),
    class_ids=np.array([0], np.int32),
    names=("person",),
)
POSE = Keypoints(
    boxes_xyxy=np.array([[118, 112, 416, 660]], np.float32),
    scores=np.array([0.92], np.float32),
    class_ids=np.array([0], np.int32),
    names=("person",),
    keypoints_xy=np.array([[[370.3125, 182.8125], [600, 0]]], np.float32),
    visibility=np.array([[0.99094, 0.25]], np.float32),
)
GRID = Grid(640, 512, 0.8533333, 0.8533333, 0, 0, SHAPE)
SEGMENT = Masks(
    boxes_xyxy=np.array([[58.5, 117, 303.6, 374]], np.float32),
    scores=np.array([0.92], np.float32),
    class_ids=np.array([0], np.int32),
    names=("person",),
    kind="instance",
    grid=GRID,
    areas=np.array([11200], np.int32),
    form="polygon",
    polygons=(np.array([[234.375, 351.5625], [234.375, 373.828125], [303.515625, 373.828125]], np.float32),),
)
SEMANTIC = Masks(
    boxes_xyxy=np.array([[0, 0, 2, 2], [2, 0, 4, 2]], np.float32),
    scores=np.ones(2, np.float32),
    class_ids=np.array([0, 27], np.int32),
    names=("person", "tie"),
    kind="semantic",
    grid=Grid(2, 4, 1, 1, 0, 0, (2, 4)),
    areas=np.array([4, 4], np.int32),
    form="rle",
    rles=(Rle((2, 4), (0, 4, 4)), Rle((2, 4), (4, 4))),
)
DEPTH = Depth(np.array([[1.0, 2.0], [3.0, 5.0]], np.float32))
EVERYTHING: tuple[Result, ...] = (BOXES, NOTHING, LABELS, ORIENTED, POSE, SEGMENT, SEMANTIC, DEPTH)
