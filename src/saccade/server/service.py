"""What the first process does for one front: it answers calls, finds models, and takes in relayed requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.types import Message

from saccade.call import Call
from saccade.card import Card
from saccade.engine import wire
from saccade.errors import Error, UnknownModel, place, short_of
from saccade.server import channel
from saccade.server.app import App
from saccade.server.channel import Channel, FromFront

log = logging.getLogger("saccade.server")

CREDIT = 4
"""Frames of a video that a front may have before its caller took them."""


class Service:
    """One front's end of the channel in the first process. What it began ends with it."""

    def __init__(
        self, app: App, told: Callable[[channel.Standing | channel.Report], None], lost: Callable[[], None]
    ) -> None:
        """``told`` takes what the front says of itself; ``lost`` is called once, when it is gone."""
        self.channel: Channel[FromFront] = Channel(FromFront, self._take, self._ended)
        self._app = app
        self._told = told
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._work: dict[int, asyncio.Task[None]] = {}
        self._credits: dict[int, asyncio.Semaphore] = {}
        self._guests: dict[int, Guest] = {}

    def _take(self, message: FromFront, body: bytes) -> None:
        match message:
            case channel.Ask():
                call = msgspec.structs.replace(message.call, media=body)
                work = self._predict if call.clip is None else self._stream
                self._start(message.id, work(message.id, call))
            case channel.Leave():
                if message.id in self._work:
                    self._work[message.id].cancel()
            case channel.Grant():
                if message.id in self._credits:
                    self._credits[message.id].release()
            case channel.Find():
                self._start(message.id, self._find(message))
            case channel.Visit():
                guest = self._guests[message.id] = Guest(message, self.channel)
                self._start(message.id, self._receive(guest))
            case channel.Gave() | channel.Took():
                if message.id in self._guests:
                    self._guests[message.id].take(message, body)
            case channel.Lines():
                self._app.journal.add(body.decode())
            case channel.Standing() | channel.Report():
                self._told(message)

    async def _predict(self, number: int, call: Call) -> None:
        answer = await self._app.engine.predict(call)
        self.channel.send(wire.Told(number, msgspec.Raw(wire.packed_answer(answer))))

    async def _stream(self, number: int, call: Call) -> None:
        credit = self._credits[number] = asyncio.Semaphore(CREDIT)
        try:
            async with aclosing(self._app.engine.stream(call)) as frames:
                async for answer in frames:
                    await credit.acquire()
                    self.channel.send(wire.Told(number, msgspec.Raw(wire.packed_answer(answer)), more=True))
        finally:
            del self._credits[number]
        self.channel.send(wire.Over(number))

    async def _find(self, wish: channel.Find) -> None:
        if wish.fetch:
            await self._app.fetched(wish.ref)
        card = await self._only() if wish.ref == channel.ONLY else await self._app.desk.find(wish.ref)
        self.channel.send(channel.Found(wish.id, card))

    async def _only(self) -> Card:
        cards = await self._app.desk.all()
        if len(cards) == 1:
            return cards[0]
        raise UnknownModel(f"There are {len(cards)} models; name the one that is meant.")

    async def _receive(self, guest: Guest) -> None:
        try:
            await self._app(guest.scope, guest.receive, guest.send)
        finally:
            del self._guests[guest.number]
        self.channel.send(wire.Over(guest.number))

    def _start(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        task = self._work[number] = self._loop.create_task(work)
        task.add_done_callback(lambda done: self._done(number, done))

    def _done(self, number: int, task: asyncio.Task[None]) -> None:
        del self._work[number]
        error = None if task.cancelled() else task.exception()
        if error is not None and (shortage := short_of(error)) is not None:
            log.warning("%s", shortage.message)
            error = shortage
        if isinstance(error, UnknownModel):
            self.channel.send(channel.Missing(number, error.message, error.offered))
        elif isinstance(error, Error):
            kind, text = wire.named(error)
            self.channel.send(wire.Sorry(number, kind, text, getattr(error, "retry_after_s", 0.0)))
        elif error is not None:
            log.error("a front's question failed: %s", place(error))
            self.channel.send(wire.Sorry(number, channel.BUG, ""))

    def _ended(self) -> None:
        """Nobody waits for the answers any more."""
        for task in tuple(self._work.values()):
            task.cancel()
        self._lost()


class Guest:
    """A request that came through a front, as ASGI has it."""

    def __init__(self, visit: channel.Visit, line: Channel[FromFront]) -> None:
        self.number = visit.id
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": visit.http_version,
            "method": visit.method,
            "scheme": visit.scheme,
            "path": visit.path,
            "raw_path": visit.raw_path,
            "query_string": visit.query_string,
            "root_path": "",
            "headers": visit.headers,
            "client": visit.client,
            "server": visit.server,
        }
        self._channel = line
        self._wanted = False
        self._given: asyncio.Queue[Message] = asyncio.Queue()
        self._taken = asyncio.Event()

    def take(self, message: channel.Gave | channel.Took, body: bytes) -> None:
        """What the front says about it."""
        if isinstance(message, channel.Took):
            self._taken.set()
            return
        self._wanted = False
        part: Message = {"type": "http.request", "body": body, "more_body": message.more}
        self._given.put_nowait({"type": "http.disconnect"} if message.left else part)

    async def receive(self) -> Message:
        """ASGI's; one that was given up is not asked for twice."""
        if not self._wanted and self._given.empty():
            self._wanted = True
            self._channel.send(channel.Want(self.number))
        return await self._given.get()

    async def send(self, message: Message) -> None:
        """ASGI's; returns when the part is on its way to the caller."""
        if message["type"] == "http.response.start":
            headers = tuple((bytes(name), bytes(value)) for name, value in message.get("headers", ()))
            self._channel.send(channel.Head(self.number, message["status"], headers))
            return
        self._taken.clear()
        self._channel.send(channel.Part(self.number, message.get("more_body", False)), message.get("body", b""))
        await self._taken.wait()
