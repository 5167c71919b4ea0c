"""``saccade predict`` against the recorded answers of ultralytics 8.4.190, as a program that reads its JSON sees them.

Tolerances: scores 5e-4; boxes, keypoints and polygon points 0.02 pixels; count, order, classes and names exactly. Of a
hundred polygons one may differ by a single mask pixel.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.heavy

SCORE = 5e-4
PIXELS = 0.02
GOLDEN = [
    "yolo11n",
    "yolo11n_conf0.5_iou0.7",
    "yolo26n",
    "yolov8n",
    "yolo11n-seg",
    "yolov8n-seg-dynamic",
    "yolo11n-pose",
    "yolo11n-cls",
    "yolov8n-obb_pothole",
]


@pytest.mark.parametrize("name", GOLDEN)
def test_predict_answers_as_the_reference(data: Path, tmp_path: Path, name: str) -> None:
    golden = json.loads((data / "golden" / "ultralytics" / f"{name}.json").read_text())
    images = [str(data / "images" / image) for image in golden["images"]]
    words = ["--models", str(data / "models"), "--home", str(tmp_path), "--precision", "f32", "--json"]
    words += ["-m", golden["model"].removesuffix(".onnx"), "--conf", str(golden["conf"]), "--iou", str(golden["iou"])]
    done = subprocess.run(
        [sys.executable, "-m", "saccade", "predict", *images, *words], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [answer["source"] for answer in answers] == images
    compared = differing = 0
    for answer, (image, expected) in zip(answers, golden["images"].items(), strict=True):
        assert answer["shape"] == expected["shape"]
        differing += same(answer["results"], expected["results"], f"{name} {image}")
        compared += len(expected["results"])
    assert compared
    assert differing <= compared / 100 + 1


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]], where: str) -> int:
    """Compares all objects of an image; how many outlines are a mask pixel apart."""
    assert [(item["class"], item["name"]) for item in found] == [(i["class"], i["name"]) for i in expected], where
    differing = 0
    for item, wanted in zip(found, expected, strict=True):
        assert item["confidence"] == pytest.approx(wanted["confidence"], abs=SCORE), where
        assert set(wanted) <= set(item), where
        if "box" in wanted:
            assert any(turned == pytest.approx(wanted["box"], abs=PIXELS) for turned in turns(item["box"])), where
        if "keypoints" in wanted:
            for axis, most in (("x", PIXELS), ("y", PIXELS), ("visible", SCORE)):
                assert item["keypoints"][axis] == pytest.approx(wanted["keypoints"][axis], abs=most), where
        if "segments" in wanted:
            differing += not outlined(item["segments"], wanted["segments"], where)
    return differing


def turns(box: dict[str, float]) -> Iterator[dict[str, float]]:
    """The box, told from each of its corners if it has four."""
    corners = len(box) // 2
    for shift in range(corners if corners == 4 else 1):
        yield {f"{axis}{n + 1}": box[f"{axis}{(n + shift) % corners + 1}"] for n in range(corners) for axis in "xy"}


def outlined(found: dict[str, list[float]], wanted: dict[str, list[float]], where: str) -> bool:
    """Whether the outlines are the same; they may differ by the corners of one mask pixel."""
    if len(found["x"]) == len(wanted["x"]) and all(
        found[axis] == pytest.approx(wanted[axis], abs=PIXELS) for axis in "xy"
    ):
        return True
    one, other = ({(round(x, 1), round(y, 1)) for x, y in zip(s["x"], s["y"], strict=True)} for s in (found, wanted))
    assert len(one ^ other) <= 4, where
    return False
