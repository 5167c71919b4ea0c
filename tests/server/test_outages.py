"""Databases and Redis that fail while the server runs: callers are told in a sentence, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_keys import called, made

import services
from saccade.errors import BadSettings, Unreachable
from saccade.server import database, wiring
from saccade.server.access import ANYBODY, Caller, Ticket
from saccade.server.app import UNSEEN
from saccade.server.database import Database
from saccade.server.gate import OPEN_S, KeyGate
from saccade.server.keys import Keys
from saccade.server.quotas import Windows
from saccade.server.redis import RedisWindows
from saccade.server.settings import Settings


def test_a_damaged_database_is_told_as_one_that_cannot_be_used(tmp_path: Path) -> None:
    with contextlib.closing(Database("", str(tmp_path))) as store:
        _, secret = Keys(store).create("x")
    app = made(store)
    file = tmp_path / database.FILE
    kept = file.read_bytes()
    file.write_bytes(kept[:100] + b"\xff" * (len(kept) - 100))
    answer = called(app, secret)[0]
    assert answer.status_code == 503
    assert "database cannot be used now (database disk image is malformed)" in answer.text


@contextlib.contextmanager
def windows() -> Iterator[tuple[Windows, int]]:
    """Those of a Redis, and its process."""
    import redis

    with services.redis() as url:
        opened = wiring.open_windows(Settings(redis_url=url), None)  # type: ignore[arg-type]
        with contextlib.closing(redis.Redis.from_url(url)) as client:
            yield opened, int(client.info("server")["process_id"])  # type: ignore[index]
        opened.close()


@pytest.mark.heavy
def test_a_redis_that_is_gone_is_told_in_a_sentence() -> None:
    with windows() as (opened, process):
        assert opened.take("a", 5, 60, 1).token
        os.kill(process, signal.SIGKILL)
        for ask in (lambda: opened.take("a", 5, 60, 1), lambda: opened.look("a", 60)):
            with pytest.raises(Unreachable, match=r"Redis cannot be used now \(ConnectionError\)"):
                ask()


@pytest.mark.heavy
def test_a_redis_that_hangs_is_waited_for_once_and_then_left_alone_for_a_while() -> None:
    with windows() as (opened, process):
        assert opened.take("a", 5, 60, 1).token
        os.kill(process, signal.SIGSTOP)
        begun = time.monotonic()
        for _ in range(20):
            with pytest.raises(Unreachable, match=r"Redis cannot be used now \(TimeoutError\)"):
                opened.take("a", 5, 60, 1)
        assert time.monotonic() - begun < 4
        os.kill(process, signal.SIGCONT)
        time.sleep(5)
        assert opened.take("a", 5, 60, 1).token


@pytest.mark.heavy
def test_a_database_that_may_only_be_read_is_told_in_a_sentence() -> None:
    with services.postgres() as url, contextlib.closing(Database(url, "")) as store:
        with store.engine.connect() as connection:
            connection.exec_driver_sql("ALTER DATABASE postgres SET default_transaction_read_only TO on")
            connection.commit()
        store.engine.dispose()
        with pytest.raises(Unreachable, match="ReadOnlySqlTransaction"):
            Keys(store).create("x")


@pytest.mark.heavy
def test_two_servers_write_down_the_usage_of_the_same_keys_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def play(url: str) -> int:
        gates = [KeyGate(Database(url, ""), Settings(home="")) for _ in range(2)]
        names = [gates[0].keys.create("x")[0].id for _ in range(200)]
        for _ in range(5):
            for gate, turned in zip(gates, (names, names[::-1]), strict=True):
                for name in turned:
                    gate.count(Ticket(Caller(id=name), models=("one",)), (UNSEEN,))
            await asyncio.gather(*(gate.settle() for gate in gates))
        rows = (await gates[0].usage(ANYBODY, everybody=True))["days"]
        for gate in gates:
            await gate.close()
        return sum(row.calls for row in rows)

    with services.postgres() as url:
        assert asyncio.run(play(url)) == 2 * 5 * 200
    assert not caplog.records


@pytest.mark.heavy
def test_a_postgres_that_hangs_holds_nobody_for_ever() -> None:
    with services.postgres() as url, contextlib.closing(Database(url, "")) as store:
        with store.read() as connection:
            process = int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
        begun = time.monotonic()
        os.kill(process, signal.SIGSTOP)  # that of the one connection in the pool; a new one is well
        try:
            assert Keys(store).all() == []
            assert 5 < time.monotonic() - begun < 20
        finally:
            os.kill(process, signal.SIGCONT)


def test_a_database_whose_file_is_gone_opens_nothing_and_a_new_one_is_used_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "home"
    with contextlib.closing(Database("", str(home))) as store:
        _, lost = Keys(store).create("x")
        app = made(store, open_without_keys=True)
        assert called(app, lost)[0].status_code == 200
        shutil.rmtree(home)
        for secret in (lost, "sac_wrong"):
            answer = called(app, secret)[0]
            assert answer.status_code == 503, (secret, answer.text)
            assert "database cannot be used now (its file is gone)" in answer.text
        assert not home.exists()
        assert caplog.text.count("saccade.db' is gone") == 1
        assert "saccade keys create" in caplog.text
        with contextlib.closing(Database("", str(home))) as other:
            time.sleep(OPEN_S)
            assert called(app, "")[0].status_code == 401  # a new database without keys opens the server to nobody
            _, fresh = Keys(other).create("y")
        assert [called(app, secret)[0].status_code for secret in (lost, fresh)] == [401, 200]


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis.example.org"])
def test_an_address_that_is_none_of_a_redis_is_told_as_such(url: str) -> None:
    pytest.importorskip("redis", reason="pip install 'saccade[redis]'")
    with pytest.raises(BadSettings, match="'redis_url' is no Redis URL, like redis://"):
        RedisWindows(url)
