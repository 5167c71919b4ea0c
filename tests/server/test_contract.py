"""The OpenAPI document is true: what is really answered and refused has the shapes that it tells."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from server_fakes import EchoEngine, client
from tests.dialects import yolo_made
from tests.server.simulated_house import CLIENT, House, predicted, settled

from saccade import errors
from saccade.call import Answer, Call
from saccade.card import Card, Task
from saccade.dialects.dialect import STATUS
from saccade.ops.masks import rendered
from saccade.results import Crop, Depth, Grid, Masks, Result
from saccade.server import wiring
from saccade.server.access import OpenGate
from saccade.server.database import Database
from saccade.server.keys import Keys
from saccade.server.settings import Settings

SEGMENTER = {"config": {"architectures": ["SegformerForSemanticSegmentation"]}}


def masks(kind: Any) -> Masks:
    ones = np.ones(1, np.float32)
    crop = Crop(0, 0, np.ones((3, 4), np.uint8))
    grid = Grid(6, 8, 1, 1, 0, 0, (6, 8))
    boxes, ids = np.array([[0, 0, 4, 3]], np.float32), np.zeros(1, np.int32)
    return Masks(boxes, ones, ids, ("person",), kind, grid, areas=np.array([12], np.int32), crops=(crop,))


MADE: dict[str, tuple[Task, Result]] = {
    "labels": ("classify", yolo_made.LABELS),
    "boxes": ("detect", yolo_made.BOXES),
    "nothing": ("detect", yolo_made.NOTHING),
    "tracked": ("detect", replace(yolo_made.BOXES, track_ids=np.array([1, 2], np.int32))),
    "pose": ("pose", yolo_made.POSE),
    "oriented": ("obb", yolo_made.ORIENTED),
    "segments": ("segment", masks("instance")),
    "semantic": ("segment", masks("semantic")),
    "depth": ("depth", Depth(np.array([[0, 1], [2, 4]], np.float32))),
}


class Library:
    """A model for each kind of result, and one for each error."""

    def card(self, ref: str, *, fetch: bool = False) -> Card:
        if ref not in MADE and not hasattr(errors, ref):
            raise errors.UnknownModel(f"There is no model '{ref}'.")
        task = MADE[ref][0] if ref in MADE else "detect"
        config = {"config": SEGMENTER["config"]} if ref == "semantic" else {}
        return Card(name=ref, task=task, family="made", runtime="made", labels={0: "person"}, config=config)

    def cards(self) -> list[Card]:
        return [self.card(name) for name in MADE]


class Engine(EchoEngine):
    """Answers as the model's name says."""

    async def predict(self, call: Call) -> Answer:
        if call.model not in MADE:
            raise failed(getattr(errors, call.model))
        result = MADE[call.model][1]
        if isinstance(result, Masks):
            result = rendered(result, call.options.mask_form)
        return yolo_made.answer(result, (6, 8), model=call.model)

    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        yield await self.predict(call)


def failed(kind: Any) -> errors.Error:
    if kind is errors.QuotaSpent:
        return errors.QuotaSpent("No.", limit=5, retry_after_s=3, reset_epoch_s=2e9)
    made: errors.Error = kind("No", extra="torch") if kind is errors.MissingExtra else kind("No.")
    return made


def asked(*calls: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
    app = wiring.build(Settings(access_log=False), Library(), Engine(), OpenGate())  # type: ignore[arg-type]

    async def ask() -> list[httpx.Response]:
        async with client(app) as http:
            return [await http.request(method, path, **more) for method, path, more in calls]

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def contract() -> dict[str, Any]:
    return dict(asked(("GET", "/openapi.json", {}))[0].json())


def wrong(contract: dict[str, Any], schema: dict[str, Any], value: Any, where: str = "") -> Iterator[str]:
    """What of a value the schema does not tell, or tells otherwise; a member that no schema names is wrong, too."""
    if "$ref" in schema:
        schema = contract["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        tries = [list(wrong(contract, one, value, where)) for one in schema["anyOf"]]
        if all(tries):
            yield f"{where or 'the answer'} is none of {len(tries)}: {min(tries, key=len)}"
        return
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    kind = schema.get("type")
    if kind == "null" or value is None:
        if kind is not None and (kind == "null") != (value is None):
            yield f"{where} is {value!r}, not {kind}"
        return
    if kind is not None and (not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean")):
        yield f"{where} is {value!r}, not {kind}"
    elif kind == "object" and "properties" in schema:
        yield from (f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value)
        for name, member in value.items():
            if name not in schema["properties"]:
                yield f"{where}.{name} is not told of"
            else:
                yield from wrong(contract, schema["properties"][name], member, f"{where}.{name}")
    elif kind == "array":
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{where} has {len(value)} members"
        for member in value:
            yield from wrong(contract, schema.get("items", {}), member, f"{where}[]")


def unlike(contract: dict[str, Any], method: str, path: str, response: httpx.Response) -> list[str]:
    """What the answer of an operation is that the document does not say."""
    operation = contract["paths"][path][method.lower()]
    if str(response.status_code) not in operation["responses"]:
        return [f"{response.status_code} is not told of"]
    told = operation["responses"][str(response.status_code)]
    kinds = {kind.partition(";")[0]: content for kind, content in told["content"].items()}
    kind = response.headers["content-type"].partition(";")[0]
    if kind not in kinds:
        return [f"{kind} is not told of"]
    headers = told.get("headers", {}).keys() & {"Retry-After", "X-Request-Id"}
    found = [f"no header {name}" for name in headers if name not in response.headers]
    return found + (list(wrong(contract, kinds[kind]["schema"], response.json())) if kind.endswith("/json") else [])


PHOTO = yolo_made.photo()
IN_BASE64 = base64.b64encode(PHOTO).decode()
RAW, FILE, IMAGE = {"content": PHOTO}, {"files": {"file": PHOTO}}, {"files": {"image": PHOTO}}
SEVERAL = {"json": {"inputs": [IN_BASE64, IN_BASE64]}}
INSTANCES = {"json": {"instances": [IN_BASE64, IN_BASE64]}}
WAYS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "huggingface": ("/models/{path}", "/models/{}", RAW),
    "several": ("/models/{path}", "/models/{}", SEVERAL),
    "instances": ("/models/{path}", "/models/{}", INSTANCES),
    "root": ("/", "/?model={}", RAW),
    "legacy": ("/v1/predict/{model}", "/v1/predict/{}", IMAGE),
    "flat": ("/v1/predict/{model}", "/v1/predict/{}?response=l2", IMAGE),
    "hub": ("/", "/?model={}", FILE),
    "hub, flat": ("/", "/?model={}&response=l2", FILE),
    "platform": ("/api/models/{model}/predict", "/api/models/{}/predict", FILE),
    "platform, shared": ("/predict", "/predict?model={}", FILE),
    **{form: ("/predict", f"/predict?model={{}}&format={form}", FILE) for form in ("coco", "geojson", "csv", "yolo")},
    "drawn": ("/predict", "/predict?model={}&annotated=true", FILE),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_task_is_answered_in_the_shape_that_the_contract_tells(contract: dict[str, Any], way: str) -> None:
    path, address, more = WAYS[way]
    responses = asked(*(("POST", address.format(name), more) for name in MADE))
    fine = [name for name, response in zip(MADE, responses, strict=True) if response.status_code == 200]
    assert "boxes" in fine
    assert set(MADE) - set(fine) <= {"depth", "labels", "semantic"}
    found = {name: unlike(contract, "POST", path, response) for name, response in zip(MADE, responses, strict=True)}
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_who_wants_nothing_loaded_gets_what_the_contract_tells(contract: dict[str, Any]) -> None:
    response = asked(("POST", "/models/StillLoading", RAW | {"headers": {"x-load-model": "0"}}))[0]
    assert (response.status_code, unlike(contract, "POST", "/models/{path}", response)) == (200, [])


@pytest.mark.parametrize("way", ["huggingface", "root", "legacy", "hub", "platform"])
def test_every_error_is_told_of(contract: dict[str, Any], way: str) -> None:
    path, address, more = WAYS[way]
    kinds = [kind.__name__ for kind in STATUS]
    responses = asked(*(("POST", address.format(name), more) for name in kinds))
    assert {response.status_code for response in responses} >= {400, 401, 403, 404, 415, 429, 500, 501, 503, 504}
    found = {name: unlike(contract, "POST", path, response) for name, response in zip(kinds, responses, strict=True)}
    assert {name: faults for name, faults in found.items() if faults} == {}


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/health", "/health"),
        ("/info", "/info"),
        ("/metrics", "/metrics"),
        ("/v1/usage", "/v1/usage"),
        ("/v1/usage", "/v1/usage?days=x"),
        ("/models/{path}", "/models/boxes/info"),
        ("/models/{path}", "/models/boxes/health"),
        ("/models/{path}", "/models/nobodys/info"),
        ("/models/{path}", "/models/boxes"),
        ("/pipeline/{path}", "/pipeline/object-detection/boxes/info"),
        ("/pipeline/{path}", "/pipeline/object-detection/boxes/health"),
        ("/pipeline/{path}", "/pipeline/image-classification/boxes/health"),
        ("/status/{path}", "/status/boxes"),
        ("/hf-inference/status/{path}", "/hf-inference/status/boxes"),
        ("/framework/{path}", "/framework/transformers"),
        ("/v1/models", "/v1/models"),
        ("/v1/models", "/v1/models?limit=2&last_doc_id=boxes"),
        ("/v1/models", "/v1/models?limit=x"),
        ("/v1/models/{model}", "/v1/models/boxes"),
        ("/v1/models/{model}", "/v1/models/nobodys"),
        ("/api/models", "/api/models"),
        ("/api/models/{model}", "/api/models/boxes"),
        ("/api/models/{model}", "/api/models/nobodys"),
        ("/api/models/{owner}/{project}", "/api/models/some/one"),
        ("/api/models/{owner}/{project}/{model}", "/api/models/some/one/boxes"),
        ("/api/projects/{owner}", "/api/projects/some"),
    ],
)
def test_what_can_be_read_has_the_shape_that_the_contract_tells(
    contract: dict[str, Any], path: str, address: str
) -> None:
    assert unlike(contract, "GET", path, asked(("GET", address, {}))[0]) == []


@pytest.mark.parametrize("address", ["/v1/usage?days=7&all=true", "/v1/models?limit=2&last_doc_id=boxes"])
def test_what_can_be_asked_for_has_its_arguments(contract: dict[str, Any], address: str) -> None:
    path, _, query = address.partition("?")
    told = {one["name"] for one in contract["paths"][path]["get"]["parameters"] if one["in"] == "query"}
    assert told == {pair.partition("=")[0] for pair in query.split("&")}


def test_the_contract_names_every_operation_once_and_its_examples_are_true(contract: dict[str, Any]) -> None:
    rows = [(path, one) for path, methods in contract["paths"].items() for one in methods.values()]
    names = [one["operationId"] for _, one in rows]
    assert len(set(names)) == len(names)
    assert {"get_health", "predict", "predict_root", "predict_models_path", "describe_v1_models"} <= set(names)
    for path, one in rows:
        fine = next(response for status, response in one["responses"].items() if status.startswith("2"))
        content = fine.get("content", {}).get("application/json", {})
        for name, example in content.get("examples", {}).items():
            assert list(wrong(contract, content["schema"], example["value"])) == [], (path, name)
    for kind in ("schemas", "headers", "parameters"):
        told = {part.split('"')[0] for part in json.dumps(contract).split(f'"$ref": "#/components/{kind}/')[1:]}
        assert told
        assert told <= contract["components"][kind].keys()
    assert unlike(contract, "POST", "/v1/auth", asked(("POST", "/v1/auth", {}))[0]) == []


def test_every_argument_says_what_it_does(contract: dict[str, Any]) -> None:
    told = contract["components"]["parameters"]
    assert [name for name, one in told.items() if not one.get("description", "").endswith(".")] == []
    assert told["hub.conf"]["description"] == "Keep scores above this. Also called confidence, conf_thres, threshold."


def test_a_bare_image_has_its_arguments_in_the_query_string_and_the_headers(contract: dict[str, Any]) -> None:
    def told(path: str) -> dict[str, Any]:
        listed = contract["paths"][path]["post"]["parameters"]
        known = contract["components"]["parameters"]
        found = [known[one["$ref"].rpartition("/")[2]] for one in listed if "$ref" in one]
        assert len({(one["in"], one["name"]) for one in found}) == len(found)
        return {one["name"]: one for one in found}

    names = told("/models/{path}")
    assert names["top_k"]["schema"]["type"] == "integer"
    assert names["X-Wait-For-Model"]["in"] == "header"
    assert "X-Wait-For-Model" not in told("/v1/predict/{model}")
    assert {"X-Use-Cache", "X-Request-Timeout"} <= told("/v1/predict/{model}").keys(), "what every API heeds"
    assert {"conf", "function_to_apply", "X-Use-Cache"} <= told("/").keys()
    response = asked(("POST", "/v1/predict/boxes?normalize=true", RAW))[0]
    assert response.json()["data"][0]["box"]["x1"] == 118 / 8


def test_keys_and_endpoints_are_answered_as_the_contract_tells(tmp_path: Path) -> None:
    database = Database("", str(tmp_path))
    admin = Keys(database).create("admin", scopes=("admin", "models", "endpoints"))[1]
    database.close()
    house = House(tmp_path, regions=[{"name": "far", "url": "http://127.0.0.1:9", "key": "k"}]).start()
    try:
        told = CLIENT.get(f"{house.url}/openapi.json").json()
        asked_for: set[tuple[str, str]] = set()

        def ask(method: str, path: str, address: str, body: Any = None, key: str = admin) -> Any:
            asked_for.add((path, method.lower()))
            response = CLIENT.request(method, house.url + address, headers={"x-api-key": key}, json=body)
            assert unlike(told, method, path, response) == [], (method, address, response.text)
            return response

        key, keys = "/v1/keys/{key_id}", "/v1/keys"
        made = ask("POST", keys, keys, {"name": "shop", "endpoints": ["shop-*"], "expires_days": 3}).json()
        assert ask("PATCH", key, f"{keys}/{made['id']}", {"limit": 5}).json()["limit"] == 5
        assert ask("GET", keys, keys, key=made["key"]).status_code == 403
        assert ask("GET", keys, keys, key="wrong").status_code == 401
        assert [row["name"] for row in ask("GET", keys, keys).json()["keys"]] == ["admin", "shop"]
        assert ask("POST", keys, keys, {"title": "shop"}).status_code == 400
        assert ask("DELETE", key, f"{keys}/{made['id']}").status_code == 200
        assert ask("DELETE", key, f"{keys}/nobody").status_code == 404

        usage = CLIENT.get(f"{house.url}/v1/usage?all=true", headers={"x-api-key": admin})
        assert unlike(told, "GET", "/v1/usage", usage) == []
        assert usage.json()["key"]["name"] == "admin"

        every, one = "/v1/endpoints", "/v1/endpoints/{name}"
        assert ask("POST", every, every, {"name": "lane", "model": "cars"}).status_code == 201
        settled(house, admin, "lane")
        assert predicted(house, admin, "lane").status_code == 200
        assert ask("POST", every, every, {"name": "lane", "replicas": "0:2"}).status_code == 202
        assert ask("PATCH", one, f"{every}/lane", {"action": "replace", "model": "birds"}).status_code == 200
        assert ask("GET", every, every).json()["endpoints"][0]["model"] == "birds"
        assert ask("GET", one, f"{every}/lane").status_code == 200
        assert ask("GET", f"{one}/health", f"{every}/lane/health").json()["healthy"]
        assert ask("GET", f"{one}/logs", f"{every}/lane/logs?limit=1").json()["nextPageToken"]
        assert ask("GET", f"{one}/logs", f"{every}/lane/logs?limit=x").status_code == 400
        assert ask("GET", f"{one}/metrics", f"{every}/lane/metrics?range=1h").json()["summary"]["totalRequests"] == 1
        assert ask("GET", f"{one}/metrics", f"{every}/lane/metrics?range=2h").status_code == 400
        assert ask("PATCH", one, f"{every}/lane", {"action": "jump"}).status_code == 400
        inner = CLIENT.get(f"{house.url}/endpoints/lane/openapi.json").json()["paths"]
        assert not any("/keys" in path or "/v1/endpoints" in path for path in inner)
        assert not any("/deployments" in path or path in ("/v1/session", "/v1/regions") for path in inner)

        assert ask("GET", f"{one}/metrics", f"{every}/lane/metrics?sparkline=true").json()["totalRequests"] == 1
        assert ask("GET", "/v1/session", "/v1/session").json()["admin"]
        assert ask("GET", "/v1/session", "/v1/session", key="wrong").status_code == 401
        assert [row["name"] for row in ask("GET", "/v1/regions", "/v1/regions").json()["regions"]] == ["here", "far"]

        owner, theirs, at = "/api/deployments/{owner}", "/api/deployments/{owner}/{name}", "/api/deployments/acme"
        shop = {"deployment": "shop", "model": "cars", "project": "retail"}
        assert ask("POST", owner, at, shop).status_code == 201
        settled(house, admin, "shop")
        answer = CLIENT.post(f"{house.url}{at}/shop/predict", headers={"x-api-key": admin}, files={"file": PHOTO})
        assert unlike(told, "POST", f"{theirs}/predict", answer) == []
        assert ask("POST", owner, at, shop | {"memoryGi": "much"}).status_code == 400
        assert ask("GET", owner, f"{at}?status=ready&limit=1").json()["total"] == 2
        assert ask("PATCH", theirs, f"{at}/shop", {"metadata": {"team": "a"}}).status_code == 200
        assert ask("PATCH", theirs, f"{at}/shop", {"action": "jump"}).status_code == 400
        assert ask("GET", theirs, f"{at}/shop").json()["deployment"]["metadata"] == {"team": "a"}
        assert ask("GET", f"{theirs}/health", f"{at}/shop/health").json()["healthy"]
        assert ask("GET", f"{theirs}/logs", f"{at}/shop/logs?limit=1").json()["entries"]
        assert ask("GET", f"{theirs}/metrics", f"{at}/shop/metrics?view=overview").status_code == 200
        assert ask("DELETE", theirs, f"{at}/shop").json() == {"success": True}
        assert ask("GET", theirs, f"{at}/shop").status_code == 404
        assert ask("DELETE", one, f"{every}/lane").status_code == 200
        assert ask("GET", one, f"{every}/lane").status_code == 404
        listed = {(path, method) for path, methods in told["paths"].items() for method in methods}
        ours = (keys, every, owner, "/v1/session", "/v1/regions")
        assert asked_for | {(f"{theirs}/predict", "post")} == {one for one in listed if one[0].startswith(ours)}
        page = CLIENT.get(f"{house.url}/docs").text
        assert all(path in page for path in (keys, one, theirs, f"{theirs}/predict", "/v1/session", "/v1/regions"))
    finally:
        house.stop()
