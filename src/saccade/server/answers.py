"""The responses of the OpenAPI document: each API's answers and refusals as schemas, with headers and examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from saccade.dialects.dialect import Route
from saccade.dialects.yolo_ask import EVENTS, LINES
from saccade.dialects.yolo_exports import MEDIA_TYPES
from saccade.server import metrics, shapes

Json = dict[str, Any]

ULTRALYTICS: Mapping[str, tuple[type, ...]] = {
    "yolo_v1": (shapes.LegacyAnswer, shapes.FlatAnswer, shapes.HubAnswer, shapes.PlatformAnswer),
    "hub": (shapes.HubAnswer, shapes.PlatformAnswer, shapes.LegacyAnswer, shapes.FlatAnswer),
    "platform": (shapes.PlatformAnswer, shapes.HubAnswer, shapes.LegacyAnswer, shapes.FlatAnswer),
}
"""Their own answer first; ``response`` asks for the others."""

ROWS = (shapes.Detection, shapes.Segment, shapes.Label)

REFUSALS: Mapping[str, type] = {
    "huggingface": shapes.Refusal,
    "yolo_v1": shapes.LegacyRefusal,
    "hub": shapes.HubRefusal,
    "platform": shapes.PlatformRefusal,
}

DESCRIBED: Mapping[str, type | tuple[type, ...]] = {
    "/models": (shapes.ModelInfo, shapes.ModelHealth),
    "/pipeline": (shapes.ModelInfo, shapes.ModelHealth),
    "/status": shapes.ModelStatus,
    "/framework": shapes.DeployedModel,
    "/v1/auth": shapes.KeyIsGood,
    "/v1/models/{model:path}": shapes.HubModelAnswer,
    "/v1/models": shapes.HubModelsAnswer,
    "/api/models": shapes.PlatformModelsAnswer,
    "/api/models/{owner}/{project}/{model}": shapes.PlatformModelAnswer,
    "/api/models/{owner}/{project}": shapes.PlatformModelsAnswer,
    "/api/models/{model}": shapes.PlatformModelAnswer,
    "/api/projects/{owner}": shapes.PlatformProjectsAnswer,
}

REQUEST_ID = "X-Request-Id"
LIMITS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_TOLD: Mapping[str, tuple[str, str]] = {
    REQUEST_ID: ("string", "The call's id, which the log has, too."),
    "Retry-After": ("integer", "Seconds after which the same call may succeed."),
    "Server-Timing": ("string", "Milliseconds of each stage."),
    "X-Imgsz": ("string", "The size at which the network ran, as HEIGHTxWIDTH."),
    "X-Ignored-Arguments": ("string", "Arguments that mean nothing here, and pictures that nobody looked at."),
    "X-Compute-Type": ("string", "What answered: cpu, gpu, or cache."),
    "X-Compute-Time": ("string", "Seconds."),
    "X-Error-Message": ("string", "The error's text."),
    "X-RateLimit-Limit": ("integer", "Calls that the key may make; these three come with keys that have a limit."),
    "X-RateLimit-Remaining": ("integer", "Calls that are left."),
    "X-RateLimit-Reset": (
        "string",
        "When the next of the used calls comes back: seconds since 1970, or a date on the Platform.",
    ),
}
HEADERS: Json = {
    name: {"schema": {"type": kind}, "description": description} for name, (kind, description) in _TOLD.items()
}

BOX = {"xmin": 36, "ymin": 20, "xmax": 208, "ymax": 180}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgAB4iG8MwAAAABJRU5ErkJggg=="
ITEM = {
    "name": "person",
    "class": 0,
    "confidence": 0.92,
    "box": {"x1": 118.0, "y1": 112.0, "x2": 416.0, "y2": 660.0},
}
IMAGE = {
    "results": [ITEM],
    "shape": [750, 600],
    "speed": {"preprocess": 2.8, "inference": 20.8, "postprocess": 0.8},
}
TIMES = {"imageCount": 1, "functionTimeCall": 0.031, "functionTimeAlive": 86400.5, "model": "yolo11n"}
HUB = {"python": "3.11.7", "torch": "none", "torchvision": "none", "ultralytics": "saccade 0.1.0"}
PLATFORM = {"version": {"python": "3.11.7", "saccade": "0.1.0"}, "task": "detect", "classNames": ["person"]}
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "huggingface": {
        "image-classification": [{"score": 0.9374, "label": "Egyptian cat"}],
        "object-detection": [{"score": 0.9982, "label": "cat", "box": BOX}],
        "image-segmentation": [{"score": 0.9866, "label": "cat", "mask": PNG}],
        "depth-estimation": {"depth": PNG},
    },
    "yolo_v1": {"detect": {"success": True, "message": "Inference complete.", "data": [ITEM]}},
    "hub": {"detect": {"images": [IMAGE], "metadata": TIMES | {"version": HUB}}},
    "platform": {"detect": {"images": [IMAGE], "metadata": TIMES | PLATFORM}},
}


def answer(dialect: str, route: Route) -> Json:
    """The 200 of a dialect's route; that of a dialect of another package is only said to be JSON."""
    if route.action == "describe":
        return _response("What is asked for.", _described(route.path), (REQUEST_ID,))
    told = (REQUEST_ID, "Server-Timing", *LIMITS)
    if dialect == "huggingface":
        return _response("The answer.", HUGGING_FACE, (*told, "X-Compute-Type", "X-Compute-Time"), EXAMPLES[dialect])
    if dialect not in ULTRALYTICS:
        return _response("The answer.", {}, told)
    schema = _any([*map(_of, ULTRALYTICS[dialect]), _list(shapes.CocoResult)])
    found = _response("The answer.", schema, (*told, "X-Imgsz", "X-Ignored-Arguments"), EXAMPLES[dialect])
    others = {kind.partition(";")[0] for kind in MEDIA_TYPES.values()} - {"application/json"}
    texts = {kind: {"schema": {"type": "string"}} for kind in sorted({*others, LINES[0], EVENTS})}
    found["content"] |= texts | {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}
    return found


def refusal(dialect: str, status: str, description: str) -> Json:
    """An error of a dialect."""
    told = [REQUEST_ID]
    if status in ("429", "503", "504"):
        told.append("Retry-After")
    if status == "429" and dialect != "huggingface":
        told += LIMITS
    if dialect == "huggingface":
        told.append("X-Error-Message")
    kind = REFUSALS.get(dialect)
    return _response(description, _of(kind) if kind else {}, told)


def house(path: str) -> Json:
    """The responses of one of the house's own pages."""
    if path == "/metrics":
        return {"200": {"description": "OK", "content": {metrics.MEDIA_TYPE: {"schema": {"type": "string"}}}}}
    if path == "/health":
        schema = _of(shapes.Health)
        return {"200": _response("OK", schema, ()), "503": _response("Loading or stopping.", schema, ())}
    kind = shapes.ServerInfo if path == "/info" else shapes.Usage
    wrong = {"401": "The key is missing or not valid."}
    if kind is shapes.Usage:
        wrong = {"400": "`days` is no number of days.", **wrong, "403": "`all` needs an admin key."}
    return plain(kind, "200", wrong)


def plain(kind: type | tuple[type, ...], status: str, wrong: Mapping[str, str]) -> Json:
    """The responses of an operation of the house's own: the answer under its status, and what may be wrong."""
    refused = {number: _response(text, _of(shapes.Refusal), (REQUEST_ID,)) for number, text in wrong.items()}
    schema = _any([_of(one) for one in (kind if isinstance(kind, tuple) else (kind,))])
    return {status: _response("OK", schema, (REQUEST_ID,)), **refused}


def either(first: Json, second: Json) -> Json:
    """A response of a path that two APIs share."""
    one, other = (response["content"]["application/json"] for response in (first, second))
    both: Json = {"schema": _any([*_parts(one), *_parts(other)])}
    if examples := one.get("examples", {}) | other.get("examples", {}):
        both["examples"] = examples
    content = second["content"] | first["content"] | {"application/json": both}
    return first | {"headers": first["headers"] | second["headers"], "content": content}


def _described(path: str) -> Json:
    found = DESCRIBED.get(path)
    if found is None:
        found = next((kind for start, kind in DESCRIBED.items() if f"{start}/{{path:path}}" in path), ())
    if found is shapes.DeployedModel:
        return _list(shapes.DeployedModel)
    return _any([_of(kind) for kind in (found if isinstance(found, tuple) else (found,))])


def _response(
    description: str, schema: Json, headers: tuple[str, ...] | list[str], examples: Mapping[str, Any] | None = None
) -> Json:
    content: Json = {"schema": schema} if schema else {}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
        "content": {"application/json": content},
    }


def _of(kind: type) -> Json:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _list(kind: type) -> Json:
    return {"type": "array", "items": _of(kind)}


def _any(schemas: list[Json]) -> Json:
    """Any of these, each named once."""
    unlike = [schema for index, schema in enumerate(schemas) if schema not in schemas[:index]]
    return unlike[0] if len(unlike) == 1 else {"anyOf": unlike} if unlike else {}


def _parts(content: Json) -> list[Json]:
    schema: Json = content.get("schema", {})
    parts: list[Json] = schema.get("anyOf", [schema])
    return parts


_ROWS = {"$ref": "#/components/schemas/Rows"}
HUGGING_FACE = {
    "anyOf": [
        *map(_list, ROWS),
        _of(shapes.DepthPicture),
        {"type": "array", "items": _ROWS},
        _of(shapes.Predictions),
        _of(shapes.Refusal),  # to whoever wants nothing loaded
    ]
}
_, SCHEMAS = msgspec.json.schema_components(
    [kind for kind in vars(shapes).values() if isinstance(kind, type) and kind.__module__ == shapes.__name__],
    ref_template="#/components/schemas/{name}",
)
SCHEMAS["Rows"] = {
    "description": "What one picture's answer is, where several were sent.",
    "anyOf": [*map(_list, ROWS), _of(shapes.DepthPicture)],
}
SCHEMAS["Predictions"]["properties"]["predictions"]["items"] = _ROWS
