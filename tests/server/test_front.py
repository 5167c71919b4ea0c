"""A front and the first process, both in this one, with a real socket between them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_fakes import EchoEngine, PlainDialect, Shelf, client
from starlette.responses import StreamingResponse

from saccade.call import Call, Clip, Options
from saccade.discover import Budget
from saccade.errors import Forbidden
from saccade.server import channel, front, fronts, wiring
from saccade.server.access import Caller, OpenGate, Ticket
from saccade.server.app import App
from saccade.server.channel import Channel, Facts
from saccade.server.front import FrontApp
from saccade.server.house import Directory, House
from saccade.server.metrics import Family, Metrics, summed
from saccade.server.service import CREDIT, Service
from saccade.server.settings import Settings


class Pair:
    """The application of the first process, and that of a front in front of it."""

    def __init__(self, first: App, front: FrontApp, house: House) -> None:
        self.first = first
        self.front = front
        self.house = house


@contextlib.asynccontextmanager
async def pair(engine: EchoEngine | None = None, shelf: Shelf | None = None, **given: Any) -> AsyncIterator[Pair]:
    settings = Settings(access_log=False, **given)
    dialects = [PlainDialect("first", b"1"), PlainDialect("second", b"2")]
    app = wiring.build(settings, shelf or Shelf(), engine or EchoEngine(), OpenGate(), dialects)  # type: ignore[arg-type]
    app.ready = True
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    house = House()
    service = Service(app, lambda _: None, lambda: None)
    await loop.create_connection(lambda: service.channel, sock=ours)
    await loop.create_connection(lambda: house.channel, sock=theirs)
    yield Pair(app, FrontApp(house, Directory(house), dialects, OpenGate(), settings), house)
    await house.leave()


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


REQUESTS: list[tuple[str, str, bytes]] = [
    ("POST", "/first/one", b"hello"),
    ("POST", "/first/one?count=20", b"many"),
    ("POST", "/first/one", b"x" * 3_000_000),
    ("POST", "/first/one?" + "classes=7&" * 500, b"hello"),
    ("POST", "/both", b"2 for the second"),
    ("POST", "/first/far", b"fetched first"),
    ("POST", "/first/nobody", b"x"),
    ("POST", "/first/one", b"unreadable"),
    ("POST", "/first/one", b"fail"),
    ("POST", "/first/one", b"http://example.org/a.jpg"),
    ("POST", "/first/one", b"video"),
    ("POST", "/first/one?stream", b"video"),
    ("POST", "/first/one?stream", b"video breaks"),
    ("GET", "/firsts", b""),
    ("GET", "/first/one", b""),
    ("GET", "/", b""),
    ("GET", "/health", b""),
    ("GET", "/docs", b""),
    ("GET", "/static/plain.css", b""),
    ("HEAD", "/static/plain.css", b""),
    ("GET", "/nowhere", b""),
    ("POST", "/nowhere", b"x"),
    ("OPTIONS", "/first/one", b""),
    ("OPTIONS", "/v1/keys", b""),
    ("POST", "/v1/keys", b"{}"),
]


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS, ids=lambda value: str(value)[:24])
def test_a_front_answers_what_the_first_process_would(method: str, path: str, body: bytes) -> None:
    async def both() -> tuple[httpx.Response, httpx.Response]:
        async with pair(default_model="one") as two, client(two.first) as there, client(two.front) as here:
            headers = {"origin": "http://test", "x-request-id": "same"}
            return (
                await here.request(method, path, content=body, headers=headers),
                await there.request(method, path, content=body, headers=headers),
            )

    def seen(response: httpx.Response) -> tuple[Any, ...]:
        headers = {name: value for name, value in response.headers.items() if name != "server-timing"}
        return response.status_code, headers, response.content

    here, there = run(both())
    assert seen(here) == seen(there)


def test_who_keeps_a_connection_to_a_front_is_sent_elsewhere_also_after_a_call_that_came_before_the_stop() -> None:
    async def told() -> httpx.Headers:
        async with pair() as two, client(two.front) as http:
            call = asyncio.create_task(http.post("/first/one", content=b"sleep0.5"))
            await asyncio.sleep(0.2)
            two.house.facts = Facts(draining=True)
            return (await call).headers

    assert run(told())["connection"] == "close"


def test_a_front_has_nothing_fetched_for_a_caller_who_may_not_use_it() -> None:
    class Strict(OpenGate):
        async def take(self, caller: Caller, models: Sequence[str]) -> Ticket:
            if "far" in models:
                raise Forbidden("This key is not for that model.")
            return await super().take(caller, models)

    async def play(shelf: Shelf) -> int:
        async with pair(shelf=shelf) as two, client(two.front) as http:
            two.front.gate = Strict()
            return (await http.post("/first/far", content=b"x")).status_code

    shelf = Shelf()
    assert (run(play(shelf)), shelf.fetches) == (403, 0)


def test_a_body_that_is_too_large_is_told_so_by_a_front_that_was_never_asked_for_the_model() -> None:
    async def statuses() -> list[int]:
        async with pair(max_body_bytes=1000) as two, client(two.front) as http:
            return [(await http.post(f"/first/{name}", content=bytes(2000))).status_code for name in ("one", "nobody")]

    assert run(statuses()) == [413, 404]


def test_models_that_come_and_go_are_noticed_and_one_is_asked_for_only_now_and_then() -> None:
    class Counting(Shelf):
        asked = 0

        def card(self, ref: str, *, fetch: bool = False) -> Any:
            self.asked += 1
            return super().card(ref, fetch=fetch)

    async def statuses(shelf: Counting) -> tuple[int, int]:
        async with pair(shelf=shelf) as two, client(two.front) as http:
            missing = (await http.post("/first/new", content=b"x")).status_code
            shelf.here["new"] = msgspec.structs.replace(shelf.here["one"], name="new")
            await asyncio.sleep(0.6)
            found = (await http.post("/first/new", content=b"x")).status_code
            before = shelf.asked
            for _ in range(50):
                assert (await http.post("/first/new", content=b"x")).status_code == 200
            assert shelf.asked - before <= 2
            del shelf.here["new"]
            async with asyncio.timeout(5):
                while (await http.post("/first/new", content=b"x")).status_code != 404:
                    await asyncio.sleep(0.1)
            return missing, found

    assert run(statuses(Counting())) == (404, 200)


def test_a_request_that_names_no_model_means_the_only_one() -> None:
    async def said(shelf: Shelf) -> Any:
        async with pair(shelf=shelf) as two, client(two.front) as http:
            return (await http.post("/both", content=b"2")).json()

    shelf = Shelf()
    shelf.here = {"two": shelf.here["two"]}
    assert run(said(shelf)) == {"from": "second", "said": ["2"]}
    assert "picodet-s" in run(said(Shelf()))["second"]


def test_a_call_crosses_whole_and_so_does_a_surprise() -> None:
    async def seen(call: Call) -> Any:
        engine = EchoEngine()
        async with pair(engine) as two:
            await two.house.predict(call)
            with pytest.raises(RuntimeError):
                await two.house.predict(msgspec.structs.replace(call, media=b"broken"))
            return engine.last

    call = Call(
        model="one",
        media=b"said",
        options=Options(conf=0.5, classes=(1, 2), candidate_labels=("a", "ü")),
        task="classify",
        deadline=time.monotonic() + 5,
        caller="key_1",
        priority=2,
        use_cache=True,
        load_model=False,
    )
    assert run(seen(call)) == msgspec.structs.replace(call, media=b"broken")


def test_a_caller_who_leaves_is_forgotten_in_the_engine() -> None:
    async def cancelled(engine: EchoEngine) -> int:
        async with pair(engine) as two:
            call = asyncio.create_task(two.house.predict(Call(model="one", media=b"sleep20")))
            stream = two.house.stream(Call(model="one", media=b"long", clip=Clip()))
            await anext(stream)
            await asyncio.sleep(0.05)
            call.cancel()
            await stream.aclose()
            await asyncio.sleep(0.05)
            return engine.cancelled

    assert run(cancelled(EchoEngine())) == 2


def test_a_slow_reader_of_a_video_slows_the_engine_down() -> None:
    async def ahead(engine: EchoEngine) -> list[int]:
        async with pair(engine) as two:
            stream, seen = two.house.stream(Call(model="one", media=b"long", clip=Clip())), []
            for _ in range(3):
                await anext(stream)
                await asyncio.sleep(0.1)
                seen.append(engine.served)
            await stream.aclose()
            return seen

    assert max(served - taken for taken, served in enumerate(run(ahead(EchoEngine())), 1)) <= CREDIT + 1


def test_what_a_lost_front_began_is_ended() -> None:
    async def cancelled(engine: EchoEngine) -> int:
        app = wiring.build(Settings(), Shelf(), engine, OpenGate(), [])  # type: ignore[arg-type]
        ours, theirs = socket.socketpair()
        lost = asyncio.Event()
        service = Service(app, lambda _: None, lost.set)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: service.channel, sock=ours)
        line: Channel[Any] = Channel(channel.ToFront, lambda message, body: None, lambda: None)
        await loop.create_connection(lambda: line, sock=theirs)
        line.send(channel.Ask(1, Call(model="one", media=b"")), b"sleep20")
        await asyncio.sleep(0.05)
        line.close()
        await lost.wait()
        await asyncio.sleep(0.01)
        return engine.cancelled

    assert run(cancelled(EchoEngine())) == 1


def test_a_relayed_answer_waits_for_a_slow_caller_and_ends_when_the_caller_leaves() -> None:
    sent: list[int] = []

    async def parts() -> AsyncIterator[bytes]:
        for number in range(1000):
            sent.append(number)
            yield bytes(1000)

    async def relayed() -> int:
        async with pair() as two:
            two.first.house = StreamingResponse(parts())
            two.first.is_house = lambda method, path: True
            left, taken = asyncio.Event(), 0

            async def receive() -> Any:
                await left.wait()
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                nonlocal taken
                await asyncio.sleep(0.01)
                taken += 1
                assert len(sent) <= taken + 2
                if taken == 5:
                    left.set()

            scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
            await two.front(scope, receive, send)
            return taken

    assert 5 <= run(relayed()) < 20
    assert len(sent) < 20


def test_a_part_that_the_first_process_gave_up_waiting_for_is_neither_lost_nor_asked_for_twice() -> None:
    async def relayed() -> tuple[list[bytes], int]:
        async with pair() as two:
            got, waiting, most = [], 0, 0

            async def house(scope: Any, receive: Any, send: Any) -> None:
                while len(got) < 3:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.02):
                            got.append((await receive())["body"])
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"", "more_body": False})

            async def receive() -> Any:
                nonlocal waiting, most
                waiting += 1
                most = max(most, waiting)
                await asyncio.sleep(0.05)
                waiting -= 1
                return {"type": "http.request", "body": bytes([len(got)]), "more_body": True}

            async def send(message: Any) -> None: ...

            two.first.house, two.first.is_house = house, lambda method, path: True
            await two.front({"type": "http", "method": "PUT", "path": "/", "headers": []}, receive, send)
            return got, most

    assert run(relayed()) == ([b"\0", b"\1", b"\2"], 1)


def test_a_large_upload_is_relayed_as_it_comes() -> None:
    async def relayed() -> tuple[int, int]:
        async with pair() as two:
            total = most = given = 0

            async def house(scope: Any, receive: Any, send: Any) -> None:
                nonlocal total, most
                more = True
                while more:
                    message = await receive()
                    total, more = total + len(message["body"]), message["more_body"]
                    most = max(most, given - total)
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"", "more_body": False})

            async def receive() -> Any:
                nonlocal given
                given += 100_000
                return {"type": "http.request", "body": bytes(100_000), "more_body": given < 50_000_000}

            async def send(message: Any) -> None: ...

            two.first.house, two.first.is_house = house, lambda method, path: True
            scope = {"type": "http", "method": "PUT", "path": "/", "headers": [], "query_string": b""}
            await two.front(scope, receive, send)
            return total, most

    assert run(relayed()) == (50_000_000, 0)


@given(st.lists(st.integers(0, 3000) | st.integers(0, 700_000), min_size=1, max_size=8), st.integers(1, 300))
def test_messages_of_any_size_come_out_whole_however_they_are_cut(sizes: list[int], pieces: int) -> None:
    got: list[tuple[Any, bytes]] = []
    line: Channel[Any] = Channel(channel.FromFront, lambda message, body: got.append((message, body)), lambda: None)
    bodies = [bytes([number]) * size for number, size in enumerate(sizes)]
    calls = [channel.Ask(number, Call(model="m", media=b"")) for number in range(len(sizes))]
    stream = memoryview(b"".join(channel.packed(call, body) + body for call, body in zip(calls, bodies, strict=True)))
    piece = 1 + len(stream) // pieces
    while stream:
        room = line.get_buffer(-1)
        size = min(len(room), piece, len(stream))
        room[:size] = stream[:size]
        stream = stream[size:]
        line.buffer_updated(size)
    assert got == list(zip(calls, bodies, strict=True))


@pytest.mark.parametrize("garbage", [b"\x05\0\0\0\0\0\0\0hello", b"\x01\0\0\0\0\0\0\0\xc1"])
def test_garbage_ends_the_channel(garbage: bytes) -> None:
    async def ended() -> bool:
        ours, theirs = socket.socketpair()
        lost = asyncio.Event()
        line: Channel[Any] = Channel(channel.ToFront, lambda message, body: None, lost.set)
        await asyncio.get_running_loop().create_connection(lambda: line, sock=ours)
        with theirs:
            theirs.send(garbage)
            await asyncio.wait_for(lost.wait(), 5)
        return line.is_open

    assert run(ended()) is False


def test_what_several_processes_counted_is_added_up() -> None:
    one, two = Metrics(), Metrics()
    for metrics, status in ((one, 200), (two, 200), (two, 503)):
        metrics.request("d", "m", status, 0.004, 10, (), "" if status == 200 else "Overloaded")
    wire = msgspec.msgpack.encode(list(two.families()))
    text = one.text([msgspec.msgpack.decode(wire, type=list[Family])]).decode()
    assert 'saccade_requests_total{dialect="d",model="m",status="200"} 2.0' in text
    assert 'saccade_requests_total{dialect="d",model="m",status="503"} 1.0' in text
    assert 'saccade_request_seconds_bucket{dialect="d",le="0.005",model="m"} 3.0' in text
    assert 'saccade_request_seconds_bucket{dialect="d",le="0.0025",model="m"} 0.0' in text
    assert "saccade_sent_bytes_total 30.0" in text
    assert text.count("# TYPE saccade_requests_total counter") == 1
    # What follows is of the process itself, and goes on while this test runs.
    alone, together = (text.partition(b"# HELP process_")[0] for text in (one.text(), one.text([[]])))
    assert alone == together
    assert len(summed([one.families()])) == len(list(one.families()))


def test_a_front_spends_little_on_telling_what_it_counted_of_many_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "REPORT_S", 0.01)
    reports: list[channel.Report] = []

    class Many(Metrics):
        def families(self, *info: Any) -> Iterator[Family]:
            time.sleep(0.02)
            return super().families(*info)

    async def play() -> None:
        async with pair() as both:
            both.front.metrics = Many()
            first = SimpleNamespace(facts=Facts(), counted=0, report=asyncio.Event(), channel=SimpleNamespace())
            first.channel.send = reports.append
            server = SimpleNamespace(server_state=SimpleNamespace(connections=()))
            reporting = asyncio.create_task(front._report(first, both.front, server))  # type: ignore[arg-type]
            for _ in range(40):
                both.front.calls += 1
                await asyncio.sleep(0.01)
            assert [report.families is None for report in reports] == [False, *[True] * (len(reports) - 1)]
            assert len(reports) > 5
            first.counted += 1
            first.report.set()
            await asyncio.sleep(0.2)
            assert any(report.families for report in reports if report.number == 1)
            reporting.cancel()

    run(play())


@pytest.mark.parametrize(
    ("given", "threads", "number"),
    [
        ({}, 1, 1),
        ({}, 8, 1),
        ({}, 15, 1),
        ({}, 16, 2),
        ({}, 128, 4),
        ({"threads": 4}, 128, 1),
        ({"isolate": False}, 128, 1),
        ({"isolate": False, "fronts": 3}, 2, 3),
        ({"fronts": 1}, 128, 1),
        ({"fronts": 9}, 2, 9),
    ],
)
def test_there_are_as_many_fronts_as_wished_or_as_the_processors_need(
    given: dict[str, Any], threads: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    machine = Budget(threads=threads, affinity=threads, quota=None, memory_bytes=1 << 30)
    assert fronts.number_of(Settings(**given), machine) == number


def test_where_the_system_does_not_spread_callers_there_is_one_front_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    machine = Budget(threads=16, affinity=16, quota=None, memory_bytes=1 << 30)
    assert fronts.number_of(Settings(), machine) == 1
    assert not caplog.messages
    assert fronts.number_of(Settings(fronts=3), machine) == 1
    assert caplog.messages == ["there is one front, and not 3: only Linux spreads callers over several"]
