"""Dedicated endpoints over HTTP: our ``/v1/endpoints``, and the Platform's ``/api/deployments`` in its own words."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from saccade.dialects.dialect import status_of
from saccade.dialects.inputs import integer, number
from saccade.dialects.platform import REGION
from saccade.endpoints.endpoint import (
    MOST_CALLS,
    MOST_IDLE_S,
    MOST_MEMORY_BYTES,
    Plan,
    Record,
    checked_name,
    replicas,
)
from saccade.endpoints.figures import RANGES, Line, iso
from saccade.endpoints.fleet import Fleet
from saccade.errors import BadOptions, Error, Forbidden, SetupError
from saccade.server.access import Caller, is_loopback, require_admin
from saccade.server.answering import come_back, standing_headers
from saccade.server.dedicated import PREFIX, Dedicated
from saccade.server.keyring import body
from saccade.server.settings import HERE

if TYPE_CHECKING:
    from saccade.server.app import App

MOST_LINES = 200
USUAL_LINES = 50
MOST_TITLE = 200
GIB = 1 << 30
MOST = {"memory_bytes": MOST_MEMORY_BYTES, "idle_stop_s": MOST_IDLE_S, "calls_per_hour": MOST_CALLS}

HOSTNAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*")

OVERVIEW = {
    "summary": ("totalRequests", "errorRate", "p95LatencyMs"),
    "timeSeries": ("requests", "errors", "latencyP95"),
}
"""What ``view=overview`` leaves of the metrics."""

HEALTH_S = 50.0
"""How long an endpoint may take to show that it answers; the Platform's clients wait for 55 s."""

ROLL_S = 25.0
"""How long a Platform caller waits for a new model before he is told that it still rolls out."""

Reply = Callable[[Request, Caller], Awaitable[Any]]


Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Size(msgspec.Struct, kw_only=True):
    """What of an endpoint may be changed while it runs; what is left out stays, or is as usual in a new one."""

    replicas: str | int | msgspec.UnsetType = msgspec.UNSET
    memory_bytes: int | msgspec.UnsetType = msgspec.UNSET
    idle_stop_s: int | msgspec.UnsetType = msgspec.UNSET
    calls_per_hour: int | msgspec.UnsetType = msgspec.UNSET

    def of(self, plan: Plan) -> Plan:
        """The plan with this size. Raises BadOptions."""
        given = {
            name: integer(name, value, low=0, high=most)
            for name, most in MOST.items()
            if (value := getattr(self, name)) is not msgspec.UNSET
        }
        if self.replicas is not msgspec.UNSET:
            given["min_replicas"], given["max_replicas"] = replicas(str(self.replicas))
        return msgspec.structs.replace(plan, **given)


class Wish(Size, forbid_unknown_fields=True, kw_only=True):
    """Body of ``POST /v1/endpoints``."""

    name: str
    model: str = ""
    region: str | None = None
    port: Port = 0
    hostname: str = ""


class Change(Size, forbid_unknown_fields=True, kw_only=True):
    """Body of ``PATCH /v1/endpoints/NAME``: what to do with an endpoint."""

    action: str = ""
    model: str = ""


class PlatformChange(Size, kw_only=True):
    """Body of ``PATCH /api/deployments/{owner}/{name}``: what to do with an endpoint, or how the Platform calls it."""

    action: str = ""
    model: str = ""
    project: str = ""
    memoryGi: float | msgspec.UnsetType = msgspec.UNSET
    name: Annotated[str, msgspec.Meta(max_length=MOST_TITLE)] | None = None
    metadata: dict[str, Any] | None = None


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
        ]

    async def listed(self, request: Request, caller: Caller) -> Any:
        """Every endpoint that the caller may see."""
        return {"endpoints": await asyncio.gather(*(self._told(record, request) for record in self._visible(caller)))}

    async def created(self, request: Request, caller: Caller) -> Any:
        """201 and the new endpoint; with a known name and no model, starts the stopped one or resizes the running."""
        wish = await body(request, Wish)
        if not wish.model:
            return 202, await self._words(await self._started(wish), request)
        hostname = self._hostname(wish.hostname, request)
        plan = wish.of(Plan(model=wish.model, region=self._region(wish.region), port=wish.port, hostname=hostname))
        if self._app.doors is not None:
            try:
                self._app.doors.try_port(plan.port)
            except SetupError as error:  # the caller chose the port
                raise BadOptions(error.message) from error
        return 201, await self._words(await self._made(wish.name, plan), request)

    async def _made(self, name: str, plan: Plan, title: str = "", project: str = "") -> Record:
        """A new endpoint, or one that was down with a new plan; no port stays open that is nobody's any more."""
        doors = self._app.doors
        if doors is None:
            return await self._fleet.create(name, plan, title=title, project=project)
        try:
            with doors.promised(plan.port):
                return await self._fleet.create(name, plan, title=title, project=project)
        finally:
            await doors.match(self._fleet.records())

    async def _started(self, wish: Wish) -> Record:
        """A known endpoint, up and of the size that was asked for."""
        if wish.region or wish.port or wish.hostname:
            raise BadOptions(
                "An endpoint keeps its region, port and host name. For others, stop it and start it with a model."
            )
        record = await self._fleet.current(wish.name)
        plan = wish.of(record.plan)
        if plan != record.plan and record.state not in ("stopping", "stopped", "failed"):
            return await self._fleet.resize(wish.name, plan)
        return await self._up(wish.name, plan)

    async def shown(self, request: Request, caller: Caller) -> Any:
        """One endpoint."""
        return await self._told(await self._record(request, caller), request)

    async def changed(self, request: Request, caller: Caller) -> Any:
        """Starts, stops, replaces or resizes."""
        record = await self._change(request.path_params["name"], await body(request, Change))
        return await self._words(record, request)

    async def removed(self, request: Request, caller: Caller) -> Any:
        """Gone for good; ``note`` tells what may be left in a region that does not answer."""
        name = request.path_params["name"]
        left = await self._fleet.remove(name)
        self._dedicated.forget(name)
        if self._app.doors is not None:
            await self._app.doors.match(self._fleet.records())
        return {"removed": name, "note": left} if left else {"removed": name}

    async def health(self, request: Request, caller: Caller) -> Any:
        """Whether it answers a picture, and how fast: the Platform's words. One that sleeps is well."""
        record = await self._record(request, caller)
        if (there := self._there(record)) is not None:
            return await there("/health")
        started, problem = time.perf_counter(), ""
        try:
            async with asyncio.timeout(HEALTH_S):
                await self._fleet.check(record.name)
            problem = await self._dedicated.app(record.name).gone()
        except TimeoutError:
            problem = f"It did not answer within {HEALTH_S:.0f} s."
        except Error as error:
            problem = record.reason or error.message
        told: dict[str, Any] = {"healthy": not problem, "status": 503 if problem else 200}
        told["latencyMs"] = round((time.perf_counter() - started) * 1e3, 3)
        return {**told, "error": problem} if problem else told

    async def logs(self, request: Request, caller: Caller) -> Any:
        """The latest entries first; ``pageToken`` goes on where the page before ended."""
        record = await self._record(request, caller)
        if (there := self._there(record)) is not None:
            return await there(f"/logs?{request.url.query}")
        query = request.query_params
        limit = min(MOST_LINES, _number(query.get("limit"), USUAL_LINES))
        before = _moment(query.get("pageToken"))
        severity = query.get("severity")
        lines = await self._fleet.lines(record.name, limit + 1, severity.upper() if severity else None, before)
        told: dict[str, Any] = {"entries": [_entry(line) for line in lines[:limit]]}
        if len(lines) > limit:
            told["nextPageToken"] = repr(lines[limit - 1].timestamp)
        return told

    async def metrics(self, request: Request, caller: Caller) -> Any:
        """Summary and series of a range, or the day in short with ``sparkline=true``."""
        record = await self._record(request, caller)
        if (there := self._there(record)) is not None:
            told = await there(f"/metrics?{request.url.query}")
            return {**told, "region": record.plan.region} if "deploymentId" in told else told
        if request.query_params.get("sparkline", "").lower() in ("true", "1"):
            return await self._fleet.sparkline(record.name)
        span = request.query_params.get("range", "24h")
        if span not in RANGES:
            raise BadOptions(f"range is '{span[:20]}'; expected one of {', '.join(RANGES)}.")
        told = await self._fleet.metrics(record.name, span)
        if request.query_params.get("view") == "overview":
            told |= {part: {name: told[part][name] for name in names} for part, names in OVERVIEW.items()}
        return {"deploymentId": record.id, "region": record.plan.region or "local", **told}

    async def platform_listed(self, request: Request, caller: Caller) -> Any:
        """All endpoints, whoever the owner: this server has one."""
        query = request.query_params
        records = [
            record
            for record in self._visible(caller)
            if query.get("status") in (None, record.state)
            and query.get("model") in (None, record.plan.model, f"{record.project}/{record.plan.model}")
        ]
        limit = _number(query.get("limit"), len(records))
        shown = [await self._platform(record, request) for record in records[:limit]]
        return {"deployments": shown, "total": len(records), "region": REGION}

    async def platform_created(self, request: Request, caller: Caller) -> Any:
        """A deployment of ``project/model``."""
        wish = await body(request, PlatformWish)
        model = await self._model(request.path_params["owner"], wish.project, wish.model)
        plan = Plan(model=model, memory_bytes=_memory(wish.memoryGi), region=self._known_region(wish.region))
        record = await self._made(checked_name(wish.deployment), plan, wish.name[:MOST_TITLE], wish.project)
        told = {
            "id": record.id,
            "deployment": record.name,
            "status": "creating",
            "message": "The deployment is being created.",
            "region": plan.region or "local",
        }
        return 201, told

    async def platform_shown(self, request: Request, caller: Caller) -> Any:
        """One deployment."""
        record = await self._record(request, caller)
        return {
            "deployment": {**(await self._platform(record, request)), "metadata": record.metadata},
            "region": REGION,
        }

    async def platform_changed(self, request: Request, caller: Caller) -> Any:
        """200 when done, 202 while it rolls."""
        change = await body(request, PlatformChange)
        name = request.path_params["name"]
        if change.action == "replace":
            change.model = await self._model(request.path_params["owner"], change.project, change.model)
        if change.memoryGi is not msgspec.UNSET:
            change.memory_bytes = _memory(change.memoryGi)
        if not change.action and (change.name is not None or change.metadata is not None):
            record = await self._fleet.describe(name, change.name, change.metadata)
        else:
            record = await self._rolled(name, change)
        told = {
            "success": True,
            "status": record.state,
            "message": f"The deployment is {record.state}.",
            "deployment": name,
        }
        return (200 if record.state in ("ready", "stopped") else 202), told

    async def platform_removed(self, request: Request, caller: Caller) -> Any:
        """Gone for good."""
        told = await self.removed(request, caller)
        return {"success": True, "message": told["note"]} if "note" in told else {"success": True}

    async def _rolled(self, name: str, change: PlatformChange) -> Record:
        """The endpoint after the change, or as it is while the change goes on behind the caller's back."""
        try:
            async with asyncio.timeout(ROLL_S):
                return await self._change(name, change)
        except TimeoutError:
            return self._fleet.record(name)

    async def _change(self, name: str, change: Change | PlatformChange) -> Record:
        match change.action:
            case "start":
                return await self._up(name)
            case "stop":
                return await self._fleet.stop(name)
            case "replace" if change.model and isinstance(change, PlatformChange):
                title, project = change.name or "", change.project
                return await self._fleet.replace(name, change.model, title=title, project=project)
            case "replace" if change.model:
                return await self._fleet.replace(name, change.model)
            case "resize":
                return await self._fleet.resize(name, change.of((await self._fleet.current(name)).plan))
        raise BadOptions(f"action is '{change.action[:30]}'; expected start, stop, resize, or replace with a model.")

    async def _up(self, name: str, plan: Plan | None = None) -> Record:
        """An endpoint that is started; what it could not open of its own before is tried again."""
        record = await self._fleet.start(name, plan)
        if self._app.doors is not None:
            self._app.doors.open([record])
        return record

    async def _model(self, owner: str, project: str, model: str) -> str:
        """The model that a Platform caller means: by its full name if we have it, else by its last part."""
        names = {name for card in await self._app.desk.all() for name in (card.name, *card.aliases)}
        full = "/".join(part for part in (owner, project, model) if part)
        return next((name for name in (full, f"{project}/{model}", model) if name in names), model)

    def _known_region(self, region: str) -> str:
        """A region of ours; the Platform's own region names mean this cluster."""
        return region if any(one.name == region for one in self._app.settings.regions) else ""

    def _visible(self, caller: Caller) -> list[Record]:
        return [record for record in self._fleet.records() if caller.may_use(record.name)]

    async def _record(self, request: Request, caller: Caller) -> Record:
        """The endpoint of the path.

        Raises:
            UnknownModel: there is none of this name.
            Forbidden: the key is for others.
        """
        name = request.path_params["name"]
        await self._fleet.meet(name)
        record = self._fleet.record(name)
        if not caller.may_use(record.name):
            raise Forbidden(f"This key is not for the endpoint '{record.name}'.")
        return record

    def _url(self, record: Record, request: Request) -> str:
        head = request.scope["state"]["incoming"]
        own_port = 0 if self._closed(record) else record.plan.port
        if not record.plan.hostname and not own_port:
            return f"{head.base_url}{PREFIX}{record.name}"
        asked = urlsplit(head.base_url)
        host, port = record.plan.hostname or asked.hostname or "localhost", own_port or asked.port
        bare = f"[{host}]" if ":" in host else host
        return f"{asked.scheme}://{bare}:{port}" if port else f"{asked.scheme}://{bare}"

    async def _stands(self, record: Record) -> tuple[str, str]:
        """State and reason, as the callers of the endpoint would find it now."""
        may_be = record.state == "ready" and self._fleet.knows(record.name)
        gone = await self._dedicated.app(record.name).gone() if may_be else ""
        reason = _sentences(gone or record.reason, self._closed(record))
        return "failed" if gone else record.state, reason

    def _closed(self, record: Record) -> str:
        """What is to be told of an endpoint whose own port cannot be opened; "" of others."""
        problem = self._app.doors.problem(record.plan.port) if self._app.doors is not None else ""
        if not problem:
            return ""
        return f"{problem}. Until that ends it answers at {PREFIX}{record.name}; its port is tried again and again."

    def _there(self, record: Record) -> Callable[[str], Awaitable[dict[str, Any]]] | None:
        """A way to ask the region about an endpoint that runs there."""
        regions, region = self._app.regions, record.plan.region
        if regions is None or not region or self._fleet.running(record.name) is None:
            return None
        return lambda path: regions.ask(region, "GET", f"/v1/endpoints/{quote(record.name, safe='')}{path}")

    async def _told(self, record: Record, request: Request) -> dict[str, Any]:
        """The endpoint in words; of one in a region, what the region tells of its state."""
        words = await self._words(record, request)
        there = self._there(record)
        if there is None:
            return words
        try:
            row = await there("")
        except Error as error:
            return {**words, "reason": _sentences(error.message, self._closed(record))}
        seen: dict[str, Any] = {
            name: row[name] for name in ("state", "reason", "replicas_now", "revision") if name in row
        }
        seen["reason"] = _sentences(seen.get("reason", ""), self._closed(record))
        return {**words, **seen, "region_url": row.get("url", "")}

    def _region(self, name: str | None) -> str:
        """The region that a wish means; this cluster is "". Raises BadOptions for one that is not known."""
        if not name or name == HERE or self._known_region(name):
            return "" if name in (None, HERE) else str(name)
        known = ", ".join(region.name for region in self._app.settings.regions) or "none"
        raise BadOptions(f"There is no region '{name[:40]}' in saccade.toml. Known: {known}.")

    def _hostname(self, name: str, request: Request) -> str:
        """A host name of its own. Raises BadOptions for one by which this server itself is called."""
        name = name.lower()
        if not name:
            return ""
        if not HOSTNAME.fullmatch(name):
            raise BadOptions(f"hostname is '{name[:60]}'; expected a name such as cars.example.org, without a port.")
        if is_loopback(name) or name == urlsplit(request.scope["state"]["incoming"].base_url).hostname:
            raise BadOptions(f"hostname is '{name}', which leads to this server itself. Give the endpoint another one.")
        return name

    async def _words(self, record: Record, request: Request) -> dict[str, Any]:
        plan = record.plan
        state, reason = await self._stands(record)
        return {
            "id": record.id,
            "name": record.name,
            "model": plan.model,
            "state": state,
            "reason": reason,
            "url": self._url(record, request),
            "replicas": f"{plan.min_replicas}:{plan.max_replicas}",
            "replicas_now": self._fleet.replicas(record.name),
            "memory_bytes": plan.memory_bytes,
            "idle_stop_s": plan.idle_stop_s,
            "calls_per_hour": plan.calls_per_hour,
            "port": plan.port,
            "hostname": plan.hostname,
            "region": plan.region,
            "revision": record.revision,
            "created": record.created,
            "started": record.started,
        }

    async def _platform(self, record: Record, request: Request) -> dict[str, Any]:
        plan = record.plan
        state, reason = await self._stands(record)
        told: dict[str, Any] = {
            "id": record.id,
            "owner": request.path_params["owner"],
            "model": plan.model,
            "deployment": record.name,
            "name": record.title or record.name,
            "status": state,
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
        }
        if record.project:
            told["project"] = record.project
        if reason:
            told["statusMessage"] = reason
        if record.started:
            told["deployedAt"] = iso(record.started)
        return told

    def _answering(self, reply: Reply, *, admin: bool = False) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            caller, later = None, dict[str, str]()
            try:
                caller = await self._app.gate.caller(request.scope["state"]["incoming"].headers)
                if admin:
                    require_admin(caller)
                told = await reply(request, caller)
                status, body = told if isinstance(told, tuple) else (200, told)
            except Error as error:
                status, body, later = status_of(error), {"error": error.message}, come_back(error)
            response = _answer(body, status)
            response.headers.update(await standing_headers(self._app.gate, caller, iso=True) | later)
            return response

        return endpoint


def _sentences(*parts: str) -> str:
    """Those that say something, one after the other."""
    return " ".join(part for part in parts if part)


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
        if line.user_agent:
            told["httpRequest"]["userAgent"] = line.user_agent
    return told


def _number(text: str | None, otherwise: int) -> int:
    return otherwise if text is None else integer("limit", text, low=1)


def _memory(gibibytes: float) -> int:
    """In bytes. Raises BadOptions: it is no amount of memory; 0 would be no limit at all."""
    return int(number("memoryGi", gibibytes, low=0.001, high=MOST_MEMORY_BYTES // GIB) * GIB)


def _moment(token: str | None) -> float | None:
    if token is None:
        return None
    try:
        return float(token)
    except ValueError:
        raise BadOptions("pageToken is not one that this server gave out.") from None
