"""``saccade serve`` with real models, asked by every client generation; nothing is made."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.clients.houses import Served, served
from tests.clients.test_huggingface_javascript import node
from tests.clients.test_huggingface_python import VERSIONS, WITH_PARAMETERS, client

pytestmark = pytest.mark.heavy

MODELS = ("yolo11n.onnx", "yolo11n-seg.onnx", "yolo11n-cls.onnx", "yolo11n-pose.onnx")


@pytest.fixture(scope="module")
def house(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = tmp_path_factory.mktemp("models")
    for name in MODELS:
        (models / name).symlink_to(data / "models" / name)
    home = tmp_path_factory.mktemp("house")
    with served(home, [models], "--precision", "f32", "--default-model", "yolo11n") as running:
        yield running


@pytest.fixture(scope="module")
def photo(data: Path) -> Path:
    """A street with many things: several detections above 0.5, also with masks."""
    images = golden(data)["images"]
    return data / "images" / max(images, key=lambda name: len(images[name]["results"]))


def golden(data: Path) -> dict[str, Any]:
    """Answers at the dialect's own defaults: confidence 0.5, overlap 0.7."""
    found: dict[str, Any] = json.loads((data / "golden" / "ultralytics" / "yolo11n_conf0.5_iou0.7.json").read_text())
    return found


def post(house: Served, path: str, body: bytes) -> tuple[int, Any]:
    request = urllib.request.Request(house.url + path, body)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read())


def test_a_detector_answers_what_the_reference_finds(house: Served, data: Path) -> None:
    for name, facts in golden(data)["images"].items():
        status, rows = post(house, "/models/yolo11n", (data / "images" / name).read_bytes())
        wanted = facts["results"]
        assert status == 200
        assert [row["label"] for row in rows] == [row["name"] for row in wanted]
        for found, other in zip(rows, wanted, strict=True):
            assert found["score"] == pytest.approx(other["confidence"], abs=2e-4)
            sides = {"xmin": "x1", "ymin": "y1", "xmax": "x2", "ymax": "y2"}
            assert all(abs(found["box"][ours] - other["box"][theirs]) <= 1.01 for ours, theirs in sides.items())


ROUND_TRIP = """
import json, sys
from pathlib import Path
from huggingface_hub import InferenceClient
url, picture, with_parameters = sys.argv[1], sys.argv[2], sys.argv[3] == "yes"
client = InferenceClient()
def boxes(rows):
    return [[row["label"], row["score"], dict(row["box"])] for row in rows]
def labels(rows):
    return [[row["label"], row["score"]] for row in rows]
def masks(rows):
    return [[row["label"], row["score"], row["mask"].mode, list(row["mask"].size),
             sum(value > 0 for value in row["mask"].getdata())] for row in rows]
detect, classify, segment = (url + "/models/" + name for name in ("yolo11n", "yolo11n-cls", "yolo11n-seg"))
found = {
    "detect": boxes(client.object_detection(picture, model=detect)),
    "classify": labels(client.image_classification(Path(picture).read_bytes(), model=classify)),
    "segment": masks(client.image_segmentation(picture, model=segment + "?threshold=0.5")),
    "root": boxes(InferenceClient(model=url).object_detection(picture)),
}
if with_parameters:
    found |= {
        "detect with": boxes(client.object_detection(picture, model=detect, threshold=0.3)),
        "classify with": labels(client.image_classification(picture, model=classify, top_k=2)),
        "segment with": masks(client.image_segmentation(picture, model=segment, threshold=0.5)),
    }
print(json.dumps(found))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_item_03_the_python_client_gets_what_curl_gets(house: Served, photo: Path, version: str) -> None:
    parameters = version in WITH_PARAMETERS
    found = client(version, ROUND_TRIP, house.url, str(photo), "yes" if parameters else "no")

    def asked(path: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = post(house, path, photo.read_bytes())[1]
        return rows

    boxes = [[row["label"], row["score"], row["box"]] for row in asked("/models/yolo11n")]
    assert boxes
    assert found["detect"] == found["root"] == boxes
    labels = [[row["label"], row["score"]] for row in asked("/models/yolo11n-cls")]
    assert len(labels) == 5
    assert found["classify"] == labels
    masks = []
    for row in asked("/models/yolo11n-seg?threshold=0.5"):
        image = Image.open(io.BytesIO(base64.b64decode(row["mask"])))
        masks.append([row["label"], row["score"], "L", list(image.size), int((np.asarray(image) > 0).sum())])
    assert masks
    assert found["segment"] == masks
    if parameters:
        assert len(found["detect with"]) >= len(boxes)
        assert found["classify with"] == labels[:2]
        assert found["segment with"] == masks


def test_item_03_the_javascript_client_gets_what_curl_gets(house: Served, photo: Path) -> None:
    found = node(
        """
console.log(JSON.stringify({
  detect: await at("/models/yolo11n").objectDetection({ data: blob }),
  threshold: await at("/models/yolo11n?threshold=0.3").objectDetection({ data: blob }),
  classify: await at("/models/yolo11n-cls?top_k=2").imageClassification({ data: blob }),
  segment: await at("/models/yolo11n-seg").imageSegmentation({ inputs: blob, parameters: { threshold: 0.5 } }),
}));
""",
        house.url,
        str(photo),
    )
    body = photo.read_bytes()
    assert found["detect"] == post(house, "/models/yolo11n", body)[1]
    assert found["threshold"] == post(house, "/models/yolo11n?threshold=0.3", body)[1]
    assert found["classify"] == post(house, "/models/yolo11n-cls?top_k=2", body)[1]
    assert found["segment"] == post(house, "/models/yolo11n-seg?threshold=0.5", body)[1]


def test_item_07_masks_of_a_real_model_have_the_upright_size(house: Served, data: Path, photo: Path) -> None:
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.open(photo)
    picture.save(turned, "JPEG", exif=exif, quality=95)
    status, rows = post(house, "/models/yolo11n-seg?threshold=0.1", turned.getvalue())
    assert status == 200
    assert rows
    for row in rows:
        png = base64.b64decode(row["mask"], validate=True)
        assert (png[24], png[25]) == (8, 0)
        image = Image.open(io.BytesIO(png))
        assert image.size == (picture.height, picture.width)
        assert set(np.unique(np.asarray(image)).tolist()) <= {0, 255}


def test_item_08_every_orientation_gives_the_same_boxes(house: Served, data: Path) -> None:
    folder = data / "images" / "formats"
    wanted = post(house, "/models/yolo11n?threshold=0.1", (folder / "exif_orientation_1.jpg").read_bytes())[1]
    for orientation in range(2, 9):
        picture = (folder / f"exif_orientation_{orientation}.jpg").read_bytes()
        rows = post(house, "/models/yolo11n?threshold=0.1", picture)[1]
        assert [row["label"] for row in rows] == [row["label"] for row in wanted]
        for one, other in zip(rows, wanted, strict=True):
            assert all(abs(one["box"][side] - other["box"][side]) <= 2 for side in one["box"])


def test_every_image_format_is_answered(house: Served, data: Path) -> None:
    for path in sorted((data / "images" / "formats").iterdir()):
        if path.name != "expected.json":
            status, rows = post(house, "/models/yolo11n", path.read_bytes())
            assert (status, type(rows)) == (200, list), (path.name, rows)


def test_items_16_and_17_damaged_and_hostile_files_are_refused_as_bad_requests(house: Served, data: Path) -> None:
    expected = json.loads((data / "images" / "bad" / "expected.json").read_text())
    for name, facts in expected.items():
        status, answer = post(house, "/models/yolo11n", (data / "images" / "bad" / name).read_bytes())
        if facts["expected"].startswith("refuse") and "or decode" not in facts["expected"]:
            assert status == 400, (name, status, answer)
        assert status in (200, 400), (name, status, answer)
        if status == 400:
            assert list(answer) == ["error"], name
            assert isinstance(answer["error"], str)
    assert post(house, "/models/yolo11n", (data / "images" / "formats" / "rgb.jpg").read_bytes())[0] == 200


def test_item_13_a_repeated_call_comes_from_the_cache_unless_told_otherwise(house: Served, photo: Path) -> None:
    url = f"{house.url}/models/yolo11n"

    def headers(*more: str) -> str:
        done = subprocess.run(
            ["curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "-D", "-", "--data-binary", f"@{photo}", *more, url],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout.lower()

    headers()
    assert "x-compute-type: cache" in headers()
    assert "\nx-compute-time:" not in headers()
    fresh = headers("-H", "X-Use-Cache: false")
    assert "x-compute-type: cpu" in fresh
    assert "\nx-compute-time: 0." in fresh


def test_poses_are_detections_with_keypoints(house: Served, data: Path) -> None:
    for path in sorted((data / "images" / "coco").glob("*.jpg")):
        rows = post(house, "/models/yolo11n-pose", path.read_bytes())[1]
        if rows:
            assert len(rows[0]["keypoints"]) == 17
            assert set(rows[0]["box"]) == {"xmin", "ymin", "xmax", "ymax"}
            return
    pytest.fail("no photo with a person")
