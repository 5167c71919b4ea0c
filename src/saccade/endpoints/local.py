"""Dedicated endpoints on this machine: each is an engine of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.endpoints.endpoint import Builder, Engine, Plan
from saccade.errors import Stopped


class LocalEndpoint:
    """One endpoint; its engine is swapped as a whole, so that a call always meets one model."""

    def __init__(self, build: Builder) -> None:
        self._build = build
        self._engine: Engine | None = None
        self._card: Card | None = None

    @property
    def revision(self) -> str:
        return self._card.revision if self._card else ""

    async def start(self, card: Card, plan: Plan) -> None:
        self._engine, self._card = await self._opened(card, plan), card

    async def replace(self, card: Card, plan: Plan) -> None:
        fresh = await self._opened(card, plan)
        old, self._engine, self._card = self._engine, fresh, card
        if old is not None:
            await _farewell(old)

    async def stop(self) -> None:
        old, self._engine = self._engine, None
        if old is not None:
            await _farewell(old)

    async def predict(self, call: Call) -> Answer:
        engine, card = self._running()
        return await engine.predict(msgspec.structs.replace(call, model=card.name))

    def stream(self, call: Call) -> AsyncIterator[Answer]:
        engine, card = self._running()
        return engine.stream(msgspec.structs.replace(call, model=card.name))

    def replicas(self) -> int:
        return self._engine.replicas() if self._engine else 0

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
