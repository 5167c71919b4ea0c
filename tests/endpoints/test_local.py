"""Endpoints on this machine: replicas come with waiting calls, memory is limited, and what is used is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.endpoints.endpoint import Plan
from saccade.endpoints.local import LocalEndpoint
from saccade.engine import Engine, Rules
from saccade.errors import BadOptions, Stopped

PICTURE = b"P6\n4 4\n255\n" + bytes([100]) * 48


class One:
    """A library of one model."""

    def __init__(self, card: Card) -> None:
        self._card = card

    def card(self, ref: str) -> Card:
        return self._card


def slow(**behaviour: Any) -> Card:
    """A simulated device that does one call at a time."""
    config = {"simulated": {"ms": 100, "parallel": 1, **behaviour}}
    return Card(name="slow", task="detect", family="simulated", runtime="simulated", config=config)


def build(card: Card, plan: Plan) -> Engine:
    rules = Rules(
        threads=1, cache_bytes=0, max_batch=1, isolate=False, queue_calls=64, replicas=max(1, plan.min_replicas)
    )
    return Engine(One(card), rules)


def test_calls_that_wait_bring_another_replica_until_the_most_are_up() -> None:
    async def play() -> None:
        endpoint = LocalEndpoint(build)
        plan = Plan(model="slow", min_replicas=1, max_replicas=2)
        await endpoint.start(slow(), plan)
        assert endpoint.replicas() == 1
        done = False

        async def caller() -> None:
            while not done:
                await endpoint.predict(Call(model="", media=PICTURE))

        callers = [asyncio.ensure_future(caller()) for _ in range(12)]
        for _ in range(100):
            await asyncio.sleep(0.05)
            if endpoint.replicas() == 2:
                break
        await asyncio.sleep(1.2)
        assert endpoint.replicas() == 2
        done = True
        await asyncio.gather(*callers)
        await endpoint.stop()

    asyncio.run(play())


def test_an_endpoint_grows_also_after_a_replica_could_not_be_started() -> None:
    class Short(Engine):
        tries = 0

        async def scale(self, ref: str, replicas: int) -> None:
            self.tries += 1
            if self.tries == 1:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            await super().scale(ref, replicas)

    async def play() -> None:
        endpoint = LocalEndpoint(lambda card, plan: Short(One(card), build(card, plan).rules))
        await endpoint.start(slow(), Plan(model="slow", min_replicas=1, max_replicas=2))
        callers = [asyncio.ensure_future(endpoint.predict(Call(model="", media=PICTURE))) for _ in range(60)]
        while endpoint.replicas() < 2:
            await asyncio.sleep(0.05)
        await asyncio.gather(*callers)
        await endpoint.stop()

    asyncio.run(asyncio.wait_for(play(), 20))


def test_a_call_that_still_asks_the_shared_cache_while_the_model_is_replaced_goes_to_the_new_one() -> None:
    asked, told = asyncio.Event(), asyncio.Event()

    class Asking(Engine):
        async def predict(self, call: Call) -> Answer:
            if not asked.is_set():  # another machine's Redis
                asked.set()
                await told.wait()
            return await super().predict(call)

    async def play() -> None:
        endpoint = LocalEndpoint(lambda card, plan: Asking(One(card), build(card, plan).rules))
        old = slow(ms=1)
        await endpoint.start(old, Plan(model="slow"))
        call = asyncio.ensure_future(endpoint.predict(Call(model="", media=PICTURE)))
        await asked.wait()
        await endpoint.replace(msgspec.structs.replace(old, name="new"), Plan(model="new"))
        told.set()
        assert (await call).model == "new"
        call = asyncio.ensure_future(endpoint.predict(Call(model="", media=PICTURE)))
        await endpoint.stop()
        with pytest.raises(Stopped):
            await call

    asyncio.run(asyncio.wait_for(play(), 20))


def test_a_video_that_comes_too_late_for_a_replaced_model_goes_to_the_new_one() -> None:
    asked, told = asyncio.Event(), asyncio.Event()

    class Asking(Engine):
        async def stream(self, call: Call) -> AsyncGenerator[Answer]:
            if not asked.is_set():
                asked.set()
                await told.wait()
                raise Stopped("The server is shutting down.")
            yield await super().predict(call)

    async def play() -> None:
        endpoint = LocalEndpoint(lambda card, plan: Asking(One(card), build(card, plan).rules))
        old = slow(ms=1)
        await endpoint.start(old, Plan(model="slow"))

        async def watched() -> list[str]:
            return [answer.model async for answer in endpoint.stream(Call(model="", media=PICTURE))]

        video = asyncio.ensure_future(watched())
        await asked.wait()
        await endpoint.replace(msgspec.structs.replace(old, name="new"), Plan(model="new"))
        told.set()
        assert await video == ["new"]
        await endpoint.stop()

    asyncio.run(asyncio.wait_for(play(), 20))


def test_surplus_replicas_finish_their_calls_before_they_leave() -> None:
    async def play() -> None:
        engine = build(slow(), Plan(model="slow", min_replicas=3, max_replicas=3))
        await engine.start()
        await engine.load("slow")
        calls = [asyncio.ensure_future(engine.predict(Call(model="slow", media=PICTURE))) for _ in range(6)]
        await asyncio.sleep(0.02)
        await engine.scale("slow", 1)
        assert len(await asyncio.gather(*calls)) == 6
        await asyncio.sleep(0.2)
        assert len(engine.info()["models"][0]["replicas"]) == 1
        await engine.predict(Call(model="slow", media=PICTURE))
        await engine.close()

    asyncio.run(play())


def test_a_model_that_does_not_fit_the_endpoints_memory_is_refused_with_both_sizes() -> None:
    def isolated(card: Card, plan: Plan) -> Engine:
        return Engine(One(card), Rules(threads=1, cache_bytes=0, max_batch=1, worker_memory_bytes=plan.memory_bytes))

    async def play() -> None:
        endpoint = LocalEndpoint(isolated)
        with pytest.raises(BadOptions, match=r"holds \d+ MB .* allows 20 MB"):
            await endpoint.start(slow(mib=64), Plan(model="slow", memory_bytes=20_000_000))
        roomy = Plan(model="slow", memory_bytes=2_000_000_000)
        await endpoint.start(slow(mib=64), roomy)
        await endpoint.predict(Call(model="", media=PICTURE))
        processor, memory = endpoint.load()
        assert 0 <= processor <= 1
        assert 64 * 2**20 / 2e9 < memory < 1
        await endpoint.stop()

    asyncio.run(play())
