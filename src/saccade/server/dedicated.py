"""The URL of a dedicated endpoint: an application of its own, which answers all dialects at its root."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from starlette.types import Scope

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.dialects.dialect import ModelState
from saccade.endpoints.figures import Line, Severity
from saccade.endpoints.fleet import Fleet
from saccade.errors import Error, Forbidden
from saccade.server.access import Caller, Gate, Standing, Ticket
from saccade.server.app import App
from saccade.server.desk import FrontDesk
from saccade.server.gate import KeyGate
from saccade.server.metrics import Family, Metrics

if TYPE_CHECKING:
    from saccade.server.elsewhere import Passing

PREFIX = "/endpoints/"
HOUR_S = 3600


class Dedicated:
    """Finds the endpoint that a request is for: by path (``/endpoints/NAME``), by host name, or by port."""

    def __init__(self, app: App, fleet: Fleet, furnish: Callable[[App], None]) -> None:
        """``app`` is the shared one: endpoints answer in the same dialects, with the same limits and log.

        ``furnish`` gives an application its pages (health, facts).
        """
        self._furnish = furnish
        self._shared = app
        self._fleet = fleet
        self._apps: dict[str, App] = {}

    def find(self, scope: Scope) -> tuple[App | Passing, str] | None:
        """The endpoint's application and the path as it sees it, or None for the shared API."""
        path: str = scope["path"]
        if path.startswith(PREFIX):
            name, _, rest = path[len(PREFIX) :].partition("/")
            return (self._serving(name), f"/{rest}") if self._fleet.knows(name) else None
        name = self._by_address(scope)
        return (self._serving(name), path) if name else None

    def app(self, name: str) -> App:
        """The application of one endpoint."""
        if name not in self._apps:
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
        host = next((value.decode("latin-1") for key, value in scope["headers"] if key == b"host"), "")
        bare, port = host.rpartition(":")[0] or host, (scope.get("server") or ("", 0))[1]
        for record in records:
            if (record.plan.hostname and record.plan.hostname == bare) or (
                record.plan.port and record.plan.port == port
            ):
                return record.name
        return ""

    def _build(self, name: str) -> App:
        shared = self._shared
        engine = DedicatedEngine(self._fleet, name)
        desk = DedicatedDesk(shared.desk, engine, self._fleet, name)
        gate = DedicatedGate(shared.gate, self._fleet, name)
        app = App(
            shared.dialects,
            desk,
            gate,
            shared.settings,
            metrics=DedicatedMetrics(shared.metrics, self._fleet, name),
            journal=shared.journal,
            fetch=shared.fetch,
        )
        app.fronts = shared.fronts
        self._furnish(app)
        app.ready = True
        return app


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
        self._fleet = fleet
        self._name = name

    def card(self, ref: str) -> Card:
        """The endpoint's Card. Raises Stopped when it is not running."""
        self._fleet.serving(self._name)
        return self.library.card(self._fleet.record(self._name).plan.model)

    def cards(self) -> Sequence[Card]:
        """One."""
        return [self.library.card(self._fleet.record(self._name).plan.model)]

    def default_model(self) -> str | None:
        """The endpoint's. Raises Stopped when it is not running."""
        self._fleet.serving(self._name)
        return self._fleet.record(self._name).plan.model

    def device(self) -> Literal["cpu", "gpu"]:
        """The same as the shared API's."""
        return self._device


class DedicatedGate:
    """The same keys, not under the shared quota but under the endpoint's own; a key must be for this endpoint."""

    def __init__(self, shared: Gate, fleet: Fleet, name: str) -> None:
        self._shared = shared
        self._fleet = fleet
        self._name = name

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Raises NoKey, or Forbidden for a key of other endpoints."""
        caller = await self._shared.caller(headers)
        if not caller.admin and not {"*", self._name} & set(caller.endpoints):
            raise Forbidden(f"This key is not for the endpoint '{self._name}'.")
        return caller

    async def take(self, caller: Caller, models: Sequence[str]) -> Ticket:
        """Raises QuotaSpent when the endpoint has a limit of its own and it is reached."""
        record = self._fleet.record(self._name)
        limit = record.plan.calls_per_hour
        if limit and isinstance(self._shared, KeyGate):
            return await self._shared.take_from(record.id, limit, HOUR_S, caller, models)
        return Ticket(caller, models=tuple(models))

    async def give_back(self, ticket: Ticket) -> Ticket:
        """Undoes :meth:`take`."""
        if isinstance(self._shared, KeyGate):
            return await self._shared.give_back(ticket)
        return ticket

    async def standing(self, caller: Caller) -> Standing | None:
        """How the endpoint's own limit stands."""
        record = self._fleet.record(self._name)
        limit = record.plan.calls_per_hour
        if limit and isinstance(self._shared, KeyGate):
            return await self._shared.standing_of(record.id, limit, HOUR_S)
        return None

    def count(self, ticket: Ticket, answers: Sequence[Answer]) -> None:
        """The usage is shown with that of the shared API."""
        self._shared.count(ticket, answers)

    async def usage(self, caller: Caller, days: int = 30, everybody: bool = False) -> Mapping[str, object]:
        """The shared API's."""
        return await self._shared.usage(caller, days, everybody)

    async def close(self) -> None:
        """The shared gate closes itself."""


class DedicatedMetrics(Metrics):
    """Counts for the whole server, and for the endpoint's own plots and log."""

    def __init__(self, shared: Metrics, fleet: Fleet, name: str, clock: Callable[[], float] = time.time) -> None:
        self.registry, self.inflight = shared.registry, shared.inflight
        self._shared = shared
        self._fleet = fleet
        self._name = name
        self._clock = clock

    def request(
        self, dialect: str, model: str, status: int, seconds: float, size: int, answers: Sequence[Answer], error: str
    ) -> None:
        """One finished request."""
        self._shared.request(dialect, model, status, seconds, size, answers, error)
        severity: Severity = "ERROR" if status >= 500 else "WARNING" if status >= 400 else "INFO"
        line = Line(
            timestamp=self._clock(),
            severity=severity,
            message=error or f"{sum(1 for _ in answers)} answered",
            method="POST",
            url=f"{PREFIX}{self._name}",
            status=status,
            latency_ms=seconds * 1e3,
        )
        self._fleet.figures(self._name).count(line, self._fleet.replicas(self._name))

    def text(self, others: Iterable[Iterable[Family]] = ()) -> bytes:
        """The whole server's."""
        return self._shared.text(others)
