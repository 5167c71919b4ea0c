"""Answers shared through a real Redis."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from tests.engine.shelf import Shelf, picture, running
from tests.engine.test_wire import RESULTS, equal

import services
from saccade.call import Answer, Call
from saccade.engine.redis import PREFIX, RedisShelf


@pytest.mark.heavy
def test_an_answer_given_by_one_server_is_found_by_another() -> None:
    async def main(url: str) -> None:
        call = Call(model="m", media=picture(77), use_cache=True)
        rules = {"redis_url": url, "cache_bytes": 1 << 20, "isolate": False}
        async with running(Shelf(m={}), **rules) as one, running(Shelf(m={}), **rules) as other:
            first = await one.predict(call)
            second = await other.predict(call)
            assert (first.cached, second.cached) == (False, True)
            assert equal(first.result, second.result)
            assert other.state("m") == "cold"

    with services.redis() as url:
        asyncio.run(main(url))


@pytest.mark.heavy
def test_what_cannot_be_read_in_redis_is_passed_over_and_the_rest_is_not() -> None:
    client = pytest.importorskip("redis.asyncio")

    async def main(url: str) -> None:
        other, shelf = client.Redis.from_url(url), RedisShelf(url, 60.0)
        await other.set(PREFIX + b"k", b"of somebody else")
        assert await shelf.get(b"k") is None
        await shelf.put(b"k", Answer(result=RESULTS[0], image_hw=(1, 1)))
        found = await shelf.get(b"k")
        assert found is not None
        assert 50 < found[1] <= 60
        assert 50_000 < await other.pttl(PREFIX + b"k") <= 60_000
        await shelf.close()
        await other.aclose()

    with services.redis() as url:
        asyncio.run(main(url))


@pytest.mark.heavy
@pytest.mark.parametrize("ttl_s", [float("inf"), 1e17])
def test_answers_that_are_to_be_kept_for_ever_are_kept(ttl_s: float) -> None:
    pytest.importorskip("redis")

    async def main(url: str) -> None:
        shelf = RedisShelf(url, ttl_s)
        await shelf.put(b"k", Answer(result=RESULTS[0], image_hw=(1, 1)))
        assert await shelf.get(b"k") is not None
        await shelf.close()

    with services.redis() as url:
        asyncio.run(main(url))


def test_an_unreachable_redis_is_an_empty_cache_of_which_the_log_tells_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("redis")
    monkeypatch.setattr("saccade.engine.redis.PAUSE_S", 0.0)

    async def main() -> None:
        shelf = RedisShelf(f"redis://:secret@127.0.0.1:{services.free_port()}/0", 60.0)
        await shelf.put(b"k", Answer(result=RESULTS[0], image_hw=(1, 1)))
        assert await shelf.get(b"k") is None
        await shelf.close()

    asyncio.run(main())
    (told,) = (record.message for record in caplog.records)
    assert told.startswith("the shared cache cannot be used")
    assert "secret" not in told


def test_a_redis_that_hangs_holds_nobody_up_for_long() -> None:
    pytest.importorskip("redis")

    async def main(port: int) -> None:
        shelf = RedisShelf(f"redis://127.0.0.1:{port}/0", 60.0)
        begun = time.monotonic()
        for _ in range(20):
            assert await shelf.get(b"k") is None
            await shelf.put(b"k", Answer(result=RESULTS[0], image_hw=(1, 1)))
        assert time.monotonic() - begun < 2
        await shelf.close()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(main(silent.getsockname()[1]))
