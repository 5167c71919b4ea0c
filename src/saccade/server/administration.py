"""What is managed over HTTP, for the OpenAPI document: keys and dedicated endpoints, and who asks."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import msgspec

from saccade.endpoints.figures import RANGES
from saccade.server import answers, deployments, keyring, shapes

ONE = {"404": "There is none of this name."}
WRONG = {"400": "Something about the request is wrong; the text says what and what to do."}
ASKED = {"401": "The key is missing or not valid.", "503": "The database does not answer."}
FORBIDDEN = {"403": "This needs an admin key, or a key for this endpoint."}

TAGS = {"keys": "Keys", "endpoints": "Dedicated endpoints", "deployments": "Ultralytics Platform"}
"""By the word behind an address's first; others are of the house, and for every key."""
DEPLOYMENTS = "/api/deployments/{owner}"
"""The endpoints in the Platform's words."""


class Operation(msgspec.Struct, frozen=True):
    """One method of one path: what it does, its answer and its status, what may be wrong, what is sent, what is asked.

    ``query`` holds the arguments that may be given, with their schemas; ``also`` is another status of the same answer.
    """

    summary: str
    answer: type | tuple[type, ...]
    status: str = "200"
    wrong: dict[str, str] = {}
    sent: type | None = None
    query: Mapping[str, Mapping[str, Any]] = {}
    also: str = ""


LOGS: Mapping[str, Mapping[str, Any]] = {
    "severity": {"type": "string", "description": "INFO, WARNING or ERROR; several with commas between."},
    "limit": {"type": "integer", "minimum": 1, "default": deployments.USUAL_LINES},
    "pageToken": {"type": "string", "description": "`nextPageToken` of the page before."},
}
RANGE: Mapping[str, Mapping[str, Any]] = {
    "range": {"type": "string", "enum": list(RANGES), "default": "24h"},
    "view": {"type": "string", "enum": ["overview"], "description": "Only the most telling sums and series."},
    "sparkline": {"type": "boolean", "description": "The last day in short instead."},
}
LISTED: Mapping[str, Mapping[str, Any]] = {
    "status": {"type": "string", "description": "Only those in this state."},
    "model": {"type": "string", "description": "Only those of this model."},
    "limit": {"type": "integer", "minimum": 0, "description": "How many; all of them unless said otherwise."},
}

HEALTH = Operation("Whether it answers a picture, and how fast.", shapes.EndpointHealth, "200", ONE)
LATEST = Operation("Its latest calls and events.", shapes.EndpointLogs, "200", WRONG | ONE, query=LOGS)
DONE = Operation(
    "What it did in a range of time.",
    (shapes.EndpointMetrics, shapes.EndpointDay),
    "200",
    WRONG | ONE,
    query=RANGE,
)

OPERATIONS: Mapping[str, Mapping[str, Operation]] = {
    "/v1/keys": {
        "get": Operation("All keys that are not revoked.", shapes.KeysAnswer),
        "post": Operation("A new key, shown for the only time.", shapes.NewKey, "201", WRONG, keyring.Wish),
    },
    "/v1/keys/{key_id}": {
        "patch": Operation("Changes the fields that are sent.", shapes.AccessKey, "200", WRONG | ONE, keyring.Change),
        "delete": Operation("The key opens nothing any more.", shapes.RevokedKey, "200", ONE),
    },
    "/v1/endpoints": {
        "get": Operation("The endpoints that the key may use.", shapes.EndpointsAnswer),
        "post": Operation(
            "A new endpoint; without `model`, one that exists is started or resized (202).",
            shapes.DedicatedEndpoint,
            "201",
            WRONG | ONE,
            deployments.Wish,
            also="202",
        ),
    },
    "/v1/endpoints/{name}": {
        "get": Operation("An endpoint.", shapes.DedicatedEndpoint, "200", ONE),
        "patch": Operation(
            "`action` is start, stop, resize, or replace with a `model`.",
            shapes.DedicatedEndpoint,
            "200",
            WRONG | ONE,
            deployments.Change,
        ),
        "delete": Operation("Stops and forgets it.", shapes.RemovedEndpoint, "200", ONE),
    },
    "/v1/endpoints/{name}/health": {"get": HEALTH},
    "/v1/endpoints/{name}/logs": {"get": LATEST},
    "/v1/endpoints/{name}/metrics": {"get": DONE},
    DEPLOYMENTS: {
        "get": Operation("The endpoints that the key may use.", shapes.DeploymentsAnswer, "200", WRONG, query=LISTED),
        "post": Operation("A new endpoint.", shapes.NewDeployment, "201", WRONG | ONE, deployments.PlatformWish),
    },
    f"{DEPLOYMENTS}/{{name}}": {
        "get": Operation("An endpoint.", shapes.DeploymentAnswer, "200", ONE),
        "patch": Operation(
            "`action` is start, stop, resize, or replace with a `model`; without one, `name` and `metadata` change.",
            shapes.ChangedDeployment,
            "200",
            WRONG | ONE,
            deployments.PlatformChange,
            also="202",
        ),
        "delete": Operation("Stops and forgets it.", shapes.RemovedDeployment, "200", ONE),
    },
    f"{DEPLOYMENTS}/{{name}}/health": {"get": HEALTH},
    f"{DEPLOYMENTS}/{{name}}/logs": {"get": LATEST},
    f"{DEPLOYMENTS}/{{name}}/metrics": {"get": DONE},
    "/v1/session": {"get": Operation("Who asks, and what this server asks for.", shapes.Session)},
    "/v1/regions": {"get": Operation("How far away this server's regions are.", shapes.RegionsAnswer)},
}


def paths(served: Container[str]) -> dict[str, dict[str, Any]]:
    """The operations of those paths that are served."""
    return {
        path: {method: _told(method, path, one) for method, one in methods.items()}
        for path, methods in OPERATIONS.items()
        if path in served
    }


def _told(method: str, path: str, one: Operation) -> dict[str, Any]:
    words = [part.strip("{}") for part in path.split("/")[2:]]
    named = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    wrong = one.wrong | ASKED | (FORBIDDEN if words[0] in TAGS else {})
    found: dict[str, Any] = {
        "operationId": "_".join([method, *words]),
        "summary": one.summary,
        "tags": [TAGS.get(words[0], "saccade")],
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in named),
            *({"name": name, "in": "query", "schema": schema} for name, schema in one.query.items()),
        ],
        "responses": answers.plain(one.answer, one.status, wrong),
    }
    if one.also:
        found["responses"][one.also] = found["responses"][one.status]
    if one.sent is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": _schema(one.sent)}}}
    return found


def _schema(kind: type) -> dict[str, Any]:
    parts: dict[str, dict[str, Any]] = msgspec.json.schema_components([kind])[1]
    return parts[kind.__name__]
