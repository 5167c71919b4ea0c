"""A front, where there are several: ``python -m saccade.server.front LINE LISTENER PARENT``.

The first process starts it. It takes callers, reads and gates their requests, and renders the answers; the engine, the
cache and everything that is one of a kind are in the first process. What is no prediction on the shared URL is relayed
there whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from itertools import count
from typing import Any, Literal

from msgspec.structs import replace
from starlette.types import Message, Receive, Scope, Send

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.dialects.dialect import Dialect, Incoming, ModelState, Outgoing
from saccade.engine import wire
from saccade.engine.job import Done, Failed, Frame
from saccade.engine.kin import die_with
from saccade.errors import Error, Overloaded, UnknownModel, place
from saccade.server import channel
from saccade.server.access import Caller, Gate
from saccade.server.app import App, Exchange, installed
from saccade.server.channel import Channel, Facts, ToFront
from saccade.server.database import Database
from saccade.server.desk import FrontDesk
from saccade.server.journal import Journal
from saccade.server.metrics import Metrics
from saccade.server.paths import normalised
from saccade.server.reception import loop_factory, server_of, speak
from saccade.server.settings import Settings
from saccade.server.wiring import configured, open_fetcher, open_gate, open_regions

log = logging.getLogger("saccade.server")

FRESH_S = 0.5
"""How long the first process is believed about a model before it is asked again."""

MOST_TOLD = 1000
MOST_QUESTIONS = 50
"""So often may be asked for one request (one name in it may mean several models), before it is given up."""

REPORT_S = 0.5
DRAIN_LOOK_S = 0.02


class Unasked(Exception):
    """The first process was not asked about the model ``ref`` yet; the request is read again once it was."""

    def __init__(self, ref: str) -> None:
        super().__init__(ref)
        self.ref = ref


class House:
    """The first process as a front sees it: everything that is asked of it, and what it says."""

    def __init__(self) -> None:
        self.channel: Channel[ToFront] = Channel(ToFront, self._take, self._lost)
        self.facts = Facts()
        self.begun: asyncio.Future[Settings] = asyncio.get_running_loop().create_future()
        self.stopped = asyncio.Event()
        self.report = asyncio.Event()
        self._leaving: asyncio.Event | None = None
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._films: dict[int, asyncio.Queue[Answer | BaseException | None]] = {}
        self._visitors: dict[int, Visitor] = {}

    async def predict(self, call: Call) -> Answer:
        """The answer of the engine, or its error."""
        answer: Answer = await self._asked(channel.Ask(next(self._ids), replace(call, media=b"")), call.media)
        return answer

    async def stream(self, call: Call) -> AsyncGenerator[Answer]:
        """An answer per frame; the first process stays only a few frames ahead."""
        number = next(self._ids)
        frames = self._films[number] = asyncio.Queue()
        self.channel.send(channel.Ask(number, replace(call, media=b"")), call.media)
        over = False
        try:
            while True:
                item = await frames.get()
                if not isinstance(item, Answer):
                    over = True
                    if item is not None:
                        raise item
                    return
                yield item
                self.channel.send(channel.Grant(number))
        finally:
            del self._films[number]
            if not over:
                self.channel.send(channel.Leave(number))

    async def card(self, ref: str, *, fetch: bool) -> Card:
        """The Card behind a ref, fetched first if that is wished. Raises what the library raises."""
        card: Card = await self._asked(channel.Find(next(self._ids), ref, fetch))
        return card

    async def visit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relays a request and the answer to it."""
        number = next(self._ids)
        visitor = self._visitors[number] = Visitor(number, self.channel, receive, send)
        try:
            await self._asked(
                channel.Visit(
                    number,
                    scope["method"],
                    scope["path"],
                    scope.get("raw_path") or scope["path"].encode(),
                    scope.get("query_string", b""),
                    tuple((name, value) for name, value in scope["headers"]),
                    scope.get("scheme", "http"),
                    scope.get("http_version", "1.1"),
                    _address(scope.get("client")),
                    _address(scope.get("server")),
                )
            )
        finally:
            del self._visitors[number]
            visitor.close()

    async def leave(self) -> None:
        """Sends what is still to be sent, and ends the connection."""
        self._leaving = asyncio.Event()
        self.channel.close()
        await self._leaving.wait()

    async def _asked(self, question: channel.Ask | channel.Find | channel.Visit, body: bytes = b"") -> Any:
        number = question.id
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self.channel.send(question, body)
        try:
            return await answer
        except asyncio.CancelledError:
            self.channel.send(channel.Leave(number))
            raise
        finally:
            del self._waiting[number]

    def _take(self, message: ToFront, body: bytes) -> None:
        match message:
            case wire.Told() | wire.Over() | wire.Sorry():
                self._settle(message)
            case channel.Found():
                self._answer(message.id, message.card)
            case channel.Want() | channel.Head() | channel.Part():
                if message.id in self._visitors:
                    self._visitors[message.id].take(message, body)
            case channel.Facts():
                self.facts = message
                self.report.set()
            case channel.Count():
                self.report.set()
            case channel.Begin():
                if message.version != channel.VERSION:
                    log.error("the first process is of another version of saccade; restart the server")
                    os._exit(1)
                self.begun.set_result(message.settings)
            case channel.Stop():
                self.stopped.set()

    def _settle(self, message: wire.Told | wire.Over | wire.Sorry) -> None:
        if isinstance(message, wire.Sorry) and message.kind == channel.BUG:
            self._answer(message.id, RuntimeError("the first process failed; its log says where"))
            return
        reply = wire.to_reply(message)
        if isinstance(reply, Done | Frame):
            self._answer(reply.id, reply.answer)
        else:
            self._answer(reply.id, reply.error if isinstance(reply, Failed) else None)

    def _answer(self, number: int, outcome: Any) -> None:
        if number in self._films:
            self._films[number].put_nowait(outcome)
            return
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return
        if isinstance(outcome, BaseException):
            waiting.set_exception(outcome)
        else:
            waiting.set_result(outcome)

    def _lost(self) -> None:
        if self._leaving is None:
            # Nobody here can be answered any more, and the port belongs to whoever comes next.
            os._exit(0)
        self._leaving.set()


class Visitor:
    """A caller whose request is answered by the first process."""

    def __init__(self, number: int, line: Channel[ToFront], receive: Receive, send: Send) -> None:
        self._number = number
        self._channel = line
        self._receive = receive
        self._send = send
        self._head: Message | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, message: channel.Want | channel.Head | channel.Part, body: bytes) -> None:
        """Does what the first process wants."""
        match message:
            case channel.Want():
                self._start(self._give())
            case channel.Head():
                headers = list(message.headers)
                self._head = {"type": "http.response.start", "status": message.status, "headers": headers}
            case channel.Part():
                self._start(self._tell({"type": "http.response.body", "body": body, "more_body": message.more}))

    def close(self) -> None:
        """It is over."""
        for task in self._tasks:
            task.cancel()

    async def _give(self) -> None:
        message = await self._receive()
        left = message["type"] == "http.disconnect"
        gave = channel.Gave(self._number, message.get("more_body", False), left)
        self._channel.send(gave, message.get("body", b""))

    async def _tell(self, part: Message) -> None:
        head, self._head = self._head, None
        if head is not None:
            await self._send(head)
        await self._send(part)
        self._channel.send(channel.Took(self._number))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Engine:
    """The engine in the first process; see :class:`saccade.server.desk.Engine`. That one starts, fills and ends it."""

    def __init__(self, house: House) -> None:
        self.predict = house.predict
        self.stream = house.stream

    async def start(self) -> None:
        """Done there."""

    async def load(self, ref: str) -> None:
        """Done there: with the first call, or by the console, whose pages are relayed."""

    def state(self, ref: str) -> ModelState:
        """Told there: the pages that show it are relayed."""
        return "cold"

    def info(self) -> dict[str, Any]:
        """Told there."""
        return {}

    async def drain(self) -> None:
        """Done there."""

    async def close(self) -> None:
        """Done there."""


class Directory:
    """The library of the first process, as far as this front has asked about it."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._told: dict[str, tuple[float, Card | Error]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def card(self, ref: str, *, fetch: bool = False) -> Card:
        """The Card as last told; may be called in any thread, with ``fetch`` only in another than the event loop's.

        Raises:
            Unasked: nobody asked lately.
            Error: what the first process said.
        """
        if fetch:
            return asyncio.run_coroutine_threadsafe(self._fetched(ref), self._loop).result()
        told_at, outcome = self._told.get(ref, (float("-inf"), None))
        if outcome is None or time.monotonic() - told_at > FRESH_S:
            raise Unasked(ref)
        if isinstance(outcome, Error):
            raise outcome.with_traceback(None)
        return outcome

    def cards(self) -> Sequence[Card]:
        """The only one there is; none where there are several: the pages that list them are relayed.

        Raises:
            Unasked: nobody asked lately.
        """
        try:
            return (self.card(channel.ONLY),)
        except UnknownModel:
            return ()

    async def ask(self, ref: str) -> None:
        """Asks the first process; several who want to know wait for one answer."""
        if ref not in self._asking:
            self._asking[ref] = self._loop.create_task(self._asked(ref))
            self._asking[ref].add_done_callback(lambda _: self._asking.pop(ref))
        await asyncio.shield(self._asking[ref])

    async def _asked(self, ref: str) -> None:
        try:
            self._keep(ref, await self._house.card(ref, fetch=False))
        except Error as error:
            self._keep(ref, error)

    async def _fetched(self, ref: str) -> Card:
        card = await self._house.card(ref, fetch=True)
        self._keep(ref, card)
        return card

    def _keep(self, ref: str, outcome: Card | Error) -> None:
        now = time.monotonic()
        if len(self._told) >= MOST_TOLD:  # names come from callers
            self._told = {name: told for name, told in self._told.items() if now - told[0] <= FRESH_S}
        self._told[ref] = now, outcome
        if isinstance(outcome, Card):
            self._told[outcome.name] = now, outcome


class Desk(FrontDesk):
    """What dialects ask while they read a request."""

    def __init__(self, house: House, directory: Directory, settings: Settings) -> None:
        device: Literal["cpu", "gpu"] = "gpu" if settings.device == "cuda" else "cpu"
        super().__init__(directory, Engine(house), settings.default_model, device)
        self._house = house

    def uptime_s(self) -> float:
        """The server's, not this process's, which may have taken another's place."""
        return time.monotonic() - self._house.facts.ready_at


class FrontApp(App):
    """The application of a front: predictions on the shared URL are answered here, everything else is relayed."""

    def __init__(
        self,
        house: House,
        directory: Directory,
        dialects: Sequence[Dialect],
        gate: Gate,
        settings: Settings,
    ) -> None:
        super().__init__(
            dialects,
            Desk(house, directory, settings),
            gate,
            settings,
            metrics=Metrics(),
            journal=Journal(settings.access_log, _Lines(house)),
            fetch=open_fetcher(settings),
        )
        self.regions = open_regions(settings)
        self.calls = 0
        self._first = house
        self._directory = directory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and not self._is_ours(scope):
            await self._first.visit(scope, receive, send)
            return
        self.draining = self._first.facts.draining
        self.calls += 1
        await super().__call__(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        if scope["method"] != "POST":
            return False
        found = self.paths.find("POST", normalised(scope["path"]))
        if not found.candidates or any(one.route.action != "predict" for one in found.candidates):
            return False
        return not self._first.facts.hosts or _host(scope) not in self._first.facts.hosts

    async def _predict(self, exchange: Exchange, dialect: Dialect, incoming: Incoming, caller: Caller) -> Outgoing:
        """As it is; begun anew while the request names models that the first process was not asked about."""
        for _ in range(MOST_QUESTIONS):
            try:
                return await super()._predict(exchange, dialect, incoming, caller)
            except Unasked as missing:
                await self._directory.ask(missing.ref)
        raise Overloaded("The server is too busy to look for the model. Try again shortly.")


class _Lines:
    """Where the access log goes."""

    def __init__(self, house: House) -> None:
        self._house = house

    def write(self, text: str) -> None:
        self._house.channel.send(channel.Lines(), text.encode())

    def flush(self) -> None:
        """Nothing is held."""


async def serve(line: socket.socket, listener: socket.socket) -> None:
    """Takes callers from the listener until the first process says Stop."""
    loop = asyncio.get_running_loop()
    house = House()
    await loop.create_connection(lambda: house.channel, sock=line)
    settings = await house.begun
    gate = open_gate(settings, Database(settings.database_url, settings.home))
    app = FrontApp(house, Directory(house), configured(installed(), settings), gate, settings)
    server = server_of(app)
    serving = loop.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    if serving.done():
        serving.result()
    gc.collect()
    gc.freeze()
    house.channel.send(channel.Standing(os.getpid()))
    reporting = loop.create_task(_report(house, app, server))
    await house.stopped.wait()
    server.should_exit = True
    await serving
    await app.close()
    reporting.cancel()
    await house.leave()


async def _report(house: House, app: FrontApp, server: Any) -> None:
    """Tells the first process how things are: now and then, when asked, and as soon as nothing is left to finish."""
    while True:
        draining, inflight = house.facts.draining, app.inflight
        app.metrics.inflight.set(inflight)
        connections = len(server.server_state.connections)
        families = tuple(app.metrics.families())
        house.channel.send(channel.Report(draining, inflight, connections, app.calls, families))
        house.report.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_LOOK_S if draining and inflight else REPORT_S):
                await house.report.wait()


def _address(pair: Any) -> tuple[str, Any] | None:
    return (pair[0], pair[1]) if pair else None


def _host(scope: Scope) -> str:
    """The host name that was called, without the port."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    return host.rpartition(":")[0] or host


def main() -> None:
    """Ends when the first process says so, or is gone."""
    die_with(int(sys.argv[3]))
    for number in (signal.SIGINT, signal.SIGTERM):
        # Service managers tell all processes of a service; the first one lets the others finish before they leave.
        signal.signal(number, signal.SIG_IGN)
    speak()
    line, listener = socket.socket(fileno=int(sys.argv[1])), socket.socket(fileno=int(sys.argv[2]))
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(line, listener))
    except Error as error:
        log.error("a front cannot start: %s", error.message)
        sys.exit(1)
    except Exception as error:
        log.error("a front ends: %s", place(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
