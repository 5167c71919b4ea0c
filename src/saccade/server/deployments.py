"""Dedicated endpoints over HTTP: our ``/v1/endpoints``, and the Platform's ``/api/deployments`` in its own words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from saccade.dialects.dialect import status_of
from saccade.endpoints.endpoint import Plan, Record, checked_name, replicas
from saccade.endpoints.figures import RANGES, Line, iso
from saccade.endpoints.fleet import Fleet
from saccade.errors import BadOptions, Error
from saccade.server.access import Caller, require_admin
from saccade.server.dedicated import PREFIX, Dedicated
from saccade.server.keyring import body

if TYPE_CHECKING:
    from saccade.server.app import App

HERE = "here"
"""How the console calls this cluster in its table of regions."""

MOST_LINES = 200
USUAL_LINES = 50
GIB = 1 << 30

Reply = Callable[[Request, Caller], Awaitable[Any]]


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /v1/endpoints``."""

    name: str
    model: str = ""
    replicas: str | int = "0:1"
    memory_bytes: int = 0
    idle_stop_s: int = 600
    region: str | None = None
    port: int = 0
    hostname: str = ""
    calls_per_hour: int = 0


class Change(msgspec.Struct):
    """Body of a PATCH, on both faces: what to do with an endpoint."""

    action: str
    model: str = ""
    project: str = ""
    replicas: str | int = ""
    memory_bytes: int = 0
    idle_stop_s: int | None = None


class PlatformWish(msgspec.Struct):
    """Body of ``POST /api/deployments/{owner}``."""

    deployment: str
    model: str
    project: str = ""
    name: str = ""
    region: str = ""
    cpu: float = 1
    memoryGi: float = 2


class Deployments:
    """The routes; changes need admin rights."""

    def __init__(self, app: App, fleet: Fleet, dedicated: Dedicated) -> None:
        self._app = app
        self._fleet = fleet
        self._dedicated = dedicated

    def routes(self) -> list[Route]:
        """For the house's router."""
        one, theirs = "/v1/endpoints/{name}", "/api/deployments/{owner}/{name}"
        return [
            Route("/v1/endpoints", self._answering(self.listed), methods=["GET"]),
            Route("/v1/endpoints", self._answering(self.created, admin=True), methods=["POST"]),
            Route(one, self._answering(self.shown), methods=["GET"]),
            Route(one, self._answering(self.changed, admin=True), methods=["PATCH"]),
            Route(one, self._answering(self.removed, admin=True), methods=["DELETE"]),
            *(Route(f"{face}/health", self._answering(self.health), methods=["GET"]) for face in (one, theirs)),
            *(Route(f"{face}/logs", self._answering(self.logs), methods=["GET"]) for face in (one, theirs)),
            *(Route(f"{face}/metrics", self._answering(self.metrics), methods=["GET"]) for face in (one, theirs)),
            Route("/api/deployments/{owner}", self._answering(self.platform_listed), methods=["GET"]),
            Route("/api/deployments/{owner}", self._answering(self.platform_created, admin=True), methods=["POST"]),
            Route(theirs, self._answering(self.platform_shown), methods=["GET"]),
            Route(theirs, self._answering(self.platform_changed, admin=True), methods=["PATCH"]),
            Route(theirs, self._answering(self.platform_removed, admin=True), methods=["DELETE"]),
            Route(f"{theirs}/predict", self.predict, methods=["POST"]),
        ]

    async def listed(self, request: Request, caller: Caller) -> Any:
        """Every endpoint that the caller may see."""
        return {"endpoints": await asyncio.gather(*(self._told(record, request) for record in self._visible(caller)))}

    async def created(self, request: Request, caller: Caller) -> Any:
        """201 and the new endpoint; with a known name and no model, starts the stopped one."""
        wish = await body(request, Wish)
        if not wish.model:
            return 202, self._words(self._fleet.start(wish.name), request)
        least, most = replicas(str(wish.replicas))
        plan = Plan(
            model=wish.model,
            min_replicas=least,
            max_replicas=most,
            memory_bytes=wish.memory_bytes,
            idle_stop_s=wish.idle_stop_s,
            region=self._region(wish.region),
            port=wish.port,
            hostname=wish.hostname,
            calls_per_hour=wish.calls_per_hour,
        )
        if self._app.doors is not None:
            self._app.doors.try_port(plan.port)
        return 201, self._words(await self._fleet.create(wish.name, plan), request)

    async def shown(self, request: Request, caller: Caller) -> Any:
        """One endpoint."""
        return await self._told(self._fleet.record(request.path_params["name"]), request)

    async def changed(self, request: Request, caller: Caller) -> Any:
        """Starts, stops, replaces or resizes."""
        record = await self._change(request.path_params["name"], await body(request, Change))
        return self._words(record, request)

    async def removed(self, request: Request, caller: Caller) -> Any:
        """Gone for good."""
        name = request.path_params["name"]
        await self._fleet.remove(name)
        self._dedicated.forget(name)
        if self._app.doors is not None:
            await self._app.doors.match(self._fleet.records())
        return {"removed": name}

    async def health(self, request: Request, caller: Caller) -> Any:
        """Whether it answers, and how fast: the Platform's words."""
        record = self._fleet.record(request.path_params["name"])
        started = time.perf_counter()
        if (there := self._there(record)) is not None:
            return await there("/health")
        healthy = record.state == "ready"
        told: dict[str, Any] = {"healthy": healthy, "status": 200 if healthy else 503}
        if not healthy:
            told["error"] = record.reason or f"The endpoint is {record.state}."
        told["latencyMs"] = round((time.perf_counter() - started) * 1e3, 3)
        return told

    async def logs(self, request: Request, caller: Caller) -> Any:
        """The latest entries first; ``pageToken`` goes on where the page before ended."""
        if (there := self._there(self._fleet.record(request.path_params["name"]))) is not None:
            return await there(f"/logs?{request.url.query}")
        query = request.query_params
        limit = min(MOST_LINES, _number(query.get("limit"), USUAL_LINES))
        before = _moment(query.get("pageToken"))
        severity = query.get("severity")
        lines = await self._fleet.lines(
            request.path_params["name"], limit + 1, severity.upper() if severity else None, before
        )
        told: dict[str, Any] = {"entries": [_entry(line) for line in lines[:limit]]}
        if len(lines) > limit:
            told["nextPageToken"] = repr(lines[limit - 1].timestamp)
        return told

    async def metrics(self, request: Request, caller: Caller) -> Any:
        """Summary and series of a range, or the day in short with ``sparkline=true``."""
        record = self._fleet.record(request.path_params["name"])
        if (there := self._there(record)) is not None:
            told = await there(f"/metrics?{request.url.query}")
            return {**told, "region": record.plan.region} if "deploymentId" in told else told
        if request.query_params.get("sparkline", "").lower() in ("true", "1"):
            return await self._fleet.sparkline(record.name)
        span = request.query_params.get("range", "24h")
        if span not in RANGES:
            raise BadOptions(f"range is '{span[:20]}'; expected one of {', '.join(RANGES)}.")
        told = await self._fleet.metrics(record.name, span)
        return {"deploymentId": record.id, "region": record.plan.region or "local", **told}

    async def platform_listed(self, request: Request, caller: Caller) -> Any:
        """All endpoints, whoever the owner: this server has one."""
        query = request.query_params
        records = [
            record
            for record in self._visible(caller)
            if query.get("status") in (None, record.state) and query.get("model") in (None, record.plan.model)
        ]
        limit = _number(query.get("limit"), len(records))
        shown = [self._platform(record, request) for record in records[:limit]]
        return {"deployments": shown, "total": len(records), "region": "us"}

    async def platform_created(self, request: Request, caller: Caller) -> Any:
        """A deployment of ``project/model``."""
        wish = await body(request, PlatformWish)
        model = self._model(request.path_params["owner"], wish.project, wish.model)
        plan = Plan(model=model, memory_bytes=int(wish.memoryGi * GIB), region=self._known_region(wish.region))
        record = await self._fleet.create(checked_name(wish.deployment), plan)
        told = {
            "id": record.id,
            "deployment": record.name,
            "status": "creating",
            "message": "The deployment is being created.",
            "region": plan.region or wish.region,
        }
        return 201, told

    async def platform_shown(self, request: Request, caller: Caller) -> Any:
        """One deployment."""
        record = self._fleet.record(request.path_params["name"])
        return {"deployment": self._platform(record, request), "region": "us"}

    async def platform_changed(self, request: Request, caller: Caller) -> Any:
        """200 when done, 202 while it rolls."""
        change = await body(request, Change)
        name = request.path_params["name"]
        if change.action == "replace":
            change.model = self._model(request.path_params["owner"], change.project, change.model)
        record = await self._change(name, change)
        told = {
            "success": True,
            "status": record.state,
            "message": f"The deployment is {record.state}.",
            "deployment": name,
        }
        return (200 if record.state in ("ready", "stopped") else 202), told

    async def platform_removed(self, request: Request, caller: Caller) -> Any:
        """Gone for good."""
        await self.removed(request, caller)
        return {"success": True}

    async def predict(self, request: Request) -> Response:
        """``POST …/predict`` on a deployment's own application."""
        name = request.path_params["name"]
        try:
            self._fleet.record(name)
        except Error as error:
            return _answer({"error": error.message}, status_of(error))
        return _Passed(self._dedicated, name)

    async def _change(self, name: str, change: Change) -> Record:
        match change.action:
            case "start":
                return self._fleet.start(name)
            case "stop":
                return await self._fleet.stop(name)
            case "replace" if change.model:
                return await self._fleet.replace(name, change.model)
            case "resize":
                return await self._fleet.resize(name, self._resized(name, change))
        raise BadOptions(f"action is '{change.action[:30]}'; expected start, stop, resize, or replace with a model.")

    def _resized(self, name: str, change: Change) -> Plan:
        plan = self._fleet.record(name).plan
        least, most = (
            replicas(str(change.replicas)) if change.replicas != "" else (plan.min_replicas, plan.max_replicas)
        )
        idle = plan.idle_stop_s if change.idle_stop_s is None else change.idle_stop_s
        memory = change.memory_bytes or plan.memory_bytes
        return msgspec.structs.replace(
            plan, min_replicas=least, max_replicas=most, idle_stop_s=idle, memory_bytes=memory
        )

    def _model(self, owner: str, project: str, model: str) -> str:
        """The model that a Platform caller means: by its full name if we have it, else by its last part."""
        names = {name for card in self._app.desk.cards() for name in (card.name, *card.aliases)}
        full = "/".join(part for part in (owner, project, model) if part)
        return next((name for name in (full, f"{project}/{model}", model) if name in names), model)

    def _known_region(self, region: str) -> str:
        """A region of ours; the Platform's own region names mean this cluster."""
        return region if any(one.name == region for one in self._app.settings.regions) else ""

    def _visible(self, caller: Caller) -> list[Record]:
        return [
            record for record in self._fleet.records() if caller.admin or {"*", record.name} & set(caller.endpoints)
        ]

    def _url(self, record: Record, request: Request) -> str:
        head = request.scope["state"]["incoming"]
        scheme, _, host = head.base_url.partition("://")
        if record.plan.hostname:
            return f"{scheme}://{record.plan.hostname}"
        if record.plan.port:
            return f"{scheme}://{host.rpartition(':')[0] or host}:{record.plan.port}"
        return f"{head.base_url}{PREFIX}{record.name}"

    def _there(self, record: Record) -> Callable[[str], Awaitable[dict[str, Any]]] | None:
        """A way to ask the region about an endpoint that runs there."""
        regions, region = self._app.regions, record.plan.region
        if regions is None or not region or self._fleet.running(record.name) is None:
            return None
        return lambda path: regions.ask(region, "GET", f"/v1/endpoints/{quote(record.name, safe='')}{path}")

    async def _told(self, record: Record, request: Request) -> dict[str, Any]:
        """The endpoint in words; of one in a region, what the region tells of its state."""
        words = self._words(record, request)
        there = self._there(record)
        if there is None:
            return words
        try:
            row = await there("")
        except Error as error:
            return {**words, "reason": error.message}
        seen: dict[str, Any] = {
            name: row[name] for name in ("state", "reason", "replicas_now", "revision") if name in row
        }
        return {**words, **seen, "region_url": row.get("url", "")}

    def _region(self, name: str | None) -> str:
        """The region that a wish means; this cluster is "". Raises BadOptions for one that is not known."""
        if not name or name == HERE or self._known_region(name):
            return "" if name in (None, HERE) else str(name)
        known = ", ".join(region.name for region in self._app.settings.regions) or "none"
        raise BadOptions(f"There is no region '{name[:40]}' in saccade.toml. Known: {known}.")

    def _words(self, record: Record, request: Request) -> dict[str, Any]:
        plan = record.plan
        return {
            "id": record.id,
            "name": record.name,
            "model": plan.model,
            "state": record.state,
            "reason": record.reason,
            "url": self._url(record, request),
            "replicas": f"{plan.min_replicas}:{plan.max_replicas}",
            "replicas_now": self._fleet.replicas(record.name),
            "memory_bytes": plan.memory_bytes,
            "idle_stop_s": plan.idle_stop_s,
            "region": plan.region,
            "revision": record.revision,
            "created": record.created,
            "started": record.started,
        }

    def _platform(self, record: Record, request: Request) -> dict[str, Any]:
        plan = record.plan
        told: dict[str, Any] = {
            "id": record.id,
            "owner": request.path_params["owner"],
            "model": plan.model,
            "deployment": record.name,
            "name": record.name,
            "status": record.state,
            "region": plan.region or "local",
            "serviceUrl": self._url(record, request),
            "resources": {
                "cpu": 1,
                "memoryGi": plan.memory_bytes / GIB,
                "minInstances": plan.min_replicas,
                "maxInstances": plan.max_replicas,
            },
            "createdAt": iso(record.created),
            "updatedAt": iso(record.started or record.created),
            "metadata": {},
        }
        if record.reason:
            told["statusMessage"] = record.reason
        if record.started:
            told["deployedAt"] = iso(record.started)
        return told

    def _answering(self, reply: Reply, *, admin: bool = False) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                caller = await self._app.gate.caller(request.scope["state"]["incoming"].headers)
                if admin:
                    require_admin(caller)
                told = await reply(request, caller)
            except Error as error:
                return _answer({"error": error.message}, status_of(error))
            status, body = told if isinstance(told, tuple) else (200, told)
            return _answer(body, status)

        return endpoint


class _Passed(Response):
    """Hands the request on to a deployment's application, at its ``/predict``."""

    def __init__(self, dedicated: Dedicated, name: str) -> None:
        super().__init__()
        self._dedicated = dedicated
        self._name = name

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        app = self._dedicated.app(self._name)
        await app({**scope, "path": "/predict", "raw_path": b"/predict"}, receive, send)


def _answer(value: object, status: int) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _entry(line: Line) -> dict[str, Any]:
    told: dict[str, Any] = {"timestamp": iso(line.timestamp), "severity": line.severity, "message": line.message}
    if line.status:
        told["httpRequest"] = {
            "method": line.method,
            "url": line.url,
            "status": line.status,
            "latencyMs": round(line.latency_ms, 3),
        }
    return told


def _number(text: str | None, otherwise: int) -> int:
    if text is None:
        return otherwise
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise BadOptions(f"limit is '{text[:20]}'; expected a number above 0.")


def _moment(token: str | None) -> float | None:
    if token is None:
        return None
    try:
        return float(token)
    except ValueError:
        raise BadOptions("pageToken is not one that this server gave out.") from None
