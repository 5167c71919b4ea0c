"""Dedicated endpoints on this machine: each is an engine of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

import msgspec
import psutil

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.endpoints.endpoint import PROBE, Builder, Engine, Plan
from saccade.errors import BadOptions, Error, Overloaded, Stopped, place

log = logging.getLogger("saccade.endpoints")

TEND_S = 0.5
"""How often an endpoint is looked after."""

GROW_AFTER = 2
"""So many looks in a row must find calls waiting before another replica is brought up."""

GROW_PAUSE_S = 30.0
"""Between two tries when there is no memory for another replica."""

SHRINK_AFTER_S = 60.0
"""A replica leaves when the others could have done all the work for so long."""


class LocalEndpoint:
    """One endpoint; its engine is swapped as a whole, so that a call always meets one model."""

    region_id = ""

    def __init__(self, build: Builder) -> None:
        self._build = build
        self._engine: Engine | None = None
        self._card: Card | None = None
        self._plan: Plan | None = None
        self._working = 0
        self._last_call = 0.0
        self._watching: asyncio.Task[None] | None = None
        self._partings: set[asyncio.Task[None]] = set()
        self._waiting_looks = 0
        self._needed_at = 0.0
        self._grow_from = 0.0
        self._processes: dict[int, psutil.Process] = {}

    @property
    def revision(self) -> str:
        known = self._card.revision if self._card else ""
        return str((self._row() or {}).get("revision", known))

    @property
    def card(self) -> Card | None:
        return self._card

    async def start(self, card: Card, plan: Plan) -> None:
        self._serve(await self._opened(card, plan), card, plan)

    async def recall(self, card: Card, plan: Plan) -> None:
        if not plan.may_sleep:
            await self.start(card, plan)
            return
        engine = self._build(card, plan)
        await engine.start()
        self._serve(engine, card, plan)

    async def replace(self, card: Card, plan: Plan) -> None:
        fresh = await self._opened(card, plan)
        old, self._engine, self._card, self._plan = self._engine, fresh, card, plan
        self._last_call = time.monotonic()
        if old is not None:
            self._part(old)

    async def stop(self) -> None:
        old, self._engine = self._engine, None
        if self._watching is not None:
            self._watching.cancel()
        if old is not None:
            await asyncio.shield(self._part(old))
        if self._partings:
            await asyncio.wait(self._partings)

    async def predict(self, call: Call) -> Answer:
        with contextlib.nullcontext() if call.caller == PROBE else self._at_work():
            while True:
                engine, card = self._running()
                try:
                    return await engine.predict(msgspec.structs.replace(call, model=card.name))
                except Stopped:
                    if self._engine is engine or self._engine is None:
                        raise
                    # It was replaced before it took the call.

    async def stream(self, call: Call) -> AsyncGenerator[Answer]:
        begun = False
        with self._at_work():
            while True:
                engine, card = self._running()
                try:
                    async for answer in engine.stream(msgspec.structs.replace(call, model=card.name)):
                        begun = True
                        yield answer
                    return
                except Stopped:
                    if begun or self._engine is engine or self._engine is None:
                        raise

    async def leave(self) -> None:
        await self.stop()

    async def remove(self) -> None:
        """Nothing of it outlives :meth:`stop`."""

    def replicas(self) -> int:
        row = self._row()
        return len(row["replicas"]) if row else 0

    def facts(self) -> Mapping[str, Any]:
        return self._row() or {}

    def load(self) -> tuple[float, float]:
        row = self._row()
        if row is None or self._engine is None or self._plan is None:
            return 0.0, 0.0
        info = self._engine.info()
        room = self._plan.memory_bytes or info.get("memory_budget_bytes", 0)
        held = max((fact.get("memory_bytes", 0) for fact in row["replicas"]), default=0)
        busy = sum(self._processor(fact.get("pid", 0)) for fact in row["replicas"])
        return min(1.0, busy / (100 * max(1, info.get("threads", 1)))), min(1.0, held / room) if room else 0.0

    def _serve(self, engine: Engine, card: Card, plan: Plan) -> None:
        self._engine, self._card, self._plan = engine, card, plan
        self._last_call = time.monotonic()
        self._watching = asyncio.create_task(self._tend())

    def _part(self, old: Engine) -> asyncio.Task[None]:
        """Lets it finish its calls, a video for half an hour perhaps, and frees everything, whoever waits for that."""
        parting = asyncio.create_task(_farewell(old))
        self._partings.add(parting)
        parting.add_done_callback(self._parted)
        return parting

    def _parted(self, parting: asyncio.Task[None]) -> None:
        self._partings.discard(parting)
        if not parting.cancelled() and (error := parting.exception()) is not None:
            log.warning(
                "ending an engine of an endpoint of '%s' failed: %s", self._card and self._card.name, place(error)
            )

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1
            self._last_call = time.monotonic()

    async def _tend(self) -> None:
        """Unloads an endpoint that may sleep (the next call brings it back), and keeps as many replicas as it needs."""
        while True:
            await asyncio.sleep(TEND_S)
            try:
                await self._look()
            except Exception as error:
                why = error.message if isinstance(error, Error) else place(error)
                log.warning("looking after an endpoint of '%s' failed: %s", self._card and self._card.name, why)

    async def _look(self) -> None:
        engine, card, plan, row = self._engine, self._card, self._plan, self._row()
        if engine is None or card is None or plan is None or row is None:
            return
        idle_s = time.monotonic() - self._last_call
        if plan.may_sleep and not self._working and idle_s > plan.idle_stop_s:
            await engine.unload(card.name)
            return
        wanted = self._wanted(plan, row)
        if wanted != len(row["replicas"]):
            try:
                await engine.scale(card.name, wanted)
            except Overloaded:  # there is no memory for it, and hardly will be in the next second
                self._grow_from = time.monotonic() + GROW_PAUSE_S
                raise

    def _wanted(self, plan: Plan, row: Mapping[str, Any]) -> int:
        """One replica more while calls keep waiting, one less when the others have sufficed for a while."""
        now, up = time.monotonic(), len(row["replicas"])
        self._waiting_looks = self._waiting_looks + 1 if row["queued"] else 0
        slots = sum(fact["slots"] for fact in row["replicas"])
        if row["in_flight"] + row["queued"] > slots * (up - 1) / max(1, up):
            self._needed_at = now
        if self._waiting_looks >= GROW_AFTER and up < plan.max_replicas and now > self._grow_from:
            self._waiting_looks = 0
            return up + 1
        if up > max(1, plan.min_replicas) and now - self._needed_at > SHRINK_AFTER_S:
            self._needed_at = now
            return up - 1
        return up

    def _row(self) -> dict[str, Any] | None:
        """What the engine tells of the model while it is in memory."""
        rows = self._engine.info().get("models", ()) if self._engine else ()
        return next((row for row in rows if row["state"] == "warm"), None)

    def _processor(self, pid: int) -> float:
        """Percent of one processor that a worker used since the last look."""
        if not pid:
            return 0.0
        try:
            if pid not in self._processes:
                self._processes = {known: one for known, one in self._processes.items() if one.is_running()}
                self._processes[pid] = psutil.Process(pid)
            return float(self._processes[pid].cpu_percent())
        except (psutil.Error, OSError):  # it is gone, or the system opens no more files
            return 0.0

    def _running(self) -> tuple[Engine, Card]:
        if self._engine is None or self._card is None:
            raise Stopped("Service Unavailable: this endpoint is stopped. Start it to use it.", retry_after_s=30)
        return self._engine, self._card

    async def _opened(self, card: Card, plan: Plan) -> Engine:
        """An engine that has the model in memory: loading is the health check, it runs the model once."""
        engine = self._build(card, plan)
        await engine.start()
        try:
            await engine.load(card.name)
            _fits(engine, plan)
        except BaseException:
            with contextlib.suppress(Exception):
                await engine.close()
            raise
        return engine


def _fits(engine: Engine, plan: Plan) -> None:
    """Raises BadOptions when a replica alone holds more than it may: it would be ended again and again."""
    rows = engine.info().get("models", ())
    held = max((fact.get("memory_bytes", 0) for row in rows for fact in row["replicas"]), default=0)
    if plan.memory_bytes and held > plan.memory_bytes:
        raise BadOptions(
            f"A replica of '{plan.model}' holds {held / 1e6:.0f} MB before its first call; the endpoint allows "
            f"{plan.memory_bytes / 1e6:.0f} MB. Give it more with --memory."
        )


async def _farewell(engine: Engine) -> None:
    try:
        await engine.drain()
    finally:
        await engine.close()
