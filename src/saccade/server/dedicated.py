"""The URL of a dedicated endpoint: an application of its own, which answers all dialects at its root."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from starlette.types import Receive, Scope, Send

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.dialects.dialect import Incoming, ModelState, Outgoing, status_of
from saccade.endpoints.figures import Line, Severity
from saccade.endpoints.fleet import Fleet
from saccade.errors import Busy, Error, Forbidden, ModelError, Stopped, UnknownModel
from saccade.server import answering
from saccade.server.access import Caller, Gate, Standing, Ticket
from saccade.server.app import App, Exchange, held_back, host_of, incoming_of
from saccade.server.desk import FrontDesk
from saccade.server.inquiries import PATIENCE_S, Unasked
from saccade.server.journal import keyless

if TYPE_CHECKING:
    from saccade.server.elsewhere import Passing

PREFIX = "/endpoints/"
DEPLOYMENT = re.compile(r"/api/deployments/[^/]+/([^/]+)/predict/?")
"""The Platform's address of an endpoint."""

PLATFORM_PATH = "/api/models/any/any/any/predict"
"""Where the endpoint's application answers it: in the Platform's words, whatever is sent. Names mean nothing there."""
HOUR_S = 3600
LONGEST_MESSAGE = 300

CUT_OFF = {"Departed": "the caller left before the end of the answer", "Stopped": "broken off before its end"}
"""What is told of requests that ended without an error's words."""


class Dedicated:
    """Finds the endpoint that a request is for: by its own host name or port, which lead nowhere else, or by path."""

    def __init__(self, app: App, fleet: Fleet, furnish: Callable[[App], None]) -> None:
        """``app`` is the shared one: endpoints answer in the same dialects, with the same limits and log.

        ``furnish`` gives an application its pages (health, facts).
        """
        self._furnish = furnish
        self._shared = app
        self._fleet = fleet
        self._apps: dict[str, EndpointApp] = {}

    async def find(self, scope: Scope) -> tuple[App | Passing | Nowhere, str] | None:
        """The endpoint's application and the path as it sees it, or None for the shared API."""
        path: str = scope["path"]
        own, named = self._by_address(scope), named_in(path)
        if own and (named is None or named[0] != own):
            return self._serving(own), path
        if named is None:
            return None
        name, rest = named
        try:
            there = await self._fleet.meet(name)
        except Error as error:
            return Nowhere(error, name, self._shared), rest
        return (self._serving(name) if there else Nowhere(_missing(name), name, self._shared)), rest

    def app(self, name: str) -> EndpointApp:
        """The application of one endpoint."""
        if name not in self._apps:
            # Another replica of a cluster removes endpoints without a word.
            self._apps = {known: app for known, app in self._apps.items() if self._fleet.knows(known)}
            self._apps[name] = self._build(name)
        return self._apps[name]

    def forget(self, name: str) -> None:
        """Called when an endpoint was removed."""
        self._apps.pop(name, None)

    def _serving(self, name: str) -> App | Passing:
        """What answers now: the endpoint's application here, or the way to the region in which it runs."""
        plan, app = self._fleet.record(name).plan, self.app(name)
        if not plan.region or self._shared.regions is None:
            return app
        try:
            self._fleet.serving(name)
        except Error:
            return app
        from saccade.server.elsewhere import Passing

        return Passing(app, self._shared.regions, name, plan)

    def _by_address(self, scope: Scope) -> str:
        records = self._fleet.records()
        if not any(record.plan.port or record.plan.hostname for record in records):
            return ""
        host, port = host_of(scope), (scope.get("server") or ("", 0))[1]
        if self._shared.doors is not None and port == self._shared.doors.own:
            port = 0  # an endpoint that a server elsewhere gave the same one does not take this server's place
        for record in records:
            if (record.plan.hostname and record.plan.hostname == host) or (
                record.plan.port and record.plan.port == port
            ):
                return record.name
        return ""

    def _build(self, name: str) -> EndpointApp:
        shared = self._shared
        engine = DedicatedEngine(self._fleet, name)
        desk = DedicatedDesk(shared.desk, engine, self._fleet, name)
        gate = DedicatedGate(shared.gate, self._fleet, name)
        app = EndpointApp(shared, desk, gate, self._fleet, name)
        self._furnish(app)
        return app


def named_in(path: str) -> tuple[str, str] | None:
    """The endpoint that a path of the shared API leads to, and the path as that one sees it."""
    if path.startswith(PREFIX):
        name, _, rest = path[len(PREFIX) :].partition("/")
        return name, f"/{rest}"
    deployment = DEPLOYMENT.fullmatch(path)
    return (deployment[1], PLATFORM_PATH) if deployment else None


def address_of(name: str, path: str) -> str:
    """How the log calls a path of an endpoint: as on the shared API, whatever name, port or address the caller used."""
    return f"{PREFIX}{name}{'/predict' if path == PLATFORM_PATH else path.rstrip('/')}"


class EndpointApp(App):
    """Answers at one endpoint's root, in the dialects and within the limits of the shared application."""

    def __init__(self, shared: App, desk: DedicatedDesk, gate: DedicatedGate, fleet: Fleet, name: str) -> None:
        super().__init__(
            shared.dialects,
            desk,
            gate,
            shared.settings,
            metrics=shared.metrics,
            journal=shared.journal,
            fetch=shared.fetch,
        )
        self.fronts = shared.fronts
        self.watches = shared.watches
        self._shared = shared
        self.endpoint = name
        self._fleet = fleet
        self._desk = desk
        self._gone = ""

    @property
    def draining(self) -> bool:
        """With the whole server, also for the calls that came before."""
        return self._shared.draining

    async def gone(self) -> str:
        """See :meth:`DedicatedDesk.gone`."""
        self._gone = await self._desk.gone()
        return self._gone

    async def look(self) -> None:
        """Sees whether its model is still there, for :attr:`state`."""
        await self.gone()

    @property
    def state(self) -> str:
        """``ok`` while the endpoint is ready, also when it sleeps; else the word for where it stands."""
        found = "failed" if self._gone else self._fleet.record(self.endpoint).state
        return "stopping" if self.draining else "ok" if found == "ready" else found

    def address(self, path: str) -> str:
        """As on the shared API, whatever name or port the caller used."""
        return address_of(self.endpoint, path)

    def _note(self, exchange: Exchange, status: int, size: int) -> None:
        super()._note(exchange, status, size)
        seconds = time.perf_counter() - exchange.received
        problem, images = exchange.reason or exchange.error, len(exchange.answers) + exchange.streamed
        self.count(exchange.head, status, seconds, images, problem, exchange.broke)

    def count(self, head: Incoming, status: int, seconds: float, images: int, problem: str, broke: int = 0) -> None:
        """One finished request, for the endpoint's own plots and log, unless it was removed meanwhile.

        ``broke`` is the status of what ended a stream after its head, which is as bad as if it had come before.
        """
        if not self._fleet.knows(self.endpoint):
            return
        worst, problem = max(status, broke), CUT_OFF.get(problem, problem)
        severity: Severity = "ERROR" if worst >= 500 else "WARNING" if worst >= 400 else "INFO"
        line = Line(
            timestamp=time.time(),
            severity=severity,
            message=keyless(problem)[:LONGEST_MESSAGE] or (f"{images} images answered" if images > 1 else "answered"),
            method=head.method,
            url=keyless(self.address(head.path)),
            status=status,
            latency_ms=seconds * 1e3,
            user_agent=keyless(head.headers.get("user-agent", ""))[:LONGEST_MESSAGE],
        )
        self._fleet.figures(self.endpoint).count(line, self._fleet.replicas(self.endpoint))


def _missing(name: str) -> Error:
    return UnknownModel(f"There is no endpoint '{name[:60]}' here. It was deleted, or its name is another.")


class Nowhere:
    """What answers under the name of an endpoint that does not exist, or of which nobody can say whether it does."""

    def __init__(self, why: Error, name: str, shared: App) -> None:
        self._why = why
        self._name = name
        self._shared = shared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """404 or 503, in words that every API's clients find; at the Platform's address in its own. A browser may ask
        all the same, for it shows no page an answer to what it was not allowed to send."""
        head, received = incoming_of(scope), time.perf_counter()
        origins, error = self._shared.settings.cors_origins, type(self._why).__name__
        extra = [(b"x-request-id", head.request_id.encode("latin-1"))]
        if head.method == "OPTIONS":
            outgoing, error = Outgoing(status=204, media_type="text/plain"), ""
            extra += answering.preflight(head.headers, origins)
        else:
            outgoing = await held_back(self._refusal(head.path), self._why, head, self._shared.settings)
            extra += answering.cors_headers(head.headers.get("origin", ""), origins)
        size = await answering.send_answer(send, outgoing, extra)
        head = msgspec.structs.replace(head, path=address_of(self._name, head.path))
        self._shared.note_unserved(head, received, outgoing.status, size, error)

    def _refusal(self, path: str) -> Outgoing:
        text = self._why.message
        told = {"error": text} if path == PLATFORM_PATH else {"error": text, "message": text}
        later = tuple(answering.come_back(self._why).items())
        return Outgoing(status_of(self._why), msgspec.json.encode(told), headers=later)


class DedicatedEngine:
    """The endpoint in the engine's words."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self._fleet = fleet
        self._name = name

    async def start(self) -> None:
        """The fleet starts endpoints."""

    async def predict(self, call: Call) -> Answer:
        """The endpoint's answer."""
        return await self._fleet.serving(self._name).predict(call)

    def stream(self, call: Call) -> AsyncIterator[Answer]:
        """An answer per frame."""
        return self._fleet.serving(self._name).stream(call)

    async def load(self, ref: str) -> None:
        """The fleet loads models."""

    def state(self, ref: str) -> ModelState:
        """Warm while it has replicas."""
        state = self._fleet.record(self._name).state
        if state == "ready":
            return "warm" if self._fleet.replicas(self._name) else "cold"
        return "loading" if state in ("creating", "deploying") else "failed" if state == "failed" else "cold"

    def info(self) -> dict[str, Any]:
        """Where the endpoint stands."""
        record = self._fleet.record(self._name)
        return {"endpoint": record.name, "state": record.state, "replicas": self._fleet.replicas(self._name)}

    async def drain(self) -> None:
        """The fleet drains."""

    async def close(self) -> None:
        """The fleet closes."""


class DedicatedDesk(FrontDesk):
    """Whatever model a caller names, it is the endpoint's: clients of dedicated URLs name none, or the old one."""

    def __init__(self, shared: FrontDesk, engine: DedicatedEngine, fleet: Fleet, name: str) -> None:
        super().__init__(shared.library, engine, "", shared.device())
        self._shared = shared
        self._fleet = fleet
        self._name = name

    def card(self, ref: str) -> Card:
        """The endpoint's Card. Raises Unasked, or Stopped when it is not running."""
        self._fleet.serving(self._name)
        try:
            return self._shared.card(self._model)
        except (Unasked, UnknownModel):
            raise Unasked(ref) from None

    async def find(self, ref: str) -> Card:
        """The endpoint's Card. Raises Stopped when it is not running, or :meth:`gone`."""
        self._fleet.serving(self._name)
        return await self._found()

    async def all(self, patience_s: float = 0.0) -> Sequence[Card]:
        """One."""
        return [await self._found()]

    async def gone(self) -> str:
        """Why an endpoint that is to be ready cannot be, though nothing was asked of it: it sleeps, and its model was
        taken away meanwhile. "" for all others."""
        running, model = self._fleet.running(self._name), self._model
        if running is None or running.card is None or running.replicas():
            return ""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._shared.find(model)
        except UnknownModel:
            return (
                f"Its model '{model}' is not on this server any more. Bring it back, or give the endpoint another: "
                f"saccade endpoints replace {self._name} MODEL"
            )
        except (ModelError, Busy, TimeoutError):  # What is wrong with its files is told by who opens them.
            pass
        return ""

    def default_model(self) -> str | None:
        """The endpoint's."""
        return self._model

    def device(self) -> Literal["cpu", "gpu"]:
        """The same as the shared API's."""
        return self._device

    @property
    def _model(self) -> str:
        return self._fleet.record(self._name).plan.model

    async def _found(self) -> Card:
        """As the library has it; when the model's files are gone, that of the model in memory, which goes on."""
        try:
            return await self._shared.find(self._model)
        except UnknownModel as error:
            running = self._fleet.running(self._name)
            if running is None or running.card is None:
                if self._fleet.record(self._name).plan.region:
                    # Its region knows more of it; here a request is only read to count its images.
                    return Card(name=self._model, task="detect", family="elsewhere", runtime="elsewhere")
                raise UnknownModel(error.message) from None  # nothing is fetched for an endpoint
            if gone := await self.gone():
                text = f"Service Unavailable: the endpoint '{self._name}' has failed ({gone})"
                raise Stopped(text, retry_after_s=30) from None
            return running.card


class DedicatedGate:
    """The same keys, not under the shared quota but under the endpoint's own; a key must be for this endpoint."""

    def __init__(self, shared: Gate, fleet: Fleet, name: str) -> None:
        self._shared = shared
        self._fleet = fleet
        self._name = name

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Raises NoKey, or Forbidden for a key of other endpoints."""
        caller = await self._shared.caller(headers)
        if not caller.may_use(self._name):
            raise Forbidden(f"This key is not for the endpoint '{self._name}'.")
        return caller

    async def take(self, caller: Caller, models: Sequence[str]) -> Ticket:
        """Raises QuotaSpent when the endpoint has a limit of its own and it is reached."""
        record = self._fleet.record(self._name)
        limit = record.plan.calls_per_hour
        if limit:
            return await self._shared.take_from(record.id, limit, HOUR_S, caller, models)
        return Ticket(caller, models=tuple(models))

    async def take_from(self, window: str, limit: int, window_s: int, caller: Caller, models: Sequence[str]) -> Ticket:
        """The shared API's."""
        return await self._shared.take_from(window, limit, window_s, caller, models)

    async def give_back(self, ticket: Ticket) -> Ticket:
        """Undoes :meth:`take`."""
        return await self._shared.give_back(ticket)

    async def standing(self, caller: Caller) -> Standing | None:
        """How the endpoint's own limit stands."""
        record = self._fleet.record(self._name)
        limit = record.plan.calls_per_hour
        return await self._shared.standing_of(record.id, limit, HOUR_S) if limit else None

    async def standing_of(self, window: str, limit: int, window_s: int) -> Standing | None:
        """The shared API's."""
        return await self._shared.standing_of(window, limit, window_s)

    def count(self, ticket: Ticket, answers: Sequence[Answer]) -> None:
        """The usage is shown with that of the shared API."""
        self._shared.count(ticket, answers)

    async def usage(self, caller: Caller, days: int = 30, everybody: bool = False) -> Mapping[str, object]:
        """The shared API's."""
        return await self._shared.usage(caller, days, everybody)

    async def close(self) -> None:
        """The shared gate closes itself."""
