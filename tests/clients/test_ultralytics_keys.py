"""Keys, quotas and dedicated endpoints as the Ultralytics clients meet them, on a real server with keys."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.clients.environments import environment, run
from tests.clients.houses import Served, served
from tests.clients.test_ultralytics_clients import shell, snippets

from saccade.server.keyring import opened
from saccade.server.settings import load

pytestmark = pytest.mark.heavy

FACES = {
    "v1": "/v1/predict/yolov8n",
    "hub": "/",
    "platform": "/api/models/some-body/some-project/yolov8n/predict",
}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A home with keys: one with two calls for each face, one of another model, an unlimited admin."""
    home = tmp_path_factory.mktemp("home")
    with opened(load({"home": str(home)}, {})) as keys:
        made = {face: keys.create(face, quota_calls=2)[1] for face in (*FACES, "sdk")}
        made["other"] = keys.create("other", models=["yolo11*"])[1]
        made["admin"] = keys.create("admin", scopes=["models", "endpoints", "admin"], quota_calls=0)[1]
    return home, made


@pytest.fixture(scope="module")
def house(data: Path, tmp_path_factory: pytest.TempPathFactory, secrets: Any) -> Iterator[Served]:
    models = tmp_path_factory.mktemp("models")
    for name in ("yolov8n", "yolo11n"):
        (models / f"{name}.onnx").symlink_to(data / "models" / f"{name}.onnx")
    with served(secrets[0], [models], "--precision", "f32") as running:
        yield running


@pytest.fixture(scope="module")
def client(house: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=house.url, timeout=120, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def photo(data: Path) -> Path:
    return data / "images" / "coco" / "000000060932.jpg"


def post(client: httpx.Client, face: str, headers: dict[str, str], file: bytes) -> httpx.Response:
    data = {"model": "yolov8n"} if face == "hub" else {}
    return client.post(FACES[face], headers=headers, data=data, files={"image": ("image", file)})


@pytest.mark.parametrize("face", FACES)
def test_a_spent_key_gets_429_with_the_headers_that_clients_of_this_face_read(
    client: httpx.Client, secrets: Any, photo: Path, face: str
) -> None:
    headers = {"x-api-key": secrets[1][face]} if face != "platform" else {"authorization": f"Bearer {secrets[1][face]}"}
    refused = post(client, face, headers, b"not a picture")
    assert refused.status_code == 400, "a failed call costs nothing"
    for left in (1, 0):
        answer = post(client, face, headers, photo.read_bytes())
        assert answer.status_code == 200, answer.text
        assert int(answer.headers["x-ratelimit-limit"]) == 2
        assert int(answer.headers["x-ratelimit-remaining"]) == left
    spent = post(client, face, headers, photo.read_bytes())
    assert spent.status_code == 429
    assert (spent.headers["x-ratelimit-limit"], spent.headers["x-ratelimit-remaining"]) == ("2", "0")
    assert 0 < int(spent.headers["retry-after"]) <= 3600
    reset = spent.headers["x-ratelimit-reset"]
    body = spent.json()
    if face == "platform":
        moment = datetime.fromisoformat(reset).timestamp()
        assert body["error"] == "Rate limit exceeded"
        assert body["retryAfter"] == int(spent.headers["retry-after"])
        assert datetime.fromisoformat(body["resetAt"]).timestamp() == pytest.approx(moment, abs=1)
    else:
        moment = int(reset)
        assert body["message"]
    assert 0 < moment - time.time() <= 3601


@pytest.mark.parametrize("face", FACES)
def test_keys_that_are_missing_wrong_or_for_other_models(
    client: httpx.Client, secrets: Any, photo: Path, face: str
) -> None:
    file = photo.read_bytes()
    missing, wrong = post(client, face, {}, file), post(client, face, {"x-api-key": "0" * 42}, file)
    assert (missing.status_code, wrong.status_code) == (401, 401)
    assert post(client, face, {"x-api-key": secrets[1]["other"]}, file).status_code == 403
    for headers in ({"authorization": f"Bearer: {secrets[1]['admin']}"}, {"authorization": secrets[1]["admin"]}):
        assert post(client, face, headers, file).status_code == 200


def test_hub_sdk_reads_a_spent_quota_without_falling_over(house: Served, secrets: Any, photo: Path) -> None:
    python = environment("hub-sdk", "hub-sdk==0.0.25")
    script = """
import json, sys
from hub_sdk import HUBClient

model = HUBClient({"api_key": sys.argv[1]}).model("yolov8n")
for _ in range(3):
    reply = model.predict(sys.argv[2], {"size": 640})
print("last", reply if reply is None else reply.status_code)
"""
    variables = {"ULTRALYTICS_HUB_API": house.url, "ULTRALYTICS_HUB_WEB": house.url}
    shown = run(python, script, secrets[1]["sdk"], str(photo), **variables)
    assert shown.splitlines()[-1] in ("last 429", "last None")


def test_the_platforms_sdk_runs_a_dedicated_endpoint(house: Served, secrets: Any, photo: Path) -> None:
    python = environment("ultralytics-platform", "ultralytics-platform==0.1.99")
    script = """
import json, sys, time, typing
from ultralytics_platform import Platform, types

KINDS = [
    ("created", "DeploymentsCreateResponse"), ("shown", "DeploymentsRetrieveResponse"),
    ("health", "DeploymentsHealthResponse"), ("found", "DeploymentsPredictResponse"),
    ("listed", "DeploymentsListResponse"), ("logs", "DeploymentsLogsResponse"),
    ("metrics", "DeploymentsMetricsResponse"), ("stopped", "DeploymentsUpdateResponse"),
    ("deleted", "DeploymentsDeleteResponse"),
]


def lacking(value, kind, where=""):
    # Required keys of the SDK's own types that an answer does not have.
    variants = [each for each in typing.get_args(kind) if each is not type(None)]
    if typing.is_typeddict(kind):
        if not isinstance(value, dict):
            return [where or "all"]
        hints = typing.get_type_hints(kind)
        gone = [f"{where}.{key}" for key in sorted(kind.__required_keys__ - set(value))]
        known = [key for key in value if key in hints]
        return gone + [text for key in known for text in lacking(value[key], hints[key], f"{where}.{key}")]
    if typing.get_origin(kind) is list:
        return [text for each in value for text in lacking(each, variants[0], f"{where}[]")]
    if variants and all(typing.is_typeddict(each) for each in variants):
        return min((lacking(value, each, where) for each in variants), key=len)
    return []


ours = Platform(api_key=sys.argv[1], base_url=sys.argv[2]).deployments
told = {}
plan = dict(project="some-project", model="yolov8n", deployment="gate-one", name="Gate", region="europe-west4")
told["created"] = ours.create("some-body", **plan)
for _ in range(120):
    told["shown"] = ours.retrieve("some-body", "gate-one")
    if told["shown"]["deployment"]["status"] in ("ready", "failed"):
        break
    time.sleep(0.5)
told["health"] = ours.health("some-body", "gate-one")
with open(sys.argv[3], "rb") as photo:
    told["found"] = ours.predict("some-body", "gate-one", body={"file": photo, "conf": 0.3})
told["listed"] = ours.list("some-body")
told["logs"] = ours.logs("some-body", "gate-one", limit=10)
told["metrics"] = ours.metrics("some-body", "gate-one", range="1h")
told["stopped"] = ours.update("some-body", "gate-one", body={"action": "stop"})
told["started"] = ours.update("some-body", "gate-one", body={"action": "start"})
told["deleted"] = ours.delete("some-body", "gate-one")
missing = {name: lacking(told[name], getattr(types, kind)) for name, kind in KINDS}
print(json.dumps({"told": told, "missing": missing}))
"""
    shown = json.loads(run(python, script, secrets[1]["admin"], house.url, str(photo)))
    told = shown["told"]
    assert {name: keys for name, keys in shown["missing"].items() if keys} == {}
    assert told["shown"]["deployment"]["status"] == "ready"
    assert told["health"]["healthy"] is True
    assert told["found"]["images"][0]["results"]
    assert told["listed"]["total"] == 1
    assert "entries" in told["logs"]
    assert told["metrics"]


def test_hubs_documented_way_from_the_shared_to_a_dedicated_url(
    house: Served, client: httpx.Client, shared: Path, secrets: Any, photo: Path
) -> None:
    line = snippets(shared, "004", "curl -X POST", '-F "iou=0.45"')[0]

    def documented(url: str, key: str) -> Any:
        text = line.replace("https://predict.ultralytics.com", url).replace("API_KEY", key)
        return shell(text.replace("MODEL_ID", "yolov8n").replace("/path/to/image.jpg", str(photo)))

    def command(*words: str) -> str:
        where = ("--url", house.url, "--key", secrets[1]["admin"])
        words = (sys.executable, "-m", "saccade", "endpoints", *words, *where)
        return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout

    key = client.post(
        "/v1/keys",
        headers={"x-api-key": secrets[1]["admin"]},
        json={"name": "reader", "limit": 1, "scopes": ["models", "endpoints"]},
    ).json()["key"]
    found = documented(house.url, key)["images"][0]["results"]
    assert "limit" in documented(house.url, key)["message"].lower()
    told = command("start", "reader", "--model", "yolov8n", "--replicas", "1:1")
    url = told.split()[4]
    assert told == f"reader is ready at {url} (yolov8n).\n"
    assert documented(url, key)["images"][0]["results"] == found, "the shared limit does not count here"
    done = threading.Event()

    def calls() -> list[int]:
        file, statuses = photo.read_bytes(), []
        with httpx.Client(timeout=120, trust_env=False) as caller:
            while not done.is_set():
                statuses.append(caller.post(url, headers={"x-api-key": key}, files={"file": file}).status_code)
        return statuses

    with ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(calls) for _ in range(3)]
        assert command("replace", "reader", "yolo11n") == f"reader is ready at {url} (yolo11n).\n"
        done.set()
        statuses = [status for load in loads for status in load.result()]
    assert statuses
    assert set(statuses) == {200}
    assert documented(url, key)["metadata"]["model"] == "yolo11n"
    command("stop", "reader")
    assert documented(url, key)["error"].startswith("Service Unavailable")
    command("start", "reader")
    assert documented(url, key)["images"][0]["results"]
    command("rm", "reader")
    assert documented(url, key)["error"].startswith("There is no endpoint 'reader'")
