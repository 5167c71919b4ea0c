"""Real models on a Ray cluster, asked in the words of three APIs, with keys in PostgreSQL and quotas in Redis."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster.clusters import Cluster, running
from tests.services import postgres, redis

from saccade.server.database import Database
from saccade.server.keys import Keys

pytestmark = pytest.mark.exhaustive

TASKS = {
    "detect": "yolov8n",
    "segment": "yolo11n-seg",
    "classify": "yolo11n-cls",
    "pose": "yolo11n-pose",
    "obb": "yolov8n-obb_pothole",
}
QUOTA = 40


@pytest.fixture(scope="module")
def house(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, str, str]]:
    """A cluster of two nodes, a free key and a key of so many calls."""
    home = tmp_path_factory.mktemp("ray")
    models = home / "mine"
    models.mkdir()
    for name in TASKS.values():
        (models / f"{name}.onnx").symlink_to(data / "models" / f"{name}.onnx")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(postgres())
        shelf = stack.enter_context(redis())
        database = Database(url, str(home))
        free = Keys(database).create("free", scopes=("admin", "models", "endpoints"), quota_calls=0)[1]
        short = Keys(database).create("short", quota_calls=QUOTA, quota_window_s=3600)[1]
        database.close()
        given: dict[str, Any] = {"models": [str(models)], "precision": "f32", "cache_bytes": 0, "threads": 1}
        settings = {**given, "database_url": url, "redis_url": shelf, "ray_replicas": "2:2"}
        yield stack.enter_context(running(home / "house", [3, 3], **settings)), free, short


def picture(data: Path, task: str) -> bytes:
    return (data / "images" / ("pothole.jpg" if task == "obb" else "coco/000000060932.jpg")).read_bytes()


def post(cluster: Cluster, path: str, key: str, **given: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", "x-api-key": key, **given.pop("headers", {})}
    return httpx.post(cluster.url + path, headers=headers, timeout=120, trust_env=False, **given)


@pytest.mark.parametrize("task", ["detect", "segment", "classify"])
def test_hugging_face_requests_are_answered(task: str, house: tuple[Cluster, str, str], data: Path) -> None:
    cluster, key, _ = house
    answer = post(
        cluster, f"/models/{TASKS[task]}", key, content=picture(data, task), headers={"content-type": "image/jpeg"}
    )
    assert answer.status_code == 200, answer.text
    rows = answer.json()
    assert rows
    assert {"label", "score"} <= set(rows[0])


@pytest.mark.parametrize("task", TASKS)
def test_hub_requests_are_answered(task: str, house: tuple[Cluster, str, str], data: Path) -> None:
    cluster, key, _ = house
    files = {"image": ("a.jpg", picture(data, task), "image/jpeg")}
    answer = post(cluster, f"/v1/predict/{TASKS[task]}", key, files=files, data={"size": 640, "confidence": 0.25})
    assert answer.status_code == 200, answer.text
    assert answer.json()["success"]
    assert answer.json()["data"]


@pytest.mark.parametrize("task", TASKS)
def test_dedicated_urls_answer_as_yolo_does(task: str, house: tuple[Cluster, str, str], data: Path) -> None:
    cluster, key, _ = house
    name = f"own-{task}"
    wish = {"name": name, "model": TASKS[task], "replicas": "1:1"}
    cluster.ask("POST", "/v1/endpoints", wish, key)
    cluster.settled(name, 1, key=key)
    files = {"file": ("a.jpg", picture(data, task), "image/jpeg")}
    answer = post(cluster, f"/endpoints/{name}/predict", key, files=files, data={"imgsz": 640, "conf": 0.25})
    assert answer.status_code == 200, answer.text
    assert answer.json()["images"][0]["results"]
    cluster.ask("DELETE", f"/v1/endpoints/{name}", None, key)


def test_of_many_calls_over_two_replicas_exactly_the_quota_succeeds(
    house: tuple[Cluster, str, str], data: Path
) -> None:
    cluster, _, key = house
    body = picture(data, "classify")

    def one(_: int) -> int:
        headers = {"content-type": "image/jpeg"}
        return post(cluster, "/models/yolo11n-cls", key, content=body, headers=headers).status_code

    with ThreadPoolExecutor(8) as pool:
        seen = Counter(pool.map(one, range(QUOTA + 20)))
    assert seen == {200: QUOTA, 429: 20}, json.dumps(seen)
    assert post(cluster, "/models/yolo11n-cls", "wrong", content=body).status_code == 401
