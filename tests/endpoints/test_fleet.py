"""The life of dedicated endpoints, with engines that only count."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.endpoints.drawer import Drawer, packed
from saccade.endpoints.endpoint import Plan, Record, replicas
from saccade.endpoints.figures import Figures, Line, Minute, Report
from saccade.endpoints.fleet import AT_ONCE, Fleet
from saccade.endpoints.ledger import Ledger
from saccade.endpoints.local import LocalEndpoint
from saccade.errors import BadOptions, CorruptFiles, Error, Overloaded, Stopped, UnknownModel, Unreachable
from saccade.results import Labels

LABELS = Labels(np.zeros(0, np.int32), np.zeros(0, np.float32), ())


class Memory:
    """Records that live as long as the test."""

    def __init__(self) -> None:
        self.kept: dict[str, Record] = {}

    def all(self) -> Iterable[Record]:
        return list(self.kept.values())

    def save(self, record: Record) -> None:
        self.kept[record.name] = record

    def remove(self, name: str) -> None:
        self.kept.pop(name, None)


class Counting:
    """An engine that answers with its model's name, slowly enough to be replaced meanwhile."""

    def __init__(self, card: Card, plan: Plan) -> None:
        self.card = card
        self.open = False
        self.loaded = False
        self.working = 0

    async def start(self) -> None:
        self.open = True

    async def load(self, ref: str) -> None:
        await asyncio.sleep(0.02)
        if self.card.family == "broken":
            raise CorruptFiles("The file ends too early.")
        self.loaded = True

    async def predict(self, call: Call) -> Answer:
        assert self.open, "a closed engine was called"
        self.loaded = True
        self.working += 1
        try:
            await asyncio.sleep(0.01)
        finally:
            self.working -= 1
        assert self.open, "an engine was closed under a call"
        return Answer(result=LABELS, image_hw=(1, 1), model=self.card.name)

    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        yield await self.predict(call)

    async def drain(self) -> None:
        while self.working:
            await asyncio.sleep(0.002)

    async def close(self) -> None:
        self.open = False

    async def unload(self, ref: str) -> None:
        self.loaded = False

    async def scale(self, ref: str, replicas: int) -> None:
        raise AssertionError("one replica is enough here")

    def info(self) -> dict[str, Any]:
        row = {"name": self.card.name, "state": "warm", "queued": 0, "in_flight": 0, "replicas": [{"slots": 1}]}
        return {"models": [row] if self.loaded else []}


def resolve(plan: Plan) -> Card:
    ref = plan.model
    if ref == "missing":
        raise UnknownModel("Model missing does not exist")
    return Card(name=ref, task="detect", family="broken" if ref == "broken" else "yolo", runtime="x", revision=ref)


def fleet(records: Memory) -> Fleet:
    return Fleet(records, resolve, lambda record: LocalEndpoint(Counting))


async def settled(house: Fleet, name: str) -> str:
    for _ in range(200):
        if house.record(name).state in ("ready", "stopped", "failed"):
            return house.record(name).state
        await asyncio.sleep(0.01)
    raise AssertionError("the endpoint never settled")


async def whole_life(records: Memory) -> None:
    house = fleet(records)
    await house.create("cars", Plan(model="a"))
    assert house.record("cars").state in ("creating", "deploying")
    assert await settled(house, "cars") == "ready"
    assert (await house.serving("cars").predict(Call(model="", media=b""))).model == "a"
    assert house.replicas("cars") == 1
    await house.stop("cars")
    with pytest.raises(Stopped, match="Service Unavailable"):
        house.serving("cars")
    await house.start("cars")
    assert await settled(house, "cars") == "ready"
    await house.remove("cars")
    with pytest.raises(UnknownModel):
        house.record("cars")


@pytest.fixture
def records() -> Memory:
    return Memory()


def test_an_endpoint_starts_answers_stops_and_starts_again(records: Memory) -> None:
    asyncio.run(whole_life(records))


async def start_while_stopping(records: Memory) -> None:
    house = fleet(records)
    await house.create("cars", Plan(model="a"))
    await settled(house, "cars")
    call = asyncio.create_task(house.serving("cars").predict(Call(model="", media=b"")))
    await asyncio.sleep(0)
    stop = asyncio.create_task(house.stop("cars"))
    while house.record("cars").state != "stopping":
        await asyncio.sleep(0)
    await house.start("cars")
    await call
    await stop
    assert await settled(house, "cars") == "ready"


def test_a_start_that_comes_while_it_stops_is_not_lost(records: Memory) -> None:
    asyncio.run(start_while_stopping(records))


async def callers_that_leave(records: Memory) -> None:
    house = fleet(records)
    await house.create("cars", Plan(model="a"))
    await settled(house, "cars")
    for change, wanted in ((house.replace("cars", "b"), ("ready", "b")), (house.stop("cars"), ("stopped", "b"))):
        caller = asyncio.create_task(change)
        await asyncio.sleep(0.01)
        caller.cancel()
        for _ in range(200):
            record = house.record("cars")
            if (record.state, record.plan.model) == wanted:
                break
            await asyncio.sleep(0.01)
        assert (record.state, record.plan.model) == wanted


def test_a_change_whose_caller_leaves_is_made_all_the_same(records: Memory) -> None:
    asyncio.run(callers_that_leave(records))


async def bug(records: Memory) -> None:
    class Broken(LocalEndpoint):
        async def start(self, card: Card, plan: Plan) -> None:
            raise ZeroDivisionError("a secret")

    house = Fleet(records, resolve, lambda record: Broken(Counting))
    await house.create("cars", Plan(model="a"))
    assert await settled(house, "cars") == "failed"
    assert "internal error" in house.record("cars").reason
    assert "secret" not in house.record("cars").reason


def test_an_endpoint_that_meets_a_bug_has_failed_and_does_not_come_up_for_ever(records: Memory) -> None:
    asyncio.run(bug(records))


async def stop_that_fails(records: Memory) -> None:
    class Far(LocalEndpoint):
        async def stop(self) -> None:
            raise Unreachable("The region does not answer.")

    house = Fleet(records, resolve, lambda record: Far(Counting))
    await house.create("cars", Plan(model="a"))
    await settled(house, "cars")
    with pytest.raises(Unreachable):
        await house.stop("cars")
    assert house.record("cars").state == "ready"
    assert (await house.serving("cars").predict(Call(model="", media=b""))).model == "a"


def test_a_stop_that_does_not_reach_its_region_says_so_and_leaves_it_ready(records: Memory) -> None:
    asyncio.run(stop_that_fails(records))


def test_stopping_what_failed_on_the_way_stops_it_in_its_region_or_says_that_it_could_not(records: Memory) -> None:
    reached, stopped = False, []

    class Far(LocalEndpoint):
        region_id = "there"

        async def start(self, card: Card, plan: Plan) -> None:
            raise CorruptFiles("It did not come up in time.")

        async def stop(self) -> None:
            if not reached:
                raise Unreachable("The region does not answer.")
            stopped.append(self)

    async def play() -> None:
        nonlocal reached
        house = Fleet(records, resolve, lambda record: Far(Counting))
        await house.create("cars", Plan(model="a", region="far"))
        assert await settled(house, "cars") == "failed"
        with pytest.raises(Unreachable):
            await house.stop("cars")
        assert (house.record("cars").state, house.record("cars").reason) == ("failed", "It did not come up in time.")
        reached = True
        await house.stop("cars")
        assert (house.record("cars").state, len(stopped)) == ("stopped", 1)

    asyncio.run(play())


def test_replacing_under_load_fails_no_call(records: Memory) -> None:
    async def play() -> None:
        house = fleet(records)
        await house.create("cars", Plan(model="a"))
        await settled(house, "cars")
        seen: set[str] = set()
        done = False

        async def caller() -> None:
            while not done:
                seen.add((await house.serving("cars").predict(Call(model="", media=b""))).model)

        callers = [asyncio.ensure_future(caller()) for _ in range(8)]
        await asyncio.sleep(0.03)
        await house.replace("cars", "b")
        await asyncio.sleep(0.03)
        done = True
        await asyncio.gather(*callers)
        assert seen == {"a", "b"}
        assert house.record("cars").plan.model == "b"
        assert house.record("cars").revision == "b"

    asyncio.run(play())


def test_a_video_of_the_old_model_holds_up_neither_the_new_one_nor_what_is_told_of_it(records: Memory) -> None:
    ended = asyncio.Event()

    class Filming(Counting):
        async def stream(self, call: Call) -> AsyncIterator[Answer]:
            self.working += 1
            yield Answer(result=LABELS, image_hw=(1, 1), model=self.card.name)
            await ended.wait()
            self.working -= 1
            assert self.open, "an engine was closed under a call"
            yield Answer(result=LABELS, image_hw=(1, 1), model=self.card.name)

    async def play() -> None:
        house = Fleet(records, resolve, lambda record: LocalEndpoint(Filming))
        await house.create("cars", Plan(model="a"))
        await settled(house, "cars")
        video = house.serving("cars").stream(Call(model="", media=b""))
        assert (await anext(video)).model == "a"
        told = await asyncio.wait_for(house.replace("cars", "b"), 2)
        assert (told.state, told.plan.model, told.revision) == ("ready", "b", "b")
        assert records.kept["cars"].plan.model == "b", "a restart would bring back the old one"
        assert (await house.serving("cars").predict(Call(model="", media=b""))).model == "b"
        stopping = asyncio.ensure_future(house.stop("cars"))
        await asyncio.sleep(0.05)
        assert not stopping.done(), "the video was not finished"
        ended.set()
        assert (await anext(video)).model == "a"
        assert (await stopping).state == "stopped"

    asyncio.run(play())


def test_a_replacement_that_cannot_serve_leaves_the_old_model_serving(records: Memory) -> None:
    async def play() -> None:
        house = fleet(records)
        await house.create("cars", Plan(model="a"))
        await settled(house, "cars")
        with pytest.raises(CorruptFiles):
            await house.replace("cars", "broken")
        assert house.record("cars").state == "ready"
        assert (await house.serving("cars").predict(Call(model="", media=b""))).model == "a"

    asyncio.run(play())


def test_a_start_that_fails_is_told_with_its_reason(records: Memory) -> None:
    async def play() -> None:
        house = fleet(records)
        await house.create("cars", Plan(model="broken"))
        assert await settled(house, "cars") == "failed"
        assert house.record("cars").reason == "The file ends too early."

    asyncio.run(play())


def test_after_a_restart_endpoints_are_as_they_were(records: Memory) -> None:
    async def play() -> None:
        house = fleet(records)
        await house.create("runs", Plan(model="a"))
        await house.create("rests", Plan(model="a"))
        await settled(house, "runs")
        await settled(house, "rests")
        await house.stop("rests")
        await house.close()
        again = fleet(records)
        await again.open()
        assert await settled(again, "runs") == "ready"
        assert again.record("rests").state == "stopped"

    asyncio.run(play())


def test_after_a_restart_what_may_sleep_sleeps_and_the_rest_comes_up_a_few_at_a_time(records: Memory) -> None:
    loading = most = 0

    class Watched(Counting):
        async def load(self, ref: str) -> None:
            nonlocal loading, most
            loading += 1
            most = max(most, loading)
            await super().load(ref)
            loading -= 1

    plans = {"naps": Plan(model="a"), "never": Plan(model="a", idle_stop_s=0)}
    plans |= {f"works-{number}": Plan(model="a", min_replicas=1) for number in range(20)}
    for name, plan in plans.items():
        records.save(Record(id=name, name=name, plan=plan, state="ready"))

    async def play() -> None:
        house = Fleet(records, resolve, lambda record: LocalEndpoint(Watched))
        await house.open()
        assert {await settled(house, name) for name in plans} == {"ready"}
        assert [name for name in plans if not house.replicas(name)] == ["naps"]
        assert most == AT_ONCE
        assert (await house.serving("naps").predict(Call(model="", media=b""))).model == "a"
        await house.stop("naps")
        await house.start("naps")
        await settled(house, "naps")
        assert house.replicas("naps") == 1, "who starts one wants to know whether it can"
        await house.close()

    asyncio.run(play())


def test_an_endpoint_whose_region_did_not_answer_is_tried_again_after_a_restart_too(records: Memory) -> None:
    class Far(LocalEndpoint):
        async def start(self, card: Card, plan: Plan) -> None:
            if not reached:
                raise Unreachable("The region does not answer.")
            await super().start(card, plan)

    async def play() -> None:
        nonlocal reached
        house = Fleet(records, resolve, lambda record: Far(Counting))
        await house.create("cars", Plan(model="a"))
        await house.create("vans", Plan(model="a"))
        assert await settled(house, "cars") == await settled(house, "vans") == "failed"
        await house.stop("vans")
        reached = True
        await house.create("trucks", Plan(model="broken"))
        assert await settled(house, "trucks") == "failed"
        await house.close()
        again = Fleet(records, resolve, lambda record: Far(Counting))
        await again.open()
        assert {one.name: one.state for one in again.records()} == {
            "cars": "deploying",
            "vans": "stopped",
            "trucks": "failed",
        }
        assert await settled(again, "cars") == "ready"

    reached = False
    asyncio.run(play())


async def tries_by_hand(records: Memory) -> tuple[int, str]:
    """How often a region that did not answer was asked in four pauses after five tries by hand, and the state then."""

    class Far(LocalEndpoint):
        async def start(self, card: Card, plan: Plan) -> None:
            nonlocal tries
            tries += 1
            if not reached:
                raise Unreachable("The region does not answer.")
            await super().start(card, plan)

    tries, reached = 0, False
    house = Fleet(records, resolve, lambda record: Far(Counting))
    await house.create("cars", Plan(model="a"))
    for _ in range(5):
        assert await settled(house, "cars") == "failed"
        await house.start("cars")
    assert await settled(house, "cars") == "failed"
    tries = 0
    await asyncio.sleep(4.5 * 0.3)
    seen, reached = tries, True
    end = time.monotonic() + 10
    while (state := house.record("cars").state) != "ready" and time.monotonic() < end:
        await asyncio.sleep(0.05)
    await house.close()
    return seen, state


def test_tries_by_hand_while_a_region_is_out_make_no_more_of_those_that_come_by_themselves(
    records: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.endpoints.fleet.RETRY_S", 0.3)
    seen, state = asyncio.run(tries_by_hand(records))
    assert 2 <= seen <= 5
    assert state == "ready"


def test_an_idle_endpoint_sleeps_and_the_next_call_wakes_it(records: Memory) -> None:
    async def play() -> None:
        house = fleet(records)
        await house.create("naps", Plan(model="a", idle_stop_s=1))
        await settled(house, "naps")
        for _ in range(400):
            if house.replicas("naps") == 0:
                break
            await asyncio.sleep(0.01)
        assert house.replicas("naps") == 0
        assert house.record("naps").state == "ready"
        assert (await house.serving("naps").predict(Call(model="", media=b""))).model == "a"
        assert house.replicas("naps") == 1

    asyncio.run(play())


def test_an_unknown_model_or_a_bad_name_makes_no_endpoint(records: Memory) -> None:
    async def play() -> None:
        house = fleet(records)
        with pytest.raises(UnknownModel):
            await house.create("cars", Plan(model="missing"))
        with pytest.raises(BadOptions, match="lower-case"):
            await house.create("My Cars", Plan(model="a"))
        assert not house.records()
        assert not records.kept

    asyncio.run(play())


def test_replicas_are_a_number_or_a_range() -> None:
    assert replicas("2") == (2, 2)
    assert replicas("0:4") == (0, 4)
    for wrong in ("", "a", "3:1", "0", "1:1000", "-1:2"):
        with pytest.raises(BadOptions):
            replicas(wrong)


def test_metrics_count_calls_errors_and_quantiles() -> None:
    now = 1_700_000_000.0
    figures = Figures(clock=lambda: now)
    for i in range(100):
        status = 500 if i < 5 else 200
        figures.count(Line(timestamp=now, severity="INFO", message="call", status=status, latency_ms=float(i + 1)), 1)
    metrics = figures.metrics("1h")
    summary = metrics["summary"]
    assert isinstance(summary, dict)
    assert summary["totalRequests"] == 100
    assert summary["errorRate"] == pytest.approx(0.05)
    assert summary["p50LatencyMs"] == pytest.approx(50, rel=0.15)
    assert summary["p95LatencyMs"] == pytest.approx(95, rel=0.15)
    series = metrics["timeSeries"]
    assert isinstance(series, dict)
    assert sum(point["value"] for point in series["requests"]) == 100
    assert len(figures.lines(10)) == 10


def line(moment: float, message: str = "call", status: int = 200, latency_ms: float = 10.0) -> Line:
    return Line(timestamp=moment, severity="INFO", message=message, status=status, latency_ms=latency_ms)


def test_what_several_processes_counted_reads_like_what_one_counted() -> None:
    now = 1_700_000_000.0
    whole, kept = Figures(clock=lambda: now), Figures(clock=lambda: now)
    parts = [Figures(clock=lambda: now) for _ in range(3)]
    for i in range(90):
        told = line(now - i, f"call {i}", 500 if i < 9 else 200, float(i + 1))
        whole.count(told, 1)
        parts[i % 3].count(told, 1)
    for part in parts:
        report = part.take()
        assert report is not None
        kept.add(report)
        assert part.take() is None, "what was told is counted twice"
    assert kept.metrics("1h") == whole.metrics("1h")
    assert [one.message for one in kept.lines(90)] == [f"call {i}" for i in range(90)]


def test_what_was_counted_while_the_clock_was_ahead_does_not_hide_what_comes_later() -> None:
    now = 1_700_000_000.0
    before = Figures(clock=lambda: now + 5 * 86400)
    for _ in range(1000):
        before.count(line(now + 5 * 86400, "before"), 1)
    kept = before.report()
    figures = Figures(clock=lambda: now)  # of the next server, when the clock is right again
    figures.add(kept)
    now += 60
    figures.count(line(now, "later"), 1)
    assert figures.metrics("1h")["summary"]["totalRequests"] == 1001
    after = Figures(clock=lambda: now)
    after.add(figures.report())
    assert [one.message for one in after.lines(2)] == ["later", "before"]
    assert all(one.timestamp <= now for one in after.lines(1000))


def test_figures_of_a_month_are_few_and_still_add_up() -> None:
    day, every_s = 86400, 240
    begun = 1_700_000_000 // day * day
    now = float(begun)
    figures = Figures(clock=lambda: now)
    for number in range(30 * day // every_s):
        now = begun + float(number * every_s)
        figures.count(line(now, latency_ms=float(1 + number % 50)), 1)
    report = figures.take()
    assert report is not None
    assert len(report.minutes) < 30 * 24 + day // every_s + 10
    figures.add(report)
    assert figures.metrics("24h")["summary"]["totalRequests"] == pytest.approx(day // every_s, abs=10)
    week = figures.metrics("7d")
    assert week["summary"]["totalRequests"] == pytest.approx(7 * day // every_s, abs=60)
    assert week["summary"]["p50LatencyMs"] == pytest.approx(25, rel=0.15)


def test_the_day_in_short_tells_what_each_hour_had_and_adds_up() -> None:
    begun = 1_700_000_000 // 86400 * 86400
    now = float(begun)
    figures = Figures(clock=lambda: now)
    for minute in range(2 * 1440 + 5):
        now = begun + 60.0 * minute
        figures.count(line(now), 1)
    told = figures.sparkline()
    assert told["requests24h"][:-1] == [60] * 23, "one a minute"
    assert sum(told["requests24h"]) == told["totalRequests"] == figures.metrics("24h")["summary"]["totalRequests"]


def test_what_an_endpoint_used_while_nobody_called_is_written_down_and_of_one_that_sleeps_nothing() -> None:
    now = 1_700_000_000.0
    figures = Figures(clock=lambda: now)
    figures.count(line(now), 1)
    figures.report()
    now += 60
    figures.measured(0.1, 0.5, 1)
    assert figures.changed
    figures.report()
    figures.measured(0.1, 0.5, 1)
    now += 60
    figures.measured(0.0, 0.0, 0)
    assert not figures.changed


def test_the_ledger_keeps_endpoints_apart_and_forgets_those_that_are_gone(tmp_path: Path) -> None:
    async def play() -> None:
        now, ledger = time.time(), Ledger(str(tmp_path))
        for id, calls in (("a", 3), ("b", 2)):
            part = Figures()
            for _ in range(calls):
                part.count(line(now), 1)
            report = part.take()
            assert report is not None
            await ledger.add({id: report})
        assert (await ledger.metrics("a", "1h"))["summary"]["totalRequests"] == 3
        assert len(await ledger.lines("b", 10, "INFO", None)) == 2
        await ledger.leave(0)
        again = Ledger(str(tmp_path))
        assert (await again.sparkline("b"))["totalRequests"] == 2
        await again.forget("a")
        assert await again.lines("a", 10, None, None) == []
        assert await Ledger(str(tmp_path)).lines("a", 10, None, None) == []

    asyncio.run(play())


def month() -> Report:
    """What is kept of an endpoint that was called each minute of a day, and each hour of four weeks before."""
    now = int(time.time()) // 3600 * 3600
    moments = [now - 3600 * hour for hour in range(672, 24, -1)] + [now - 60 * back for back in range(1440, 0, -1)]
    return Report({moment: Minute(requests=9, latency_bins=dict.fromkeys(range(30, 39), 1)) for moment in moments}, ())


def test_two_servers_on_one_home_write_no_figures_into_each_others_file(tmp_path: Path) -> None:
    """As during an update. Both write every 15 seconds, which is a moment at times."""
    contents = [packed(Report({60 * i: Minute(requests=9) for i in range(number)}, ())) for number in (900, 2200)]
    drawer, wrong = Drawer(tmp_path), list[int]()
    end = time.monotonic() + 1

    def write(content: bytes) -> None:
        while time.monotonic() < end:
            Drawer(tmp_path).write("one", content)

    drawer.write("one", contents[0])
    with ThreadPoolExecutor() as pool:
        writing = [pool.submit(write, content) for content in contents]
        while time.monotonic() < end:
            if drawer.read("one") is None:
                wrong.append(1)
        for done in writing:
            done.result()
    assert not wrong


def test_a_month_of_figures_is_taken_in_about_as_fast_as_it_is_read() -> None:
    written, read_s, added_s = packed(month()), list[float](), list[float]()
    for _ in range(3):
        begun = time.process_time()
        report = msgspec.msgpack.decode(written, type=Report)
        read_s.append(time.process_time() - begun)
        figures = Figures()
        begun = time.process_time()
        figures.add(report)
        added_s.append(time.process_time() - begun)
        assert figures.metrics("30d")["summary"]["totalRequests"] == 9 * len(report.minutes)
    assert min(added_s) < 15 * min(read_s)


class Counted(Drawer):
    """A drawer that knows how often it was opened."""

    reads = 0

    def read(self, id: str) -> Report | None:
        self.reads += 1
        return super().read(id)


def test_what_endpoints_did_before_is_read_when_it_is_needed_and_kept_with_what_they_do_now(
    records: Memory, tmp_path: Path
) -> None:
    drawer, before = Counted(tmp_path), month()
    for name in ("cars", "idle"):
        records.save(Record(id=name, name=name, plan=Plan(model="a"), state="stopped"))
        drawer.write(name, packed(before))

    async def play() -> None:
        house = Fleet(records, resolve, lambda record: LocalEndpoint(Counting), drawer)
        house.recall()
        house.figures("cars").count(line(time.time()), 1)
        assert drawer.reads == 0
        await house.close()
        assert drawer.reads == 1, "nobody wants to know of the other one"
        again = Fleet(records, resolve, lambda record: LocalEndpoint(Counting), drawer)
        again.recall()
        told = await asyncio.gather(*(again.metrics(name, "30d") for name in ("cars", "cars", "idle")))
        assert [one["summary"]["totalRequests"] for one in told] == [calls + 1, calls + 1, calls]
        assert len(await again.lines("cars", 10)) == 1
        await again.close()

    calls = sum(minute.requests for minute in before.minutes.values())
    asyncio.run(play())


def test_what_is_known_of_an_endpoint_that_does_not_run_leaves_memory_and_comes_back(
    records: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.endpoints.fleet.KEEP_S", 0.02)
    drawer, before = Counted(tmp_path), month()
    records.save(Record(id="cars", name="cars", plan=Plan(model="a"), state="stopped"))
    drawer.write("cars", packed(before))

    async def play() -> None:
        house = Fleet(records, resolve, lambda record: LocalEndpoint(Counting), drawer)
        await house.open()
        for calls in range(1, 4):
            house.figures("cars").count(line(time.time()), 1)
            told = (await house.metrics("cars", "30d"))["summary"]["totalRequests"]
            assert (told, drawer.reads) == (sum(one.requests for one in before.minutes.values()) + calls, calls)
            await asyncio.sleep(0.3)
        await house.close()

    asyncio.run(play())


class Full(Drawer):
    """A drawer that takes nothing at first."""

    def __init__(self, folder: Path, error: Exception) -> None:
        super().__init__(folder)
        self.errors = [error, error]

    def write(self, id: str, content: bytes) -> None:
        if self.errors:
            raise self.errors.pop()
        super().write(id, content)


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), RuntimeError("can't start new thread")],
    ids=lambda error: type(error),
)
def test_figures_that_could_not_be_written_are_written_later_without_another_call(
    records: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("saccade.endpoints.fleet.KEEP_S", 0.02)
    drawer = Full(tmp_path, error)

    async def play() -> None:
        house = Fleet(records, resolve, lambda record: LocalEndpoint(Counting), drawer)
        await house.open()
        await house.create("cars", Plan(model="a"))
        assert await settled(house, "cars") == "ready"
        id = house.record("cars").id
        async with asyncio.timeout(5):
            while drawer.read(id) is None:
                await asyncio.sleep(0.01)
        await house.close()

    asyncio.run(play())


def test_an_endpoint_that_could_not_be_measured_once_is_measured_again(
    records: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.endpoints.fleet.MEASURE_S", 0.02)
    refused = [OSError(24, "Too many open files")]

    class Measured(LocalEndpoint):
        def load(self) -> tuple[float, float]:
            if refused:
                raise refused.pop()
            return 0.5, 0.25

    async def play() -> None:
        house = Fleet(records, resolve, lambda record: Measured(Counting))
        await house.open()
        await house.create("cars", Plan(model="a"))
        async with asyncio.timeout(5):
            while (await house.metrics("cars", "1h"))["timeSeries"]["cpuUtilization"][-1]["value"] != 0.5:
                await asyncio.sleep(0.01)
        assert not refused
        await house.close()

    asyncio.run(play())


class Disk(Memory):
    """Records on a disk that takes its time, and may be full."""

    def __init__(self, wait_s: float = 0.0) -> None:
        super().__init__()
        self.wait_s = wait_s
        self.full = False

    def save(self, record: Record) -> None:
        self._turn()
        super().save(record)

    def remove(self, name: str) -> None:
        self._turn()
        super().remove(name)

    def _turn(self) -> None:
        time.sleep(self.wait_s)
        if self.full:
            raise Unreachable("The server's database cannot be used now (database or disk is full).")


async def slow_writes(disk: Disk) -> float:
    """The longest time for which nobody else was served while endpoints came, changed and went."""
    house, longest, over = fleet(disk), 0.0, asyncio.Event()

    async def others() -> None:
        nonlocal longest
        while not over.is_set():
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    watching = asyncio.create_task(others())
    await house.create("cars", Plan(model="a"))
    await settled(house, "cars")
    await asyncio.gather(
        house.describe("cars", "Cars", None), house.replace("cars", "b"), house.describe("cars", None, {"team": 1})
    )
    assert disk.kept["cars"] == house.record("cars")
    assert (disk.kept["cars"].title, disk.kept["cars"].metadata, disk.kept["cars"].plan.model) == (
        "Cars",
        {"team": 1},
        "b",
    )
    await house.stop("cars")
    assert disk.kept["cars"].state == "stopped"
    await house.remove("cars")
    over.set()
    await watching
    assert not disk.kept
    return longest


def test_a_slow_disk_under_the_records_holds_up_nobody_and_keeps_their_order() -> None:
    assert asyncio.run(slow_writes(Disk(wait_s=0.2))) < 0.15


async def full_disk(disk: Disk) -> None:
    house = fleet(disk)
    await house.open()
    await house.create("cars", Plan(model="a"))
    await house.create("down", Plan(model="a"))
    assert (await settled(house, "cars"), await settled(house, "down")) == ("ready", "ready")
    await house.stop("down")
    before = dict(disk.kept)
    disk.full = True
    for refused in (
        house.create("late", Plan(model="a")),
        house.start("down"),
        house.stop("cars"),
        house.replace("cars", "b"),
        house.replace("down", "b"),
        house.describe("cars", "Cars", None),
        house.remove("down"),
        house.remove("cars"),
    ):
        with pytest.raises(Unreachable, match="full"):
            await refused
    assert disk.kept == before
    assert {record.name: record for record in house.records()} == before, "what is told is what a restart would find"
    assert (await house.serving("cars").predict(Call(model="", media=b""))).model == "a", "it serves on"
    disk.full = False
    await house.create("late", Plan(model="a"))
    assert await settled(house, "late") == "ready"
    await house.remove("down")
    await house.stop("cars")
    assert {name: record.state for name, record in disk.kept.items()} == {"cars": "stopped", "late": "ready"}
    await house.close()


def test_a_full_disk_refuses_changes_as_a_whole_and_what_serves_goes_on() -> None:
    asyncio.run(full_disk(Disk()))


async def short_of_threads() -> None:
    class Short(Memory):
        refusing = False

        def save(self, record: Record) -> None:
            if self.refusing:
                raise RuntimeError("can't start new thread")
            super().save(record)

    disk = Short()
    house = fleet(disk)
    await house.create("cars", Plan(model="a"))
    assert await settled(house, "cars") == "ready"
    before = await house.describe("cars", "Cars", None)  # behind what was still to be written
    disk.refusing = True
    for change in (house.stop("cars"), house.describe("cars", "Vans", None), house.replace("cars", "b")):
        with pytest.raises(Overloaded, match="threads"):
            await change
    assert house.record("cars") == disk.kept["cars"] == before
    disk.refusing = False
    assert (await asyncio.wait_for(house.start("cars"), 5)).state == "ready"
    await house.close()


def test_a_change_for_which_the_system_gives_no_thread_is_refused_as_a_whole() -> None:
    asyncio.run(short_of_threads())


async def full_while_it_starts(disk: Disk) -> None:
    house = fleet(disk)
    await house.open()
    await house.create("cars", Plan(model="a"))
    disk.full = True
    assert await settled(house, "cars") == "ready", "it comes up"
    assert (await house.serving("cars").predict(Call(model="", media=b""))).model == "a"
    assert disk.kept["cars"].state != "ready"
    disk.full = False
    for _ in range(100):
        if disk.kept["cars"].state == "ready":
            break
        await asyncio.sleep(0.02)
    assert disk.kept["cars"] == house.record("cars"), "it was written down as soon as there was room"
    await house.close()


def test_what_became_of_an_endpoint_while_the_disk_was_full_is_written_down_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("saccade.endpoints.fleet.REWRITE_S", 0.05)
    asyncio.run(full_while_it_starts(Disk()))


async def replacing_what_failed(records: Memory) -> None:
    house = fleet(records)
    await house.create("cars", Plan(model="broken"))
    assert await settled(house, "cars") == "failed"
    await house.replace("cars", "a")
    assert await settled(house, "cars") == "ready", house.record("cars").reason
    await house.stop("cars")
    await house.replace("cars", "b")
    assert (house.record("cars").state, house.record("cars").plan.model) == ("stopped", "b")


def test_another_model_brings_up_an_endpoint_that_had_failed_and_leaves_a_stopped_one_stopped(records: Memory) -> None:
    asyncio.run(replacing_what_failed(records))


async def caller_leaves_a_create(records: Memory) -> None:
    def slowly(plan: Plan) -> Card:
        time.sleep(0.2)
        return resolve(plan)

    house = Fleet(records, slowly, lambda record: LocalEndpoint(Counting))
    caller = asyncio.create_task(house.create("cars", Plan(model="a")))
    await asyncio.sleep(0.05)
    caller.cancel()
    for _ in range(100):
        await asyncio.sleep(0.02)
        if house.record("cars").state == "ready":
            break
    assert house.record("cars").state == "ready"


def test_an_endpoint_whose_maker_leaves_while_its_model_is_fetched_comes_up_all_the_same(records: Memory) -> None:
    asyncio.run(caller_leaves_a_create(records))


def test_an_endpoint_that_is_stopped_while_its_model_is_fetched_stays_stopped(records: Memory) -> None:
    fetched = threading.Event()

    def slowly(plan: Plan) -> Card:
        fetched.wait(5)
        return resolve(plan)

    async def play() -> None:
        house = Fleet(records, slowly, lambda record: LocalEndpoint(Counting))
        making = asyncio.create_task(house.create("cars", Plan(model="a")))
        while not house.knows("cars"):
            await asyncio.sleep(0.01)
        assert (await house.stop("cars")).state == "stopped"
        fetched.set()
        assert (await making).state == "stopped"
        await asyncio.sleep(0.1)
        assert house.record("cars").state == "stopped", "it came up all the same"

    asyncio.run(play())


def test_an_endpoint_that_is_made_while_its_namesake_is_removed_takes_its_place(records: Memory) -> None:
    async def play() -> None:
        house = fleet(records)
        await house.create("cars", Plan(model="a"))
        await settled(house, "cars")
        call = asyncio.create_task(house.serving("cars").predict(Call(model="", media=b"")))
        await asyncio.sleep(0)
        removing = asyncio.create_task(house.remove("cars"))
        while house.record("cars").state != "stopping":
            await asyncio.sleep(0)
        await house.create("cars", Plan(model="b"))
        assert await settled(house, "cars") == "ready"
        assert house.record("cars").plan.model == "b"
        assert await removing == ""
        assert (await call).model == "a"

    asyncio.run(play())


async def several_clients(seed: int) -> None:
    dice = random.Random(seed)
    engines: list[Counting] = []

    class Shaky(Disk):
        def _turn(self) -> None:
            self.wait_s, self.full = dice.random() * 0.004, dice.random() < 0.1
            super()._turn()

    def built(card: Card, plan: Plan) -> Counting:
        engines.append(Counting(card, plan))
        return engines[-1]

    disk = Shaky()
    house = Fleet(disk, resolve, lambda record: LocalEndpoint(built))
    await house.open()

    async def change() -> None:
        name = dice.choice(("cars", "birds"))
        match dice.randrange(8):
            case 0:
                await house.create(name, Plan(model=dice.choice("ab")))
            case 1:
                await house.start(name)
            case 2:
                await house.stop(name)
            case 3:
                await house.replace(name, dice.choice(("a", "b", "broken", "missing")))
            case 4:
                await house.remove(name)
            case 5:
                await house.resize(name, Plan(model=house.record(name).plan.model, max_replicas=dice.choice((1, 2))))
            case 6:
                await house.describe(name, str(dice.random()), None)
            case _:
                await house.serving(name).predict(Call(model="", media=b""))

    async def client() -> None:
        for _ in range(25):
            with contextlib.suppress(Error, TimeoutError):  # now and then a client leaves before the answer
                async with asyncio.timeout(dice.random() * 0.01 if dice.random() < 0.2 else None):
                    await change()
            await asyncio.sleep(dice.random() * 0.01)

    async with asyncio.timeout(30):
        await asyncio.gather(*(client() for _ in range(6)))
        while disk.kept != {record.name: record for record in house.records()} or any(
            record.state not in ("ready", "stopped", "failed") for record in house.records()
        ):
            await asyncio.sleep(0.02)
    running = [record for record in house.records() if record.state == "ready"]
    for record in running:
        assert (await house.serving(record.name).predict(Call(model="", media=b""))).model == record.plan.model
    async with asyncio.timeout(5):
        while sum(engine.open for engine in engines) != len(running):  # models that were replaced finish their calls
            await asyncio.sleep(0.02)
    await house.close()
    assert not any(engine.open for engine in engines)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_several_clients_do_at_once_on_a_shaky_disk_what_is_told_runs_and_is_written_down(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.endpoints.fleet.REWRITE_S", 0.05)
    asyncio.run(several_clients(seed))


async def two_servers(records: Memory) -> None:
    one, other = fleet(records), fleet(records)
    await one.create("cars", Plan(model="a"))
    assert await settled(one, "cars") == "ready"
    with pytest.raises(BadOptions, match="Another server with the same database has an endpoint 'cars'"):
        await other.create("cars", Plan(model="b"))
    assert records.kept["cars"] == one.record("cars")
    await one.remove("cars")
    await other.create("cars", Plan(model="b"))
    assert await settled(other, "cars") == "ready"


def test_a_second_server_on_the_same_database_takes_no_endpoint_away_from_the_first(records: Memory) -> None:
    asyncio.run(two_servers(records))
