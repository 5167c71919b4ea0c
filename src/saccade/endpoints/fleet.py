"""All dedicated endpoints of this server; after a restart they are as they were."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeAlias

from msgspec.structs import replace

from saccade.card import Card
from saccade.endpoints.endpoint import Endpoint, Plan, Record, Records, State, checked_name
from saccade.endpoints.figures import Figures, Line, Report
from saccade.errors import BadOptions, Error, Stopped, UnknownModel, Unreachable

Resolve: TypeAlias = Callable[[Plan], Card]
"""The Card of the plan's model; may take a while, so it is called in a thread. Raises UnknownModel."""

RETRY_S = 15.0
"""How long after a region did not answer it is asked again to start an endpoint."""

MEASURE_S = 5.0
"""How often is looked what the endpoints use of their processors and memory."""


class Fleet:
    """The endpoints by name. Changes to one endpoint happen one after the other; different ones do not wait."""

    def __init__(self, records: Records, resolve: Resolve, endpoint: Callable[[Record], Endpoint]) -> None:
        """``endpoint`` makes an endpoint that is not running yet, on this machine or in the plan's region."""
        self._records = records
        self._resolve = resolve
        self._make = endpoint
        self._here: dict[str, Record] = {}
        self._running: dict[str, Endpoint] = {}
        self._figures: dict[str, Figures] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Brings back what ran before the server stopped; endpoints come up in the background."""
        for record in self._records.all():
            self._here[record.name] = record
            if record.state in ("ready", "deploying", "creating"):
                self._spawn(self._start(record.name))
            elif record.state == "stopping":
                self._set(record.name, "stopped")
        self._spawn(self._measure())

    async def close(self) -> None:
        """Stops the engines; the records keep saying what should run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(one.leave() for one in self._running.values()), return_exceptions=True)
        self._running.clear()

    def records(self) -> list[Record]:
        """Every endpoint, oldest first."""
        return sorted(self._here.values(), key=lambda record: record.created)

    def knows(self, name: str) -> bool:
        """Whether there is an endpoint of this name."""
        return name in self._here

    def record(self, name: str) -> Record:
        """One endpoint.

        Raises:
            UnknownModel: there is none of this name.
        """
        if name in self._here:
            return self._here[name]
        raise UnknownModel(f"There is no endpoint '{name[:60]}'. `saccade endpoints list` shows those that exist.")

    def figures(self, name: str) -> Figures:
        """Where this process counts what the endpoint does."""
        self.record(name)
        return self._figures.setdefault(name, Figures())

    def counted(self) -> dict[str, Report]:
        """What was counted in this process since this was last asked, by endpoint id; it is forgotten here."""
        taken = {name: figures.take() for name, figures in self._figures.items()}
        return {self._here[name].id: one for name, one in taken.items() if one is not None and name in self._here}

    def recount(self, reports: Mapping[str, Report]) -> None:
        """Gives back what :meth:`counted` gave and nobody took."""
        for name, record in self._here.items():
            if record.id in reports:
                self.figures(name).add(reports[record.id])

    async def metrics(self, name: str, span: str) -> dict[str, Any]:
        """What the endpoint did, wherever it ran; see :meth:`Figures.metrics`."""
        return self.figures(name).metrics(span)

    async def sparkline(self, name: str) -> dict[str, Any]:
        """See :meth:`Figures.sparkline`."""
        return self.figures(name).sparkline()

    async def lines(
        self, name: str, limit: int, severity: str | None = None, before: float | None = None
    ) -> list[Line]:
        """See :meth:`Figures.lines`."""
        return self.figures(name).lines(limit, severity, before)

    def replicas(self, name: str) -> int:
        """How many replicas are up now."""
        running = self._running.get(name)
        return running.replicas() if running else 0

    def running(self, name: str) -> Endpoint | None:
        """The endpoint if it runs."""
        return self._running.get(name)

    def serving(self, name: str) -> Endpoint:
        """The running endpoint.

        Raises:
            UnknownModel: there is none of this name.
            Stopped: it is not running; the text is the documented one.
        """
        record = self.record(name)
        running = self._running.get(name)
        if running is not None:
            return running
        wait_s = 2 if record.state in ("creating", "deploying") else 30
        why = f" ({record.reason})" if record.reason else ""
        raise Stopped(f"Service Unavailable: the endpoint '{name}' is {record.state}{why}.", retry_after_s=wait_s)

    async def create(self, name: str, plan: Plan) -> Record:
        """A new endpoint that comes up in the background.

        Raises:
            BadOptions: the name is taken or cannot be used.
            UnknownModel: there is no such model.
        """
        if self.knows(checked_name(name)):
            raise BadOptions(
                f"An endpoint '{name}' exists already. Choose another name, or replace its model: "
                f"saccade endpoints replace {name} {plan.model}"
            )
        record = Record(id=secrets.token_hex(12), name=name, plan=plan, created=time.time())
        self._save(record)
        try:
            await asyncio.to_thread(self._resolve, plan)
        except Error:
            self._here.pop(name, None)
            self._records.remove(name)
            raise
        self._spawn(self._start(name))
        return self.record(name)

    def start(self, name: str) -> Record:
        """Starts a stopped or failed endpoint in the background; a running one is left alone."""
        if self.record(name).state in ("stopped", "failed"):
            self._set(name, "deploying")
            self._spawn(self._start(name))
        return self.record(name)

    async def stop(self, name: str) -> Record:
        """Finishes its calls and frees its memory; the URL stays and answers 503."""
        async with self._lock(name):
            self.record(name)
            running = self._running.pop(name, None)
            if running is not None:
                self._set(name, "stopping")
                await running.stop()
            self._set(name, "stopped")
        return self.record(name)

    async def replace(self, name: str, model: str) -> Record:
        """Puts another model behind the same URL; the old one serves until the new one is healthy.

        Raises:
            Error: the new model cannot serve; the old one goes on.
        """
        async with self._lock(name):
            record = self.record(name)
            plan = replace(record.plan, model=model)
            card = await asyncio.to_thread(self._resolve, plan)
            running = self._running.get(name)
            if running is None:
                self._save(replace(record, plan=plan))
                return self.record(name)
            self._set(name, "deploying")
            try:
                await running.replace(card, plan)
            except Error as error:
                self.figures(name).note("ERROR", f"Replacing the model by {model} failed: {error.message}")
                self._set(name, "ready")
                raise
            self._save(
                replace(self.record(name), plan=plan, state="ready", revision=running.revision, started=time.time())
            )
            self.figures(name).note("INFO", f"The model is now {model}.")
        return self.record(name)

    async def resize(self, name: str, plan: Plan) -> Record:
        """Another number of replicas, memory or idle time, without an outage."""
        async with self._lock(name):
            record = self.record(name)
            self._save(replace(record, plan=plan))
            running = self._running.get(name)
            if running is not None:
                card = await asyncio.to_thread(self._resolve, plan)
                await running.replace(card, plan)
        return self.record(name)

    async def remove(self, name: str) -> None:
        """Stops it and forgets it."""
        self.record(name)
        await self.stop(name)
        async with self._lock(name):
            await self._make(self.record(name)).remove()
            self._here.pop(name, None)
            self._figures.pop(name, None)
            self._records.remove(name)

    async def _start(self, name: str) -> None:
        async with self._lock(name):
            record = self._here.get(name)
            if record is None or name in self._running:
                return
            self._set(name, "deploying")
            try:
                endpoint = self._make(record)
                card = await asyncio.to_thread(self._resolve, record.plan)
                await endpoint.start(card, record.plan)
            except Error as error:
                self._set(name, "failed", error.message)
                self.figures(name).note("ERROR", f"Starting failed: {error.message}")
                if isinstance(error, Unreachable):
                    self._spawn(self._start_later(name))
                return
            self._running[name] = endpoint
            self._save(
                replace(self.record(name), state="ready", reason="", revision=endpoint.revision, started=time.time())
            )
            self.figures(name).note("INFO", f"Ready with {record.plan.model}.")

    async def _start_later(self, name: str) -> None:
        """Another try for an endpoint whose region did not answer."""
        await asyncio.sleep(RETRY_S)
        if name in self._here and self._here[name].state == "failed":
            await self._start(name)

    async def _measure(self) -> None:
        """Fills the plots of what running endpoints use."""
        while True:
            await asyncio.sleep(MEASURE_S)
            for name, running in tuple(self._running.items()):
                self.figures(name).measured(*running.load(), running.replicas())

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _set(self, name: str, state: State, reason: str = "") -> None:
        self._save(replace(self.record(name), state=state, reason=reason))

    def _save(self, record: Record) -> None:
        self._here[record.name] = record
        self._records.save(record)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
