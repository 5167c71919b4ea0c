"""Several replicas of the shared API that change the same endpoints, on a cluster that is only simulated."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace
from server_fakes import EchoEngine, PlainDialect, client
from server_fakes import Shelf as House

from saccade.card import Card
from saccade.endpoints import ray
from saccade.endpoints.endpoint import Plan, Record
from saccade.errors import UnknownModel
from saccade.server import cluster, wiring
from saccade.server.access import OpenGate
from saccade.server.cluster import ClusterFleet
from saccade.server.database import Database, unusable
from saccade.server.dedicated import Dedicated
from saccade.server.desk import Library
from saccade.server.records import SqlRecords
from saccade.server.settings import Settings

CARD = Card(name="cars", task="detect", family="yolo", runtime="x", revision="1")


class Shelf:
    """A library of one model."""

    def card(self, ref: str, fetch: bool = False) -> Card:
        return CARD


class Serve:
    """Stands for Ray Serve: applications are up at once, and take ``stopping_s`` to end."""

    def __init__(self) -> None:
        self.up: set[str] = set()
        self.stopping_s = 0.0

    def publish(self, name: str, *given: Any) -> None:
        self.up.add(name)

    def withdraw(self, names: Iterable[str]) -> None:
        time.sleep(self.stopping_s)
        self.up -= set(names)

    def standings(self) -> dict[str, ray.Standing]:
        return {name: ray.Standing("ready", "", 1) for name in self.up}


class Side:
    """Two replicas of the shared API, and what they share."""

    def __init__(self, serve: Serve, records: SqlRecords) -> None:
        self.serve = serve
        self.records = records
        self.one, self.other = (
            ClusterFleet(records, cast(Library, Shelf()), Settings(), cast(Any, None), None) for _ in range(2)
        )

    async def up(self) -> None:
        """Both have seen the endpoint "gate" running."""
        await self.one.create("gate", Plan(model="cars"))
        await self.until("ready")
        await self.other._look()
        assert self.other.record("gate").state == "ready"

    async def until(self, state: str) -> None:
        """Raises AssertionError when the database never says that the endpoint is in this state."""
        for _ in range(300):
            if [one.state for one in self.records.all()] == [state]:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"never {state}: {list(self.records.all())}")


@pytest.fixture
def side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    serve = Serve()
    for name in ("publish", "withdraw", "standings"):
        monkeypatch.setattr(ray, name, getattr(serve, name))
    monkeypatch.setattr(cluster, "SYNC_S", 0.05)
    database = Database("", str(tmp_path))
    yield Side(serve, SqlRecords(database))
    database.close()


def living(side: Side, life: Callable[[Side], Awaitable[None]]) -> None:
    async def whole() -> None:
        await side.up()
        await life(side)

    asyncio.run(whole())


def test_a_start_at_a_replica_that_has_not_seen_the_stop_is_not_lost(side: Side) -> None:
    async def life(side: Side) -> None:
        await side.one.stop("gate")
        assert not side.serve.up
        await side.other.start("gate", Plan(model="cars", max_replicas=2))
        await side.until("ready")
        assert side.serve.up == {ray.application("gate")}
        assert side.other.record("gate").plan.max_replicas == 2

    living(side, life)


def test_a_start_at_one_replica_while_another_stops_comes_after_the_stop(side: Side) -> None:
    async def life(side: Side) -> None:
        side.serve.stopping_s = 0.3
        stop = asyncio.create_task(side.one.stop("gate"))
        await side.until("stopping")
        await side.other.start("gate")
        assert stop.done()
        await side.until("ready")
        assert side.serve.up == {ray.application("gate")}

    living(side, life)


def test_an_endpoint_whose_replica_died_over_the_stop_can_be_started(side: Side) -> None:
    async def life(side: Side) -> None:
        side.records.save(replace(side.one.record("gate"), state="stopping"))
        side.serve.up.clear()
        await side.other.start("gate")
        await side.until("ready")
        assert side.serve.up == {ray.application("gate")}

    living(side, life)


def test_a_new_title_does_not_bring_back_what_another_replica_stopped_or_removed(side: Side) -> None:
    async def life(side: Side) -> None:
        await side.one.stop("gate")
        await side.other.describe("gate", "The gate", None)
        assert [(one.state, one.title) for one in side.records.all()] == [("stopped", "The gate")]
        await side.one.remove("gate")
        with pytest.raises(UnknownModel):
            await side.other.describe("gate", "Gone", None)
        assert list(side.records.all()) == []

    living(side, life)


def test_a_stop_at_any_replica_ends_what_another_started(side: Side) -> None:
    async def life(side: Side) -> None:
        await side.other.stop("gate")
        assert not side.serve.up
        await side.until("stopped")

    living(side, life)


def test_a_record_that_nobody_changes_stays(side: Side) -> None:
    async def life(side: Side) -> None:
        before: list[Record] = list(side.records.all())
        await side.other.start("gate")
        assert list(side.records.all()) == before

    living(side, life)


def test_who_asks_for_an_endpoint_that_a_replica_does_not_know_waits_for_the_database_alone(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, read = 0, SqlRecords.all

    def slow(records: SqlRecords) -> Iterable[Record]:
        nonlocal reads
        reads += 1
        time.sleep(0.3)
        return read(records)

    async def life(side: Side) -> None:
        side.records.save(Record(id="1", name="yard", plan=Plan(model="cars")))
        monkeypatch.setattr(SqlRecords, "all", slow)
        asked = [asyncio.create_task(side.other.meet(name)) for name in ("yard", *map(str, range(50)))]
        longest, last = 0.0, time.monotonic()
        while not all(one.done() for one in asked):
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        assert longest < 0.2, "the others went on"
        assert [one.result() for one in asked] == [True, *[False] * 50]
        assert reads == 1, "for all of them"
        assert side.other.record("yard").plan.model == "cars"

    living(side, life)


def test_an_endpoint_that_cannot_be_looked_up_is_not_told_as_missing(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(records: SqlRecords) -> Iterable[Record]:
        raise unusable("database", "gone")

    async def life(side: Side) -> None:
        monkeypatch.setattr(SqlRecords, "all", gone)
        app = wiring.build(Settings(access_log=False), House(), EchoEngine(), OpenGate(), [PlainDialect()])  # type: ignore[arg-type]
        app.dedicated = Dedicated(app, side.other, lambda app: None)
        async with client(app) as http:
            told = await http.post("/endpoints/yard/plain/one", content=b"x")
            begun = time.monotonic()
            await http.post("/endpoints/yard/plain/one", headers={"user-agent": "@huggingface/inference/4.13.30"})
        assert told.status_code == 503
        assert "cannot be used now" in told.json()["error"]
        assert time.monotonic() - begun > 0.9, "who repeats a 503 at once waits for it"

    living(side, life)


def test_what_answered_for_an_endpoint_leaves_memory_though_another_replica_removed_it(side: Side) -> None:
    async def life(side: Side) -> None:
        app = wiring.build(Settings(access_log=False), House(), EchoEngine(), OpenGate(), [PlainDialect()])  # type: ignore[arg-type]
        dedicated = Dedicated(app, side.other, lambda app: None)
        gate = weakref.ref(dedicated.app("gate"))
        await side.one.remove("gate")
        await side.one.create("yard", Plan(model="cars"))
        await side.until("ready")
        await side.other._look()
        yard = dedicated.app("yard")
        gc.collect()
        assert gate() is None
        assert dedicated.app("yard") is yard

    living(side, life)


def test_a_closed_terminal_stops_a_server_on_ray_as_sigterm_does() -> None:
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    try:
        signals = cluster.Signals()
        signals.ready = True
        signals.heed()
        assert signal.getsignal(signal.SIGHUP) != signal.SIG_DFL, "it would end this process"
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signals.stop.is_set()
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
