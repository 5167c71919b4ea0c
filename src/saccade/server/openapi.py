"""The OpenAPI document and its readable page, both made from the routes of the dialects."""

from __future__ import annotations

import html
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from saccade import __version__
from saccade.dialects.arguments import ALIASES, BITS, FORMATS, PLAIN, RANGES, RESPONSES
from saccade.dialects.dialect import Dialect, Route
from saccade.dialects.huggingface import WORDS
from saccade.dialects.huggingface_request import FUNCTIONS, PARAMETERS, SUBTASKS
from saccade.server import administration, answers

PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
MARKED = re.compile("`([^`]+)`")

TITLES: Mapping[str, str] = {
    "huggingface": "Hugging Face Inference API",
    "yolo_v1": "Ultralytics inference API, /v1/predict",
    "hub": "Ultralytics HUB inference API",
    "platform": "Ultralytics Platform",
}

ERRORS: Mapping[str, str] = {
    "400": "Something about the request is wrong; the text says what and what to do.",
    "401": "The key is missing or not valid.",
    "403": "The key is not for this model or this right.",
    "404": "There is no such model.",
    "405": "A model itself is not read: POST an image to it.",
    "413": "The body, image or video is too large.",
    "415": "The body is of a kind that this API does not take.",
    "429": "The key's quota is used up; Retry-After says when to try again.",
    "500": "The model or the server failed; the text has an id that the log also has.",
    "501": "The model needs a part of saccade that is not installed.",
    "503": "Loading, stopping or too busy; Retry-After says when to try again.",
    "504": "The call was not answered before its deadline.",
}
PREDICTED = tuple(status for status in ERRORS if status != "405")
ASKED: tuple[str, ...] = ("401", "403", "404")
"""What may go wrong when something is only asked for."""

HOUSE: Mapping[str, str] = {
    "/health": "200 when calls are answered, 503 while the server loads or stops.",
    "/metrics": "Metrics in Prometheus' text format.",
    "/info": "What the server is, and what its engine does.",
    "/v1/usage": "What the calling key used and has left.",
}

TEXT: Mapping[str, Any] = {"type": "string"}
TEXTS: Mapping[str, Any] = {"anyOf": [{"type": "array", "items": TEXT}, TEXT]}
NUMBER: Mapping[str, Any] = {"type": "number"}
SWITCH: Mapping[str, Any] = {"type": "boolean"}
KINDS: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("normalize", "agnostic_nms", "retina_masks", "zero_hidden_keypoints"), SWITCH),
    **dict.fromkeys(("annotated", "track", "half"), SWITCH),
    **dict.fromkeys(("threshold", "mask_threshold", "overlap_mask_area_threshold"), NUMBER),
    **dict.fromkeys(("model", "hypothesis_template"), TEXT),
    **dict.fromkeys(("candidate_labels", "candidateLabels"), TEXTS),
    "classes": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, TEXT]},
    "format": {"type": "string", "enum": list(FORMATS)},
    "response": {"type": "string", "enum": list(RESPONSES)},
    "bits": {"type": "integer", "enum": list(BITS)},
    "function_to_apply": {"type": "string", "enum": list(FUNCTIONS)},
    "subtask": {"type": "string", "enum": list(SUBTASKS)},
    "top_k": {"type": "integer", "minimum": 1},
}
"""What an argument is, where its range does not tell."""

MEANINGS: Mapping[str, str] = {
    "imgsz": "Longer side of the network's input, where the model takes any size.",
    "conf": "Keep scores above this.",
    "iou": "Overlap at which the weaker of two boxes is dropped.",
    "normalize": "Coordinates from 0 to 1 instead of pixels.",
    "topk": "How many labels a classifier gives.",
    "decimals": "Digits behind the point.",
    "vid_stride": "Every how many frames of a video.",
    "bits": "Of the grey picture in which a depth model answers.",
    "classes": "Keep only these class ids, for example 0,2,5.",
    "max_det": "Most objects of a picture.",
    "agnostic_nms": "Boxes of different classes drop one another, too.",
    "retina_masks": "Outlines in the picture's own resolution instead of the network's.",
    "zero_hidden_keypoints": "Hidden keypoints as 0, 0.",
    "annotated": "Answer with the drawn picture, a JPEG.",
    "track": "Give objects in a video ids that stay with them.",
    "format": "Answer in the words of other programs, or of another generation of these APIs.",
    "response": "Answer in the words of another generation of these APIs.",
    "candidate_labels": "What a zero-shot model looks for.",
    "model": "Which model, where the address names none.",
    "half": "Known, and without effect: the server chooses the precision.",
}
"""What the Ultralytics arguments do."""

SENT: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "X-Use-Cache": (SWITCH, "Whether a remembered answer will do; true unless said otherwise."),
    "X-Wait-For-Model": (SWITCH, "Whether to wait for a model that is not ready instead of getting a 503."),
    "X-Load-Model": (SWITCH, "Whether a model that is not in memory may be loaded; true unless said otherwise."),
    "X-Request-Timeout": (NUMBER, "Seconds that the caller is willing to wait."),
    "X-Request-Priority": ({"type": "integer"}, "From -100 (last) to 100 (first); above 0 needs an admin key."),
}
ASKED_FOR: Mapping[str, Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "/v1/usage": {
        "days": ({"type": "integer", "minimum": 1, "default": 30}, "How many days back."),
        "all": (SWITCH, "Of all keys, which needs an admin key."),
    },
    "/v1/models": {
        "limit": ({"type": "integer", "minimum": 1}, "How many models; all of them unless said otherwise."),
        "last_doc_id": (TEXT, "The model behind which the page begins: `lastRecordId` of the one before."),
    },
}
"""Arguments of what is only asked for; all may be left out."""
DEPLOYED = Route(("POST",), f"{administration.DEPLOYMENTS}/{{name}}/predict")
"""What an endpoint answers at the Platform's address of it."""
COMMON = ("X-Use-Cache", "X-Request-Timeout", "X-Request-Priority")
"""Those of the headers that every API heeds."""


def document(dialects: Sequence[Dialect], base_url: str, served: Container[str] = ()) -> dict[str, Any]:
    """OpenAPI 3.1 of the APIs, and of the house's own pages that programs read; ``served`` are its further paths."""
    paths: dict[str, dict[str, Any]] = {path: {"get": _house(path, summary)} for path, summary in HOUSE.items()}
    for dialect, route, path in listed(dialects, served):
        for method in route.methods:
            known, fresh = paths.setdefault(path, {}), operation(dialect, route)
            known[method.lower()] = _joined(known[method.lower()], fresh) if method.lower() in known else fresh
    paths |= administration.paths(served)
    return {
        "openapi": "3.1.0",
        "info": {"title": "saccade", "version": __version__, "description": "Vision models behind the APIs you know."},
        "servers": [{"url": base_url}],
        "paths": paths,
        "components": {
            "schemas": answers.SCHEMAS,
            "headers": answers.HEADERS,
            "parameters": {name: one for dialect in dialects for name, one in _accepted(dialect).items()},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": [{}, {"key": []}, {"bearer": []}],
    }


def operation(dialect: Dialect, route: Route) -> dict[str, Any]:
    """One method of one path."""
    predicts = route.action == "predict"
    statuses = PREDICTED if predicts else ASKED
    if route.endings:
        statuses = ("400", *statuses, "405", "503")
    if route.path in ASKED_FOR:
        statuses = ("400", *statuses)
    found: dict[str, Any] = {
        "operationId": _id(route.action, route.path),
        "summary": "Predict" if predicts else "Describe",
        "tags": [title(dialect)],
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": TEXT} for name in PARAMETER.findall(route.path)),
            *({"$ref": f"#/components/parameters/{name}"} for name in (_accepted(dialect) if predicts else ())),
            *_queried(route.path),
        ],
        "responses": {"200": answers.answer(dialect.name, route)}
        | {status: answers.refusal(dialect.name, status, ERRORS[status]) for status in statuses},
    }
    if predicts:
        found["requestBody"] = {"required": True, "content": body(dialect)}
    return found


def _accepted(dialect: Dialect) -> dict[str, dict[str, Any]]:
    """What may stand beside a body in the query string and the headers; a bare image has no other place for it."""
    found: dict[str, dict[str, Any]] = {}
    for name, schema in arguments(dialect).items():
        told = {"description": schema["description"]} if "description" in schema else {}
        bare = {key: value for key, value in schema.items() if key != "description"}
        found[f"{dialect.name}.{name}"] = {"name": name, "in": "query", **told, "schema": bare}
    for name, (schema, description) in SENT.items() if found else ():
        if dialect.name == "huggingface" or name in COMMON:
            found[name] = {"name": name, "in": "header", "description": description, "schema": schema}
    return found


def _queried(path: str) -> list[dict[str, Any]]:
    """The arguments that an address takes in its query string, besides those of a prediction."""
    return [
        {"name": name, "in": "query", "description": description, "schema": schema}
        for name, (schema, description) in ASKED_FOR.get(path, {}).items()
    ]


def _house(path: str, summary: str) -> dict[str, Any]:
    found: dict[str, Any] = {"operationId": _id("get", path), "summary": summary, "tags": ["saccade"]}
    found |= {"parameters": _queried(path), "responses": answers.house(path)}
    return found if path == "/v1/usage" or path == "/info" else {**found, "security": []}


def _id(verb: str, path: str) -> str:
    """``predict_models_path`` for POST /models/{path}: a name for a function, which stays."""
    words = re.findall(r"[a-z0-9]+", PARAMETER.sub(r"\1", path).lower())
    return "_".join([verb, *(words[:-1] if words[-1:] == [verb] else words or ["root"])])


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """An operation of a path that two APIs share: what the body holds decides which of them answers."""
    bodies, others = (one["requestBody"]["content"] for one in (first, second))
    members = [content["application/json"]["schema"].get("properties", {}) for content in (others, bodies)]
    merged = {"application/json": {"schema": {"type": "object", "properties": members[0] | members[1]}}}
    named = {one["$ref"].rpartition(".")[2] for one in first["parameters"]}
    more = [one for one in second["parameters"] if one["$ref"].rpartition(".")[2] not in named]
    return first | {
        "parameters": first["parameters"] + more,
        "tags": first["tags"] + second["tags"],
        "requestBody": {"required": True, "content": others | bodies | merged},
        "responses": {
            status: answers.either(first["responses"][status], response)
            for status, response in second["responses"].items()
        },
    }


def body(dialect: Dialect) -> dict[str, Any]:
    """The kinds of bodies that predict an image."""
    picture = {"type": "string", "format": "binary"}
    # The first generation's own word; `file` asks it for the answers of a later one.
    part = "image" if dialect.name == "yolo_v1" else "file"
    fields: dict[str, Any] = {part: {**picture, "description": "The image or video."}} | arguments(dialect)
    return {
        "multipart/form-data": {"schema": {"type": "object", "properties": fields}},
        "application/octet-stream": {"schema": picture},
        "image/*": {"schema": picture},
        "application/json": {"schema": {"type": "object", **_members(dialect, part)}},
    }


def _members(dialect: Dialect, part: str) -> dict[str, Any]:
    """Where a JSON body has the picture and the arguments."""
    picture = {"type": "string", "description": "The image in base64."}
    if dialect.name == "huggingface":
        parameters = {"type": "object", "properties": arguments(dialect)}
        return {"properties": {"inputs": picture, "parameters": parameters}, "required": ["inputs"]}
    if dialect.name in TITLES:
        address = {"type": "string", "description": "The image's address, where the server allows it."}
        return {"properties": {part: picture, "url": address} | arguments(dialect)}
    return {}


def arguments(dialect: Dialect) -> dict[str, Any]:
    """JSON schemas of the dialect's arguments by name, from the tables that the dialects themselves read."""
    if dialect.name == "huggingface":
        return {
            name: {**KINDS.get(name, {}), "description": f"For: {', '.join(tasks)}."}
            for name, tasks in _tasks_by_parameter().items()
        }
    if dialect.name in TITLES:
        return {name: _schema(name) for name in (*ALIASES, *PLAIN)}
    return {}


def _tasks_by_parameter() -> dict[str, list[str]]:
    """Parameters of the Hugging Face API, with the tasks in its own words."""
    found: dict[str, list[str]] = {}
    for task, names in PARAMETERS.items():
        for name in names:
            words = found.setdefault(name, [])
            if WORDS[task][0] not in words:
                words.append(WORDS[task][0])
    return found


def _schema(name: str) -> dict[str, Any]:
    """What an Ultralytics argument takes, and under which other names."""
    schema = dict(KINDS.get(name, {}))
    others = [alias for alias in ALIASES.get(name, ()) if alias != name]
    if name in RANGES and not schema:
        least, most = RANGES[name]
        kind = "number" if isinstance(most, float) else "integer"
        schema = {"type": kind, "minimum": least, "maximum": most}
    also = f" Also called {', '.join(others)}." if others else ""
    return {**schema, "description": MEANINGS[name] + also}


def readable(dialects: Sequence[Dialect], base_url: str, tries: str, served: Container[str] = ()) -> str:
    """The same as a page: a table for each API, and lines to try."""
    url = html.escape(base_url)
    parts = [
        f"<h1><a href='{url}/'>saccade</a></h1>"
        f"<p>The same facts for programs: <a href='{url}/openapi.json'>openapi.json</a>. Where a key is asked for, "
        "send it as <code>x-api-key: KEY</code> or <code>Authorization: Bearer KEY</code>.</p>"
    ]
    parts.append("<h2>This server</h2>" + _rows((("GET", path, text) for path, text in HOUSE.items())))
    parts.append(f"<h2>Try it</h2><pre>{html.escape(tries)}</pre>")
    for dialect in dialects:
        rows = (
            (", ".join(route.methods), path, "predict" if route.action == "predict" else "describe")
            for row, route, path in listed([dialect], served)
        )
        parts.append(f"<h2>{html.escape(title(dialect))}</h2>" + _rows(rows) + _arguments(dialect))
    managed = [
        (method.upper(), path, operation["summary"])
        for path, methods in administration.paths(served).items()
        for method, operation in methods.items()
    ]
    if managed:
        parts.append("<h2>Keys and dedicated endpoints</h2>" + _rows(iter(managed)))
    return "".join(parts)


def title(dialect: Dialect) -> str:
    """The API's name as its users know it."""
    return TITLES.get(dialect.name, dialect.name)


def listed(dialects: Sequence[Dialect], served: Container[str] = ()) -> Iterator[tuple[Dialect, Route, str]]:
    """Every route with its path as OpenAPI writes it; the Platform's of an endpoint where there may be endpoints."""
    for dialect in dialects:
        deployed = dialect.name == "platform" and administration.DEPLOYMENTS in served
        for route in (*dialect.routes, *([DEPLOYED] if deployed else [])):
            yield dialect, route, PARAMETER.sub(r"{\1}", route.path)


def _arguments(dialect: Dialect) -> str:
    schemas = arguments(dialect)
    if not schemas:
        return ""
    rows = ((name, _range(schema), str(schema.get("description", ""))) for name, schema in schemas.items())
    return "<h3>Arguments</h3>" + _rows(rows, ("name", "takes", "remark"))


def _range(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "maximum" in schema:
        return f"{schema['minimum']:g} to {schema['maximum']:g}"
    return "true | false" if schema.get("type") == "boolean" else ""


def _rows(rows: Iterator[tuple[str, str, str]], head: tuple[str, str, str] = ("method", "path", "what")) -> str:
    cells = "".join(
        f"<tr><td>{html.escape(first)}</td><td><code>{html.escape(second)}</code></td><td>{_marked(third)}</td></tr>"
        for first, second, third in rows
    )
    return (
        f"<table><thead><tr>{''.join(f'<th>{word}</th>' for word in head)}</tr></thead><tbody>{cells}</tbody></table>"
    )


def _marked(text: str) -> str:
    """A remark, in which names stand between backticks."""
    return MARKED.sub(r"<code>\1</code>", html.escape(text))
