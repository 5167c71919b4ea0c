"""Several front processes over one set of keys: quotas stay exact, with SQLite, PostgreSQL and Redis."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from server_fakes import running

import services
from saccade.server.database import Database
from saccade.server.keys import Keys
from saccade.server.quotas import SqlWindows
from saccade.server.redis import RedisWindows

CALLS, CLIENTS, QUOTA, EVERY = 10_000, 8, 5_000, 10
"""Every tenth call more is one that fails in the engine, and must not count."""


@contextlib.contextmanager
def backing(kind: str, home: Path) -> Iterator[dict[str, str]]:
    """Settings for a kind of shared state."""
    with contextlib.ExitStack() as stack:
        settings = {}
        if "postgres" in kind:
            settings["database_url"] = stack.enter_context(services.postgres())
        if "redis" in kind:
            settings["redis_url"] = stack.enter_context(services.redis())
        yield settings


def spend(url: str, secret: str, first: int) -> Counter[int]:
    """One client's share of the calls; the statuses it saw."""
    at = urlsplit(url)
    line = http.client.HTTPConnection(at.hostname or "", at.port, timeout=60)
    seen: Counter[int] = Counter()
    for number in range(first, CALLS, CLIENTS):
        bodies = [b"x", b"fail"] if number % EVERY == 0 else [b"x"]
        for body in bodies:
            line.request("POST", "/plain/one", body, {"x-api-key": secret})
            answer = line.getresponse()
            answer.read()
            seen[answer.status] += 1
    return seen


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["sqlite", "postgres", "postgres and redis"])
def test_of_ten_thousand_calls_over_two_fronts_exactly_the_quota_succeeds(kind: str, tmp_path: Path) -> None:
    with backing(kind, tmp_path) as settings:
        database = Database(settings.get("database_url", ""), str(tmp_path))
        key, secret = Keys(database).create("x", quota_calls=QUOTA, quota_window_s=3600)
        given = {"access_log": False, **settings}
        with running(tmp_path, **given) as first, running(tmp_path, **given) as second:
            with ThreadPoolExecutor(CLIENTS) as threads:
                urls = [first.url, second.url] * (CLIENTS // 2)
                begun = time.perf_counter()
                seen = sum(threads.map(spend, urls, [secret] * CLIENTS, range(CLIENTS)), Counter())
                print(f"{kind}: {seen}, {seen.total() / (time.perf_counter() - begun):.0f} calls/s")
            # A call that fails holds its place while it is made: a call beside it may be refused, and comes again.
            short = QUOTA - seen[200]
            assert 0 <= short <= CLIENTS
            for _ in range(short):
                assert _status(first.url, secret) == 200
            assert _status(first.url, secret) == 429
            assert _status(second.url, secret) == 429
            assert set(seen) == {200, 429, 500}
            redis = settings.get("redis_url")
            windows = RedisWindows(redis) if redis else SqlWindows(database)
            assert windows.look(key.id, 3600).used == QUOTA
            windows.close()
            Keys(database).revoke(key.id)
            assert (_status(first.url, secret), _status(second.url, secret)) == (401, 401)
        database.close()


@pytest.mark.heavy
def test_redis_windows_slide_and_give_back_like_those_of_the_database(tmp_path: Path) -> None:
    with services.redis() as url:
        windows = RedisWindows(url)
        assert windows.look("k", 1).used == 0
        first = windows.take("k", 2, 1, 1)
        time.sleep(0.6)
        second = windows.take("k", 2, 1, 1)
        assert (bool(first.token), bool(second.token)) == (True, True)
        refused = windows.take("k", 2, 1, 1)
        assert refused.token == ""
        assert 0 < refused.reset_epoch_s - time.time() < 0.5
        time.sleep(0.5)
        assert windows.take("k", 2, 1, 1).token
        assert not windows.take("k", 2, 1, 1).token
        windows.give_back("k", second.token)
        windows.give_back("k", second.token)
        assert windows.look("k", 1).used == 1
        assert not windows.take("k", 3, 60, 3).token
        three = windows.take("k", 4, 60, 3)
        windows.give_back("k", three.token)
        assert windows.look("k", 60).used == 1
        windows.close()


class Ahead:
    """A Redis of one call, made an hour later than it is there; its clock is ten minutes ahead of this machine's."""

    def __init__(self) -> None:
        self.now = time.time() + 600
        self.calls = {b"call": self.now + 3600}

    def ping(self) -> None: ...

    def close(self) -> None: ...

    def register_script(self, text: str) -> Any:
        return lambda keys, args: [0, 1, b"%f" % self.calls[b"call"], b"%f" % self.now]

    def time(self) -> tuple[int, int]:
        return int(self.now), 0

    def zcount(self, *given: Any) -> int:
        return 1

    def zrangebyscore(self, *given: Any, withscores: bool = False) -> Any:
        return list(self.calls.items()) if withscores else list(self.calls)

    def zadd(self, name: str, calls: dict[bytes, float], xx: bool) -> None:
        assert xx, "a call that was given back meanwhile stays so"
        self.calls |= calls

    def expire(self, name: str, seconds: int) -> None: ...


def test_how_long_to_wait_is_told_by_the_clock_of_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    redis = pytest.importorskip("redis")
    monkeypatch.setattr(redis.Redis, "from_url", lambda *given, **more: Ahead())
    windows = RedisWindows("redis://")
    for _ in range(2):
        assert windows.take("k", 1, 60, 1).reset_epoch_s - time.time() == pytest.approx(60, abs=2)
    assert windows.look("k", 60).reset_epoch_s - time.time() == pytest.approx(60, abs=2)


@pytest.mark.heavy
def test_a_redis_whose_clock_was_set_back_shuts_nobody_out_for_longer_than_a_window() -> None:
    import redis

    with services.redis() as url, contextlib.closing(RedisWindows(url)) as windows:
        client = redis.Redis.from_url(url)
        assert windows.take("k", 2, 60, 2).token
        client.zadd("saccade:window:k", dict.fromkeys(client.zrange("saccade:window:k", 0, -1), time.time() + 3600))  # type: ignore[arg-type,misc]
        refused = windows.take("k", 2, 60, 1)
        assert refused.token == ""
        assert 55 < refused.reset_epoch_s - time.time() <= 60
        assert 0 < client.ttl("saccade:window:k") <= 61  # type: ignore[operator]
        client.close()


def _status(url: str, secret: str) -> int:
    at = urlsplit(url)
    line = http.client.HTTPConnection(at.hostname or "", at.port, timeout=60)
    line.request("POST", "/plain/one", b"x", {"x-api-key": secret})
    return line.getresponse().status
