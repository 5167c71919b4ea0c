"""Dedicated endpoints on this machine: each is an engine of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator

import msgspec

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.endpoints.endpoint import Builder, Engine, Plan
from saccade.errors import Stopped

TEND_S = 0.5
"""How often idle endpoints are looked for."""


class LocalEndpoint:
    """One endpoint; its engine is swapped as a whole, so that a call always meets one model."""

    def __init__(self, build: Builder) -> None:
        self._build = build
        self._engine: Engine | None = None
        self._card: Card | None = None
        self._plan: Plan | None = None
        self._working = 0
        self._last_call = 0.0
        self._watching: asyncio.Task[None] | None = None

    @property
    def revision(self) -> str:
        return self._card.revision if self._card else ""

    async def start(self, card: Card, plan: Plan) -> None:
        self._engine, self._card, self._plan = await self._opened(card, plan), card, plan
        self._last_call = time.monotonic()
        self._watching = asyncio.create_task(self._sleep_when_idle())

    async def replace(self, card: Card, plan: Plan) -> None:
        fresh = await self._opened(card, plan)
        old, self._engine, self._card, self._plan = self._engine, fresh, card, plan
        self._last_call = time.monotonic()
        if old is not None:
            await _farewell(old)

    async def stop(self) -> None:
        old, self._engine = self._engine, None
        if self._watching is not None:
            self._watching.cancel()
        if old is not None:
            await _farewell(old)

    async def predict(self, call: Call) -> Answer:
        engine, card = self._running()
        with self._at_work():
            return await engine.predict(msgspec.structs.replace(call, model=card.name))

    async def stream(self, call: Call) -> AsyncGenerator[Answer]:
        engine, card = self._running()
        with self._at_work():
            async for answer in engine.stream(msgspec.structs.replace(call, model=card.name)):
                yield answer

    def replicas(self) -> int:
        rows = self._engine.info().get("models", ()) if self._engine else ()
        return sum(len(row["replicas"]) for row in rows if row["state"] == "warm")

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1
            self._last_call = time.monotonic()

    async def _sleep_when_idle(self) -> None:
        """Unloads the model of an endpoint that may sleep; the next call brings it back from the compiled cache."""
        while True:
            await asyncio.sleep(TEND_S)
            engine, card, plan = self._engine, self._card, self._plan
            if engine is None or card is None or plan is None or plan.min_replicas or not plan.idle_stop_s:
                continue
            idle_s = time.monotonic() - self._last_call
            if not self._working and idle_s > plan.idle_stop_s and self.replicas():
                await engine.unload(card.name)

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
        except BaseException:
            with contextlib.suppress(Exception):
                await engine.close()
            raise
        return engine


async def _farewell(engine: Engine) -> None:
    """Lets accepted calls finish, then frees everything, whatever happens to the caller."""

    async def leave() -> None:
        try:
            await engine.drain()
        finally:
            await engine.close()

    await asyncio.shield(asyncio.ensure_future(leave()))
