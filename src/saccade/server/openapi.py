"""The OpenAPI document and its readable page, both made from the routes of the dialects."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from saccade import __version__
from saccade.dialects.arguments import ALIASES, FORMATS, PLAIN, RANGES
from saccade.dialects.dialect import Dialect, Route
from saccade.dialects.huggingface import WORDS
from saccade.dialects.huggingface_request import PARAMETERS

PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")

TITLES: Mapping[str, str] = {
    "huggingface": "Hugging Face Inference API",
    "yolo_v1": "Ultralytics inference API, /v1/predict",
    "hub": "Ultralytics HUB inference API",
    "platform": "Ultralytics Platform",
}

ERRORS: Mapping[str, str] = {
    "400": "Something about the request is wrong; the text says what and what to do.",
    "401": "The key is missing or not valid.",
    "404": "There is no such model.",
    "413": "The body, image or video is too large.",
    "429": "The key's quota is used up; Retry-After says when to try again.",
    "503": "Loading, stopping or too busy; Retry-After says when to try again.",
}

HOUSE: Mapping[str, str] = {
    "/health": "200 when calls are answered, 503 while the server loads or stops.",
    "/metrics": "Metrics in Prometheus' text format.",
    "/info": "What the server is, and what its engine does.",
    "/v1/usage": "What the calling key used and has left.",
}


def document(dialects: Sequence[Dialect], base_url: str) -> dict[str, Any]:
    """OpenAPI 3.1 for everything that the server answers."""
    paths: dict[str, dict[str, Any]] = {}
    for path, summary in HOUSE.items():
        paths[path] = {"get": {"summary": summary, "tags": ["saccade"], "responses": {"200": {"description": "OK"}}}}
    for dialect, route, path in listed(dialects):
        for method in route.methods:
            paths.setdefault(path, {}).setdefault(method.lower(), operation(dialect, route))
    return {
        "openapi": "3.1.0",
        "info": {"title": "saccade", "version": __version__, "description": "Vision models behind the APIs you know."},
        "servers": [{"url": base_url}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            }
        },
        "security": [{}, {"key": []}, {"bearer": []}],
    }


def operation(dialect: Dialect, route: Route) -> dict[str, Any]:
    """One method of one path."""
    found: dict[str, Any] = {
        "summary": "Predict" if route.action == "predict" else "Describe",
        "tags": [title(dialect)],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in PARAMETER.findall(route.path)
        ],
        "responses": {"200": {"description": "The answer.", "content": {"application/json": {}}}},
    }
    if route.action == "predict":
        found["requestBody"] = {"required": True, "content": body(dialect)}
        found["responses"] |= {status: {"description": text} for status, text in ERRORS.items()}
    return found


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
        return {name: {"description": f"For: {', '.join(tasks)}."} for name, tasks in _tasks_by_parameter().items()}
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
    schema: dict[str, Any] = {}
    others = [alias for alias in ALIASES.get(name, ()) if alias != name]
    if name in RANGES:
        least, most = RANGES[name]
        schema = {"type": "number", "minimum": least, "maximum": most}
    if name == "format":
        schema = {"type": "string", "enum": list(FORMATS)}
    if others:
        schema["description"] = f"Also called {', '.join(others)}."
    return schema


def readable(dialects: Sequence[Dialect], base_url: str, tries: str) -> str:
    """The same as a page: a table for each API, and lines to try."""
    contract = f"{html.escape(base_url)}/openapi.json"
    parts = [f"<h1>saccade</h1><p>The same facts for programs: <a href='{contract}'>openapi.json</a>.</p>"]
    parts.append("<h2>This server</h2>" + _rows((("GET", path, text) for path, text in HOUSE.items())))
    parts.append(f"<h2>Try it</h2><pre>{html.escape(tries)}</pre>")
    for dialect in dialects:
        rows = (
            (", ".join(route.methods), path, "predict" if route.action == "predict" else "describe")
            for row, route, path in listed([dialect])
        )
        parts.append(f"<h2>{html.escape(title(dialect))}</h2>" + _rows(rows) + _arguments(dialect))
    return "".join(parts)


def title(dialect: Dialect) -> str:
    """The API's name as its users know it."""
    return TITLES.get(dialect.name, dialect.name)


def listed(dialects: Sequence[Dialect]) -> Iterator[tuple[Dialect, Route, str]]:
    """Every route with its path as OpenAPI writes it."""
    for dialect in dialects:
        for route in dialect.routes:
            yield dialect, route, PARAMETER.sub(r"{\1}", route.path)


def _arguments(dialect: Dialect) -> str:
    schemas = arguments(dialect)
    if not schemas:
        return ""
    rows = ((name, _range(schema), str(schema.get("description", ""))) for name, schema in schemas.items())
    return "<h3>Arguments</h3>" + _rows(rows, ("name", "takes", "remark"))


def _range(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(schema["enum"])
    return f"{schema['minimum']:g} to {schema['maximum']:g}" if "minimum" in schema else ""


def _rows(rows: Iterator[tuple[str, str, str]], head: tuple[str, str, str] = ("method", "path", "what")) -> str:
    cells = "".join(
        f"<tr><td>{html.escape(first)}</td><td><code>{html.escape(second)}</code></td><td>{html.escape(third)}</td></tr>"
        for first, second, third in rows
    )
    return (
        f"<table><thead><tr>{''.join(f'<th>{word}</th>' for word in head)}</tr></thead><tbody>{cells}</tbody></table>"
    )
