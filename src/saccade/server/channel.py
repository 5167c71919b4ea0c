"""What a front and the first process say to each other over their socket.

The frames are those of the workers (see :mod:`saccade.engine.wire`): two lengths, a head in msgpack, a body as it is.
An ``id`` is given by the front to something that it began, and names it until it is over. Requests that are not the
front's to answer are relayed as what ASGI makes of them: the first process asks for every part of a body and is told
of every part that was sent, so that neither side gets ahead of a slow caller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar, cast

import msgspec

from saccade.call import Call
from saccade.card import Card
from saccade.engine.wire import PREFIX, Over, Sorry, Told, packed
from saccade.errors import place
from saccade.server.metrics import Family
from saccade.server.settings import Settings

log = logging.getLogger("saccade.server")

VERSION = 1
ONLY = ""
"""The ref of the only model, on a server that has just one."""

BUG = "Bug"
"""Where an error's name would be: something failed that should not have; the log of the first process says where."""

ROOM = 256 << 10
"""Up to this size frames are read together, and head and body are sent together; larger bodies get a buffer."""

T = TypeVar("T")


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """To the front: serve like this."""

    version: int
    settings: Settings


class Facts(msgspec.Struct, frozen=True, tag="facts"):
    """To the front, whenever it changes: what it needs to know of the house. ``hosts`` are names of endpoints."""

    ready_at: float = 0.0
    draining: bool = False
    hosts: tuple[str, ...] = ()


class Found(msgspec.Struct, frozen=True, tag="found"):
    """To the front: the Card that was asked for."""

    id: int
    card: Card


class Missing(msgspec.Struct, frozen=True, tag="missing"):
    """To the front: no such model is here; ``offered`` as in :class:`saccade.errors.UnknownModel`."""

    id: int
    message: str
    offered: str


class Want(msgspec.Struct, frozen=True, tag="want"):
    """To the front: the next part of what the visitor sends."""

    id: int


class Head(msgspec.Struct, frozen=True, tag="head"):
    """To the front: how the answer to a visitor begins; it is sent with its first part."""

    id: int
    status: int
    headers: tuple[tuple[bytes, bytes], ...]


class Part(msgspec.Struct, frozen=True, tag="part"):
    """To the front: a part of the answer to a visitor, in the body; ``more`` will come."""

    id: int
    more: bool


class Count(msgspec.Struct, frozen=True, tag="count"):
    """To the front: report now, with this number."""

    number: int


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """To the front: leave."""


class Standing(msgspec.Struct, frozen=True, tag="standing"):
    """From the front: it takes callers."""

    pid: int


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """From the front: a call; its media are the body, and its deadline is of a clock that both processes share."""

    id: int
    call: Call


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """From the front: nobody wants this any more."""

    id: int


class Grant(msgspec.Struct, frozen=True, tag="grant"):
    """From the front: a frame of this video was taken."""

    id: int


class Find(msgspec.Struct, frozen=True, tag="find"):
    """From the front: which Card is behind this ref? With ``fetch``, its model is fetched first."""

    id: int
    ref: str
    fetch: bool = False


class Visit(msgspec.Struct, frozen=True, tag="visit"):
    """From the front: a request that the first process answers, as ASGI has it."""

    id: int
    method: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    scheme: str
    http_version: str
    client: tuple[str, int] | None
    server: tuple[str, int | None] | None


class Gave(msgspec.Struct, frozen=True, tag="gave"):
    """From the front: what a visitor sent, in the body; ``left``: the visitor is gone."""

    id: int
    more: bool
    left: bool = False


class Took(msgspec.Struct, frozen=True, tag="took"):
    """From the front: the last part is on its way to the visitor."""

    id: int


class Lines(msgspec.Struct, frozen=True, tag="lines"):
    """From the front: lines for the access log, in the body; one process writes it, so that no line is torn."""


class Report(msgspec.Struct, frozen=True, tag="report"):
    """From the front, now and then and when asked: it lives, and what it counted since it began (None: as before)."""

    number: int
    draining: bool
    inflight: int
    connections: int
    calls: int
    families: tuple[Family, ...] | None


ToFront: TypeAlias = Begin | Facts | Found | Missing | Told | Over | Sorry | Want | Head | Part | Count | Stop
FromFront: TypeAlias = Standing | Ask | Leave | Grant | Find | Visit | Gave | Took | Lines | Report


class Channel(asyncio.BufferedProtocol, Generic[T]):
    """One end of the socket: whole messages come out of it, each with its body, and go into it."""

    def __init__(self, kind: Any, take: Callable[[T, bytes], None], lost: Callable[[], None]) -> None:
        """``take`` is called with each message of the types in ``kind``; ``lost`` when the other side has ended."""
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._take = take
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(ROOM)
        self._begin = self._end = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost()

    @property
    def is_open(self) -> bool:
        """Whether the other side may still hear."""
        return self._transport is not None

    def send(self, message: ToFront | FromFront, body: bytes = b"") -> None:
        """Never waits; into a channel that is lost, nothing is sent."""
        transport = self._transport
        if transport is None:
            return
        head = packed(message, body)
        if len(body) <= ROOM:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)

    def close(self) -> None:
        """Sends what was given, then ends."""
        if self._transport is not None:
            self._transport.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Room behind what has come: for the rest of a frame that is begun, or for several small ones."""
        return memoryview(self._buffer)[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        """Takes whole frames out of the buffer; the beginning of one that is not whole stays."""
        self._end += nbytes
        missing = self._take_frames()
        begin, rest = self._begin, self._end - self._begin
        if rest + missing > len(self._buffer):
            self._buffer, old = bytearray(rest + missing), self._buffer
            self._buffer[:rest] = old[begin : begin + rest]
        elif not rest and len(self._buffer) > ROOM:
            self._buffer = bytearray(ROOM)
        elif not rest or self._end + missing > len(self._buffer):
            self._buffer[:rest] = self._buffer[begin : begin + rest]
        else:
            return
        self._begin, self._end = 0, rest

    def _take_frames(self) -> int:
        """How many bytes are missing to the next whole frame."""
        with memoryview(self._buffer) as view:
            while self._end - self._begin >= PREFIX.size:
                head, body = PREFIX.unpack_from(view, self._begin)
                at = self._begin + PREFIX.size
                missing: int = at + head + body - self._end
                if missing > 0:
                    return missing
                self._begin = at + head + body
                # Arrays in a message are not copied out of it, and the buffer is used again.
                self._told(bytes(view[at : at + head]), bytes(view[at + head : self._begin]))
        return PREFIX.size

    def _told(self, head: bytes, body: bytes) -> None:
        try:
            message = self._decoder.decode(head)
        except msgspec.DecodeError as error:
            log.error("the other side of a front speaks another language: %s", place(error))
            if self._transport is not None:
                self._transport.abort()
            return
        self._take(message, body)
