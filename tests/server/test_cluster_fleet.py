"""Several replicas of the shared API that change the same endpoints, on a cluster that is only simulated."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from saccade.card import Card
from saccade.endpoints import ray
from saccade.endpoints.endpoint import Plan, Record
from saccade.errors import UnknownModel
from saccade.server import cluster
from saccade.server.cluster import ClusterFleet
from saccade.server.database import Database
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
