"""From a method and a path to the dialects that may answer it; the address that they were called at."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from urllib.parse import parse_qsl, urlsplit

from starlette.convertors import Convertor
from starlette.routing import compile_path
from starlette.types import Scope

from saccade.dialects.dialect import Dialect, Route

REMEMBERED, LONGEST_REMEMBERED = 4096, 512
"""How many (method, path) pairs keep their answer, and how long their paths may be: they come from callers."""

MOST_PAIRS = 2048
"""What follows so many pairs in a query string is not read: a thousand labels, each with its name, is the most that
anybody needs."""

HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s/\\?#@\[\]<>\"':]+)(?::[0-9]+)?")
"""A name or address, with or without a port, of signs that an address may have there."""

STRIPPED = re.compile(r"(?:/[A-Za-z0-9._~%-]+)*")
"""What a proxy may have taken from the beginning of a path."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A dialect whose route fits, with the path's parameters."""

    dialect: Dialect
    route: Route
    match: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """The dialects that may answer, in their order; where none does, the methods that the path has instead."""

    candidates: tuple[Candidate, ...]
    allowed: tuple[str, ...] = ()


def normalised(path: str) -> str:
    """One leading slash, no doubled ones, none at the end; percent-decoding was done by the HTTP server."""
    if "//" in path:
        path = re.sub("/{2,}", "/", path)
    if len(path) > 1 and path.endswith("/"):
        path = path[:-1]
    return path if path.startswith("/") else f"/{path}"  # "*" is what OPTIONS asks of a whole server


def query_of(raw: bytes) -> tuple[tuple[str, str], ...]:
    """The query string's pairs, in order; see :data:`MOST_PAIRS`."""
    if not raw:
        return ()
    said = raw.decode("latin-1").split("&", MOST_PAIRS)[:MOST_PAIRS]
    return tuple(parse_qsl("&".join(said), keep_blank_values=True))


def base_url_of(headers: Mapping[str, str], scope: Scope) -> str:
    """This server's address as the caller wrote it, as far as the proxies between them tell."""
    scheme = _outermost(headers.get("x-forwarded-proto", "")).lower()
    if scheme not in ("http", "https"):
        scheme = scope.get("scheme", "http")
    prefix = _outermost(headers.get("x-forwarded-prefix", "")).rstrip("/")
    if not STRIPPED.fullmatch(prefix):
        prefix = ""
    return f"{scheme}://{_host(headers.get('host', ''))}{prefix}{scope.get('root_path', '')}"


@lru_cache(64)
def _host(told: str) -> str:
    """The host as the caller wrote it, who may write anything; this machine's own name where that is none."""
    try:
        return told if HOST.fullmatch(told) and urlsplit(f"//{told}").port != 0 else "localhost"
    except ValueError:  # a port or an address in brackets that is none
        return "localhost"


def _outermost(told: str) -> str:
    """What the proxy next to the caller told: each behind it adds its own word."""
    return told.partition(",")[0].strip()


class Paths:
    """All routes of all dialects; the first route of a dialect that fits is taken."""

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self._table: list[tuple[re.Pattern[str], dict[str, Convertor[str]], Dialect, Route]] = []
        for dialect in dialects:
            for route in dialect.routes:
                pattern, _, convertors = compile_path(route.path)
                self._table.append((pattern, convertors, dialect, route))
        self._known = lru_cache(REMEMBERED)(self._find)

    def find(self, method: str, path: str) -> Found:
        """The dialects that may answer, or the methods that the path has."""
        return self._known(method, path) if len(path) <= LONGEST_REMEMBERED else self._find(method, path)

    def nearest(self, path: str) -> Dialect | None:
        """The dialect in whose words a path that nobody serves is refused: one with the longest beginning in common."""
        parts = path.split("/")[1:]
        best = max(self._table, key=lambda row: _in_common(parts, row[3].path.split("/")[1:]), default=None)
        return best[2] if best is not None and _in_common(parts, best[3].path.split("/")[1:]) else None

    def _find(self, method: str, path: str) -> Found:
        candidates: list[Candidate] = []
        allowed: dict[str, None] = {}
        for pattern, convertors, dialect, route in self._table:
            fits = pattern.match(path)
            if fits is None:
                continue
            if route.endings and not path.endswith(route.endings):
                continue
            allowed |= dict.fromkeys((*route.methods, *(["HEAD"] if answers(route, "HEAD") else [])))
            if not answers(route, method) or any(row.dialect is dialect for row in candidates):
                continue
            match = {name: str(convertors[name].convert(text)) for name, text in fits.groupdict().items()}
            candidates.append(Candidate(dialect, route, match))
        return Found(tuple(candidates), () if candidates else tuple(allowed))


def answers(route: Route, method: str) -> bool:
    """Whether a route takes a method; what may be read may also be asked for its head alone."""
    return method in route.methods or (method == "HEAD" and "GET" in route.methods and route.action == "describe")


def _in_common(parts: Sequence[str], template: Sequence[str]) -> int:
    """With how many whole segments both begin; the empty one of the root is none."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1] != "", zip(parts, template, strict=False)))
