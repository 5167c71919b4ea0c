"""Regions at work: endpoints that run on another saccade, and calls that are passed on to one.

Imported only by a server that has regions. What a caller's key may do is decided here; the other saccade sees the
region's key from ``saccade.toml`` and never the caller's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import httpx
import msgspec
from starlette.types import Message, Receive, Scope, Send

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.dialects.dialect import Incoming, Outgoing
from saccade.endpoints.endpoint import ASKED, Plan, Record
from saccade.errors import BadOptions, CallError, Error, Stopped, UnknownModel, Unreachable
from saccade.server import answering
from saccade.server.access import Ticket
from saccade.server.answering import HeaderList
from saccade.server.app import UNSEEN, chosen, held_back, incoming_of, priority_of, stopping
from saccade.server.body import Body, Departed
from saccade.server.regions import measured
from saccade.server.settings import Region
from saccade.server.watch import Watch

if TYPE_CHECKING:
    from saccade.server.dedicated import EndpointApp

T = TypeVar("T")

log = logging.getLogger("saccade.server")

MARK = "x-saccade-region"
"""Carried by what one saccade passes to another, so that it is not passed on again."""

HEALTH = "/health"
"""The page of an endpoint that its region answers."""

MOST_CONNECTIONS = 100
CONNECT_S = 5.0
ADMIN_S = 15.0
REPLACE_S = 330.0
FRESH_S = 30.0
"""How long a measured order of the regions is believed."""

LOOK_S = 3.0
DOUBT_S = 2.0
"""After every so many seconds of waiting for an answer, a region is asked whether it is well."""

POLL_S = 0.2

OWN = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"),
    *("upgrade", "host", "authorization", "x-api-key", "cookie", "set-cookie", MARK),
}
"""Headers of one connection, and those that say who is calling: neither is passed on."""

PAGES = (b"access-control", b"vary")
"""Headers that say which pages may read an answer: that is told by the server that they called."""


class KeyRefused(Unreachable):
    """The region answers, but not to the key that the settings have for it."""


class Regions:
    """The other saccades of the settings, and one bounded pool of connections to all of them."""

    def __init__(self, regions: Sequence[Region]) -> None:
        self.by_name = {region.name: region for region in regions}
        self._client: httpx.AsyncClient | None = None
        self._near: list[Region] = []
        self._measured_at = float("-inf")
        self._measuring: asyncio.Task[None] | None = None

    def region(self, name: str) -> Region:
        """One region. Raises BadOptions when the settings do not name it."""
        if name in self.by_name:
            return self.by_name[name]
        known = ", ".join(self.by_name) or "none"
        raise BadOptions(f"There is no region '{name[:40]}' in saccade.toml. Known: {known}.")

    async def ask(
        self, name: str, method: str, path: str, body: object = None, patience_s: float = ADMIN_S
    ) -> dict[str, Any]:
        """The JSON answer of a region's own routes.

        Raises:
            UnknownModel: it has no such thing.
            Unreachable: it does not answer, or does not know the key.
            BadOptions: it refuses; the words are its own.
        """
        region = self.region(name)
        content = None if body is None else msgspec.json.encode(body)
        headers = {**_credentials(region), "content-type": "application/json"}
        try:
            answer = await self.client.request(
                method,
                _address(region, path),
                content=content,
                headers=headers,
                timeout=httpx.Timeout(patience_s, connect=min(CONNECT_S, patience_s)),
            )
        except httpx.HTTPError as error:
            raise _unreachable(name) from error
        try:
            told = answer.json()
        except ValueError:
            told = {}
        told = told if isinstance(told, dict) else {}
        if not answer.is_success:
            raise _refusal(name, answer.status_code, str(told.get("error", "")))
        return told

    async def nearest(self) -> list[Region]:
        """Healthy regions, nearest first; measured anew now and then behind the callers' backs."""
        if self._measuring is None and time.monotonic() - self._measured_at > FRESH_S:
            self._measuring = asyncio.create_task(self._measure())
        if self._measured_at == float("-inf") and self._measuring is not None:
            await asyncio.shield(self._measuring)
        return self._near

    async def passed(self, incoming: Incoming, deadline: float) -> Outgoing | None:
        """The nearest region's answer to a call of the shared URL; None when no region can take it."""
        if MARK in incoming.headers:
            return None
        for region in await self.nearest():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            try:
                work = self.client.request(
                    incoming.method,
                    _address(region, quote(incoming.path))
                    + (f"?{urlencode(incoming.query)}" if incoming.query else ""),
                    content=incoming.body,
                    headers={**_passable(incoming.headers), **_credentials(region)},
                    timeout=httpx.Timeout(left_s, connect=min(CONNECT_S, left_s)),
                )
                answer = await self.lively(region, work)
            except httpx.HTTPError:
                log.warning("the region '%s' did not answer a call", region.name)
                self._near = [near for near in self._near if near.name != region.name]
                continue
            if answer.status_code not in (401, 403, 404, 429) and answer.status_code < 500:
                return _outgoing(answer)
        return None

    async def lively(self, region: Region, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` gets from a region, as long as that one still tells of its health.

        A machine that hangs takes calls and never answers; a model that loads for minutes is none of that.

        Raises:
            httpx.HTTPError: the work failed, or the region hangs.
        """
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=DOUBT_S))[0]:
                try:
                    await self.client.get(_address(region, "/health"), timeout=httpx.Timeout(LOOK_S, pool=None))
                except httpx.HTTPError:
                    if not task.done():
                        raise
            return await task
        finally:
            task.cancel()

    async def close(self) -> None:
        """Ends all connections."""
        if self._measuring is not None:
            self._measuring.cancel()
        if self._client is not None:
            await self._client.aclose()

    @property
    def client(self) -> httpx.AsyncClient:
        """Made at the first call, in the event loop that serves."""
        if self._client is None:
            limits = httpx.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS // 2)
            self._client = httpx.AsyncClient(limits=limits, timeout=ADMIN_S, follow_redirects=False, trust_env=False)
        return self._client

    async def _measure(self) -> None:
        try:
            rows = await measured(tuple(self.by_name.values()), attempts=2)
            self._near = [self.by_name[row["name"]] for row in rows if row["mean_ms"] is not None]
        finally:
            self._measured_at, self._measuring = time.monotonic(), None


class RegionEndpoint:
    """An endpoint of the same name on the plan's region; see :class:`saccade.endpoints.endpoint.Endpoint`.

    The region may have endpoints of its own and of other servers: nothing is done to one that was not started here.
    """

    def __init__(self, regions: Regions, record: Record) -> None:
        self._regions = regions
        self._region = record.plan.region
        self._name = record.name
        self._plan = record.plan
        self._region_id = record.region_id
        self._was_up = record.started > 0
        self._row: dict[str, Any] = {}

    @property
    def revision(self) -> str:
        return str(self._row.get("revision", ""))

    @property
    def card(self) -> Card | None:
        """The region knows."""
        return None

    @property
    def region_id(self) -> str:
        return self._region_id

    async def start(self, card: Card, plan: Plan) -> None:
        row = await self._there()
        if row is None:
            self._plan = plan
            await self._make()
        elif not self._is_ours(row):
            raise BadOptions(
                f"The region '{self._region}' has an endpoint '{self._name}' that was not started from here (model "
                f"{row['model']}). Remove it there, or choose another name."
            )
        else:
            self._region_id = str(row["id"])
            await self._fit(row, plan)
            await self._asked("PATCH", {"action": "start"})
        await self._settled()

    async def recall(self, card: Card, plan: Plan) -> None:
        await self.start(card, plan)

    async def replace(self, card: Card, plan: Plan) -> None:
        row = await self._ours()
        if row is None:
            raise Stopped(
                f"The endpoint '{self._name}' that was started in the region '{self._region}' is not there any more. "
                "Stop it here and start it again."
            )
        await self._fit(row, plan)
        await self._settled()

    async def stop(self) -> None:
        if await self._ours() is not None:
            await self._asked("PATCH", {"action": "stop"})

    async def leave(self) -> None:
        """It runs on, and this server finds it again."""

    async def remove(self) -> None:
        if await self._ours() is not None:
            await self._asked("DELETE")

    async def predict(self, call: Call) -> Answer:
        """Never asked: whole requests are passed on, before they are read here."""
        raise Unreachable(f"The endpoint '{self._name}' runs in the region '{self._region}'.")

    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        """Never asked; see :meth:`predict`."""
        yield await self.predict(call)

    def replicas(self) -> int:
        """As the region last told."""
        return int(self._row.get("replicas_now", 0))

    def facts(self) -> Mapping[str, Any]:
        """The region has metrics of its own."""
        return {}

    def load(self) -> tuple[float, float]:
        """The region keeps its own plots."""
        return 0.0, 0.0

    async def look(self) -> dict[str, Any]:
        """The endpoint as the region tells of it now. Raises as :meth:`Regions.ask` does."""
        self._row = await self._regions.ask(self._region, "GET", _path(self._name), patience_s=LOOK_S)
        return self._row

    async def _make(self) -> None:
        """A new endpoint there; its id is known once the region has answered."""
        before, self._region_id = self._region_id, ASKED
        wish = _wish(self._name, self._plan)
        try:
            row = await self._regions.ask(self._region, "POST", "/v1/endpoints", wish, REPLACE_S)
        except (CallError, KeyRefused):  # nothing was made
            self._region_id = before
            raise
        self._region_id = str(row["id"])

    async def _fit(self, row: dict[str, Any], plan: Plan) -> None:
        """Gives the endpoint there the plan's model and size, as far as it has others."""
        wish = _wish(self._name, plan)
        if row["model"] != plan.model:
            await self._asked("PATCH", {"action": "replace", "model": plan.model})
        size = {name: wish[name] for name in ("replicas", "memory_bytes", "idle_stop_s")}
        if any(row[name] != value for name, value in size.items()):
            await self._asked("PATCH", {"action": "resize", **size})
        self._plan = plan

    async def _ours(self) -> dict[str, Any] | None:
        """The endpoint there, if it was started here; the region is not asked when that cannot be."""
        if not self._region_id and not self._was_up:
            return None
        row = await self._there()
        return row if row is not None and self._is_ours(row) else None

    async def _there(self) -> dict[str, Any] | None:
        """What the region has under this name."""
        try:
            return await self._regions.ask(self._region, "GET", _path(self._name))
        except UnknownModel:
            return None

    def _is_ours(self, row: dict[str, Any]) -> bool:
        if self._region_id == ASKED:
            return bool(row["model"] == self._plan.model)
        if self._region_id:
            return bool(row["id"] == self._region_id)
        return self._was_up  # by a saccade that wrote no ids down

    async def _asked(self, method: str, body: object = None) -> dict[str, Any]:
        return await self._regions.ask(self._region, method, _path(self._name), body, REPLACE_S)

    async def _settled(self) -> None:
        """Returns when the endpoint is up there.

        Raises:
            Error: it failed there, with the reason.
        """
        end = time.monotonic() + REPLACE_S
        while time.monotonic() < end:
            row = await self.look()
            if row["state"] == "ready":
                return
            if row["state"] in ("failed", "stopped"):
                raise Stopped(
                    f"In the region '{self._region}' it is {row['state']}: {row.get('reason') or 'no reason'}"
                )
            await asyncio.sleep(POLL_S)
        raise _unreachable(self._region)


class Passing:
    """The application of an endpoint in a region: asks the gate here, then streams the request there and back."""

    def __init__(self, app: EndpointApp, regions: Regions, name: str, plan: Plan) -> None:
        """``app`` answers for the endpoint here: its gate, its counts, and its words when the region is gone."""
        self._app = app
        self._regions = regions
        self._name = name
        self._plan = plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. The endpoint's own pages are answered here: in the region they would be told to this server,
        which may do there what its callers may not."""
        head, begun = incoming_of(scope), time.perf_counter()
        extra = answering.cors_headers(head.headers.get("origin", ""), self._app.settings.cors_origins)
        if head.method == "OPTIONS" or (self._app.is_house(head.method, head.path) and head.path != HEALTH):
            await self._app(scope, receive, send)
            return
        status, error_name, reason, images = 500, "", "", 1
        watch, body, answered = Watch(receive, scope), None, False

        async def sending(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        self._app.watches.add(watch)
        try:
            caller = await self._app.gate.caller(head.headers)
            priority_of(head.headers, caller)
            body = Body(receive, head.headers, self._app.shelf, self._app.settings.max_body_bytes, watch)
            # All of it before a connection to the region is taken, of which there are few for all callers.
            content = await body.packed(self._app.settings.body_timeout_s)
            watch.start()
            if self._app.draining:
                raise stopping()
            ticket = None
            if head.method == "POST":
                images = await self._images(head, await body.opened(content))
                ticket = await self._app.gate.take(caller, [self._plan.model] * images)
            try:
                status = await self._relay(scope, content, sending, head, extra)
            except (Exception, asyncio.CancelledError) as error:
                if ticket is not None:  # as on the shared URL: a call that its caller abandoned is not given back
                    abandoned = isinstance(error, asyncio.CancelledError) and not watch.given_up
                    await self._counted(ticket, succeeded=abandoned)
                raise
            if ticket is not None:
                await self._counted(ticket, succeeded=status < 400)
        except Error as error:
            error_name, reason = type(error).__name__, error.message
            status = await self._refused(error, head, send, extra)
        except Departed:
            status, error_name = 499, "Departed"
        except asyncio.CancelledError:
            # Who was given up in the middle of an answer cannot be told.
            status, error_name = 499, "Departed" if watch.left else "Stopped"
            if not watch.left:
                if answered or not watch.resume():
                    raise
                status = await self._refused(stopping(), head, send, extra)
        finally:
            watch.stop()
            self._app.watches.discard(watch)
            if body is not None:
                body.release()
            seconds = time.perf_counter() - begun
            self._app.metrics.request("", self._plan.model, status, seconds, 0, (), error_name)
            self._app.count(head, status, seconds, images, reason or error_name)
            self._app.journal.note(
                head.method, self._app.address(head.path), status, seconds, 0, head.request_id, error=error_name
            )

    async def _images(self, head: Incoming, content: bytes) -> int:
        """How many calls the request makes; what cannot be read is refused by the region, and is one."""
        found = self._app.paths.find(head.method, head.path)
        if not found.candidates:
            return 1
        candidate, incoming = chosen(found, head, content)
        try:
            return max(1, len((await self._app.parse(candidate.dialect, incoming)).calls))
        except Error:
            return 1

    async def _relay(self, scope: Scope, content: bytes, send: Send, head: Incoming, extra: HeaderList) -> int:
        region = self._regions.region(self._plan.region)
        address = _address(region, f"/endpoints/{quote(self._name)}{quote(head.path)}")
        query = scope.get("query_string", b"").decode("latin-1")
        settings = self._app.settings
        request = self._regions.client.build_request(
            head.method,
            f"{address}?{query}" if query else address,
            headers={**_passable(head.headers, packed=True), **_credentials(region), "x-request-id": head.request_id},
            content=None if head.method in ("GET", "HEAD") else content,
            timeout=httpx.Timeout(settings.video_timeout_s, connect=CONNECT_S, pool=CONNECT_S),
        )
        try:
            answer = await self._regions.lively(region, self._regions.client.send(request, stream=True))
        except httpx.HTTPError as error:
            raise _unreachable(region.name) from error
        try:
            return await _stream_back(answer, send, extra)
        finally:
            await answer.aclose()

    async def _counted(self, ticket: Ticket, *, succeeded: bool) -> None:
        """Counts a call, which is given back to the caller's quota if it failed."""
        if not succeeded:
            ticket = await self._app.gate.give_back(ticket)
        self._app.gate.count(ticket, (UNSEEN,) if succeeded else ())

    async def _refused(self, error: Error, head: Incoming, send: Send, extra: HeaderList) -> int:
        outgoing = await held_back(self._refusal(error, head), error, head, self._app.settings)
        await answering.send_answer(send, outgoing, [*extra, (b"x-request-id", head.request_id.encode("latin-1"))])
        return outgoing.status

    def _refusal(self, error: Error, head: Incoming) -> Outgoing:
        found = self._app.paths.find(head.method, head.path)
        if found.candidates:
            candidate, incoming = chosen(found, head)
            return candidate.dialect.refuse(error, incoming)
        return Outgoing(503, msgspec.json.encode({"error": error.message}))


async def _stream_back(answer: httpx.Response, send: Send, extra: HeaderList) -> int:
    """The answer as it comes, with headers of this server; one that breaks off in the middle breaks off here, too."""
    pairs = [(name.lower(), value) for name, value in answer.headers.raw]
    kept = [(name, value) for name, value in pairs if name.decode("latin-1") not in OWN and not name.startswith(PAGES)]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": kept + extra})
    async for chunk in answer.aiter_raw():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    return answer.status_code


def _outgoing(answer: httpx.Response) -> Outgoing:
    kept = tuple(
        (name.lower(), value)
        for name, value in answer.headers.items()
        if name.lower() not in OWN | {"content-type", "content-length", "content-encoding", "x-request-id"}
        and not name.lower().startswith(("x-ratelimit", "ratelimit", "access-control", "retry-after", "vary"))
    )
    media_type = answer.headers.get("content-type", "application/json")
    return Outgoing(answer.status_code, answer.content, media_type, kept)


def _passable(headers: Mapping[str, str], *, packed: bool = False) -> dict[str, str]:
    """What another saccade may see of a request; how its body is packed only where that is passed on as it came."""
    dropped = OWN | ({"content-length"} if packed else {"content-length", "content-encoding"})
    return {name: value for name, value in headers.items() if name not in dropped} | {MARK: "1"}


def _credentials(region: Region) -> dict[str, str]:
    return {"authorization": f"Bearer {region.key}"} if region.key else {}


def _address(region: Region, path: str) -> str:
    return region.url.rstrip("/") + path


def _path(name: str) -> str:
    return f"/v1/endpoints/{quote(name, safe='')}"


def _wish(name: str, plan: Plan) -> dict[str, Any]:
    """What is asked of the region; port, host name and hourly limit stay with this server, where callers arrive."""
    return {
        "name": name,
        "model": plan.model,
        "replicas": f"{plan.min_replicas}:{plan.max_replicas}",
        "memory_bytes": plan.memory_bytes,
        "idle_stop_s": plan.idle_stop_s,
    }


def _unreachable(name: str) -> Unreachable:
    return Unreachable(f"The region '{name}' does not answer. Try again shortly.", retry_after_s=5)


def _refusal(name: str, status: int, said: str) -> Error:
    if status == 404:
        return UnknownModel(f"The region '{name}' says: {said or 'there is nothing of this name.'}")
    if status in (401, 403):
        return KeyRefused(f"The region '{name}' does not accept the key that saccade.toml holds for it.")
    if status >= 500:
        return Unreachable(f"The region '{name}' says: {said or f'error {status}'}")
    return BadOptions(f"The region '{name}' says: {said or f'error {status}'}")
