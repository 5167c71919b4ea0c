"""Golden answers of transformers' pipelines, over HTTP: real checkpoints, converted, in f32.

The reference is transformers 5.23.0 with torch 2.13.0. Tolerances: the same labels in the same order, scores 1e-4,
boxes one pixel, masks an overlap of 0.995.
"""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.clients import houses
from tests.clients.houses import Served
from tests.convert.graphs import python

pytestmark = pytest.mark.heavy

CLASSIFIERS = ("beit", "convnext", "deit-distilled", "dinov2", "resnet", "swin", "vit")
DETECTORS = ("detr", "yolos", "rt-detr", "rt-detr-v2")
SEGMENTERS = ("detr-panoptic", "mask2former-swin", "maskformer-swin", "segformer", "upernet-convnext")
REAL = ("hf-mobilenet_v2_1.0_224", "hf-deeplabv3_mobilenet_v2_1.0_513")


@pytest.fixture(scope="module")
def house(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    torch = python()
    models = data / "models"
    given = {
        "port": 0,
        "models": [str(models / "hf-tiny"), *(str(models / name) for name in REAL)],
        "torch": str(torch),
        "request_timeout_s": 300,
    }
    with houses.running("tests.clients.checkpoint_house", given, tmp_path_factory.mktemp("house")) as served:
        yield served


def golden(data: Path, name: str) -> dict[str, Any]:
    folder = data / "golden" / "transformers"
    path = folder / f"{name}.json" if name in REAL else folder / "tiny" / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def pictures(data: Path, name: str, wanted: dict[str, Any]) -> Iterator[tuple[bytes, dict[str, list[Any]]]]:
    folder = data / "images" if name in REAL else data / "images" / "tiny"
    for image, facts in wanted["images"].items():
        yield (folder / image).read_bytes(), facts["answers"]


def ask(house: Served, name: str, picture: bytes, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    body = json.dumps({"inputs": base64.b64encode(picture).decode(), "parameters": parameters}).encode()
    request = urllib.request.Request(f"{house.url}/models/{name}", body)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=300) as answer:
        rows: list[dict[str, Any]] = json.loads(answer.read())
        return rows


def alike(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert [row["label"] for row in found] == [row["label"] for row in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one["score"] == pytest.approx(1.0 if other["score"] is None else other["score"], abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("name", [*CLASSIFIERS, REAL[0]])
def test_classes_are_those_of_the_pipeline(house: Served, data: Path, name: str) -> None:
    wanted = golden(data, name)
    for picture, answers in pictures(data, name, wanted):
        for function, rows in answers.items():
            parameters: dict[str, Any] = {"top_k": len(rows)} if function != "default" else {}
            if function != "default":
                parameters["function_to_apply"] = function
            alike(ask(house, name, picture, parameters), rows)


@pytest.mark.parametrize("name", DETECTORS)
def test_item_20_boxes_are_those_of_the_pipeline_in_its_order(house: Served, data: Path, name: str) -> None:
    wanted = golden(data, name)
    for picture, answers in pictures(data, name, wanted):
        for threshold, rows in answers.items():
            found = ask(house, name, picture, {"threshold": float(threshold)})
            alike(found, rows)
            for one, other in zip(found, rows, strict=True):
                assert all(abs(one["box"][side] - other["box"][side]) <= 1 for side in other["box"])
            scores = [row["score"] for row in found]
            if name.startswith("rt-detr"):
                assert scores == sorted(scores, reverse=True)


def mask_of(text: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) > 0


@pytest.mark.parametrize("name", [*SEGMENTERS, REAL[1]])
def test_masks_are_those_of_the_pipeline(house: Served, data: Path, name: str) -> None:
    wanted = golden(data, name)
    for picture, answers in pictures(data, name, wanted):
        for words, rows in answers.items():
            found = ask(house, name, picture, parameters_of(words))
            alike(found, rows)
            for one, other in zip(found, rows, strict=True):
                ours = mask_of(one["mask"])
                assert list(ours.shape) == other["shape"]
                assert abs(int(ours.sum()) - other["area"]) <= 0.005 * other["area"], (words, one["label"])
                if "mask" not in other:
                    continue
                theirs = mask_of(other["mask"])
                union = int((ours | theirs).sum())
                assert union == 0 or (ours & theirs).sum() / union >= 0.995, (words, one["label"])


def parameters_of(words: str) -> dict[str, Any]:
    """ "panoptic|threshold=0.5|mask_threshold=0.5|overlap=0.8" as parameters."""
    if words == "default":
        return {}
    subtask, *pairs = words.split("|")
    found: dict[str, Any] = {"subtask": subtask}
    for pair in pairs:
        name, _, value = pair.partition("=")
        found["overlap_mask_area_threshold" if name == "overlap" else name] = float(value)
    return found


def test_item_11_a_subtask_that_the_model_cannot_do_is_told(house: Served, data: Path) -> None:
    picture = (data / "images" / "tiny" / "a.png").read_bytes()
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(house, "segformer", picture, {"subtask": "panoptic"})
    assert refused.value.code == 400
    assert "Subtask panoptic is not supported for model" in json.loads(refused.value.read())["error"]
