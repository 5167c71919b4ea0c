"""YOLO answers against those of ultralytics 8.4.190 with onnxruntime 1.31.1 in float32, photo by photo.

Tolerances: scores 5e-4; boxes, keypoints, polygon and corner points 0.02 pixels; everything else exactly. Of a hundred
polygons one may differ by a single mask pixel: where a logit is 1e-6, the last bits of two runtimes decide its sign.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from yolo_models import opened, photo

from saccade.call import Options
from saccade.results import Boxes, Keypoints, Labels, Masks, OrientedBoxes, Result

SCORE = 5e-4
PIXELS = 0.02

GOLDEN = [
    "yolov8n",
    "yolo11n",
    "yolo11n_conf0.5_iou0.7",
    "yolo26n",
    "yolo11n-seg",
    "yolov8n-seg-dynamic",
    "yolo11n-pose",
    "yolo11n-cls",
    "yolov8n-obb_pothole",
    "yolov8n-obb_pothole_conf0.001",
]


@pytest.mark.parametrize("name", GOLDEN)
def test_answers_are_the_references(data: Path, name: str) -> None:
    golden = json.loads((data / "golden" / "ultralytics" / f"{name}.json").read_text())
    model = opened(data / "models", golden["model"])
    options = Options(conf=golden["conf"], iou=golden["iou"])
    compared = differing = 0
    for image, expected in golden["images"].items():
        answer = model.predict(photo(data / "images" / image), options)
        assert list(answer.image_hw) == expected["shape"]
        differing += same(answer.result, expected["results"], f"{name} {image}")
        compared += len(expected["results"])
    assert compared
    assert differing <= compared / 100 + 1


def test_the_networks_size_is_the_square_or_the_smallest_rectangle(data: Path) -> None:
    image = photo(data / "images" / "coco" / "000000034417.jpg")
    assert image.shape == (375, 500, 3)
    assert opened(data / "models", "yolov8n").predict(image).input_hw == (640, 640)
    assert opened(data / "models", "yolo11n").predict(image).input_hw == (480, 640)


def same(result: Result, expected: list[dict[str, Any]], where: str) -> int:
    """Same number, order, classes and names; numbers within the tolerances. How many polygons are a pixel apart."""
    assert not hasattr(result, "depth")
    assert [*zip(result.class_ids.tolist(), result.names, strict=True)] == [
        (item["class"], item["name"]) for item in expected
    ], where
    if not expected:
        return 0
    np.testing.assert_allclose(result.scores, [item["confidence"] for item in expected], atol=SCORE, err_msg=where)
    assert result.scores.dtype == np.float32
    match result:
        case Labels():
            assert len(expected) == 5
        case OrientedBoxes():
            for corners, item in zip(result.corners_xy, expected, strict=True):
                wanted = [[item["box"][f"x{i}"], item["box"][f"y{i}"]] for i in (1, 2, 3, 4)]
                turns = [np.abs(np.roll(corners, turn, axis=0) - wanted).max() for turn in range(4)]
                assert min(turns) < PIXELS, where
        case Boxes():
            same_boxes(result.boxes_xyxy, expected, where)
        case Keypoints():
            same_boxes(result.boxes_xyxy, expected, where)
            assert result.visibility is not None
            for places, seen, item in zip(result.keypoints_xy, result.visibility, expected, strict=True):
                near(places, item["keypoints"], where)
                np.testing.assert_allclose(seen, item["keypoints"]["visible"], atol=SCORE, err_msg=where)
        case Masks():
            same_boxes(result.boxes_xyxy, expected, where)
            differing = 0
            for polygon, item in zip(result.polygons, expected, strict=True):
                wanted = np.stack((item["segments"]["x"], item["segments"]["y"]), axis=1)
                if polygon.shape != wanted.shape or np.abs(polygon - wanted).max() >= PIXELS:
                    assert len(points(polygon) ^ points(wanted)) <= 4, where
                    differing += 1
            return differing
    return 0


def same_boxes(boxes: np.ndarray, expected: list[dict[str, Any]], where: str) -> None:
    wanted = [[item["box"][edge] for edge in ("x1", "y1", "x2", "y2")] for item in expected]
    np.testing.assert_allclose(boxes, wanted, rtol=0, atol=PIXELS, err_msg=where)


def near(places: np.ndarray, expected: dict[str, list[float]], where: str) -> None:
    """Point by point, in the same order."""
    np.testing.assert_allclose(places[:, 0], expected["x"], rtol=0, atol=PIXELS, err_msg=where)
    np.testing.assert_allclose(places[:, 1], expected["y"], rtol=0, atol=PIXELS, err_msg=where)


def points(polygon: np.ndarray) -> set[tuple[float, ...]]:
    """The corners, to a tenth of a pixel."""
    return {tuple(point) for point in np.round(polygon, 1).tolist()}
