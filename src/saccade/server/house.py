"""The first process as a front sees it: an engine, a library, and somebody who answers what is not the front's."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Coroutine, Sequence
from itertools import count
from typing import Any

from msgspec.structs import replace
from starlette.types import Message, Receive, Scope, Send

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.dialects.dialect import ModelState
from saccade.engine import wire
from saccade.engine.job import Done, Failed, Frame
from saccade.errors import UnknownModel
from saccade.server import channel
from saccade.server.channel import Channel, Facts, ToFront
from saccade.server.settings import Settings

log = logging.getLogger("saccade.server")


class House:
    """The first process as a front sees it: everything that is asked of it, and what it says."""

    def __init__(self) -> None:
        self.channel: Channel[ToFront] = Channel(ToFront, self._take, self._lost)
        self.facts = Facts()
        self.begun: asyncio.Future[Settings] = asyncio.get_running_loop().create_future()
        self.stopped = asyncio.Event()
        self.report = asyncio.Event()
        self.counted = 0
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
            case channel.Missing():
                missing = UnknownModel(message.message)
                missing.offered = message.offered
                self._answer(message.id, missing)
            case channel.Want() | channel.Head() | channel.Part():
                if message.id in self._visitors:
                    self._visitors[message.id].take(message, body)
            case channel.Facts():
                self.facts = message
                self.report.set()
            case channel.Count():
                self.counted = message.number
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
    """The library of the first process, for what may wait in a thread; :class:`saccade.server.front.Desk` asks the
    rest."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()

    def card(self, ref: str, *, fetch: bool = False) -> Card:
        """The Card behind a ref; raises what the first process does. Not for the event loop's own thread."""
        return asyncio.run_coroutine_threadsafe(self._house.card(ref, fetch=fetch), self._loop).result()

    def cards(self) -> Sequence[Card]:
        """Told there: the pages that list them are relayed."""
        return ()


def _address(pair: Any) -> tuple[str, Any] | None:
    return (pair[0], pair[1]) if pair else None
