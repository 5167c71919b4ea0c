"""RT-DETR exports of Ultralytics: how their answers are read, and that they are not taken for YOLOs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from saccade.call import Options
from saccade.card import Card
from saccade.errors import UnsupportedModel
from saccade.families.rtdetr_ultralytics import RtDetrUltralytics
from saccade.ops.resize import Frame
from saccade.stores.local import Local
from stores.toy import DETECTOR, onnx_file

CARD = Card(
    name="toy",
    task="detect",
    family="rtdetr_ultralytics",
    runtime="none",
    labels={0: "a", 1: "b"},
    input_hw=(64, 64),
    dynamic=True,
)
FRAME = Frame((100, 200), (64, 64), 64 / 200, 64 / 100)


@pytest.mark.parametrize(
    "table",
    [
        [[0.5, 0.5, 0.5, 0.2, 0.9, 1], [0.25, 0.5, 0.6, 0.2, 0.26, 0], [0, 0, 1, 1, 0.25, 0]],
        [[0.25, 0.5, 0.6, 0.2, 0.26, 0.2], [0, 0, 1, 1, 0.1, 0.25], [0.5, 0.5, 0.5, 0.2, 0.4, 0.9]],
    ],
    ids=["best class", "every class"],
)
def test_parts_of_the_picture_become_pixels_best_first(table: list[list[float]]) -> None:
    found = RtDetrUltralytics(CARD).read([np.array([table], np.float32)], FRAME, Options())
    np.testing.assert_allclose(found.boxes_xyxy, [[50, 40, 150, 60], [-10, 40, 110, 60]], atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.9, 0.26])
    assert found.names == ("b", "a")


def test_no_more_than_300_come_unless_more_are_asked_for() -> None:
    table = np.full((1, 400, 6), 0.5, np.float32)
    table[..., 5] = 1
    for most, count in ((None, 300), (350, 350)):
        assert len(RtDetrUltralytics(CARD).read([table], FRAME, Options(max_det=most)).scores) == count


def test_the_picture_is_stretched_to_the_size_that_is_asked_for() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    assert RtDetrUltralytics(CARD).prepare(picture, Options()).tensors[""].shape == (1, 64, 64, 3)
    assert RtDetrUltralytics(CARD).prepare(picture, Options(imgsz=90)).tensors[""].shape == (1, 96, 96, 3)
    fixed = RtDetrUltralytics(msgspec.structs.replace(CARD, dynamic=False))
    assert fixed.prepare(picture, Options(imgsz=90)).tensors[""].shape == (1, 64, 64, 3)


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="300 × 84 numbers; an RT-DETR with 2 classes answers with 6 a query"):
        RtDetrUltralytics(CARD).read([np.zeros((1, 300, 84), np.float32)], FRAME, Options())


@pytest.mark.parametrize(
    ("shape", "classes", "description", "family"),
    [
        ((1, 300, 84), 80, "Ultralytics RT-DETR model", "rtdetr_ultralytics"),
        ((1, 300, 84), 80, "mine", "rtdetr_ultralytics"),
        (("n", "q", 6), 80, "Ultralytics rtdetr-l model", "rtdetr_ultralytics"),
        ((1, 300, 6), 2, "Ultralytics YOLO26n model", "yolo"),
        ((1, 300, 6), 80, "Ultralytics YOLOv10n model", "yolo"),
        ((1, 84, 84), 80, "Ultralytics YOLO11n model", "yolo"),
        ((1, 84, 8400), 80, "Ultralytics YOLO11n model", "yolo"),
    ],
)
def test_they_are_told_from_yolos(
    tmp_path: Path, shape: tuple[int | str, ...], classes: int, description: str, family: str
) -> None:
    names = str({number: f"n{number}" for number in range(classes)})
    onnx_file(tmp_path / "m.onnx", [shape], {**DETECTOR, "names": names, "description": description})
    card = Local([tmp_path]).find("m")
    assert card is not None
    assert card.family == family
