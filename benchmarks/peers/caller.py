"""Callers over HTTP that cost as little as Python can: whole requests made before, answers only counted.

They run on the same cores as the server that they measure, so what they cost is told beside what they found.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any, cast

import msgspec


@dataclass
class Found:
    """What came of a number of calls; seconds, of answered calls in the order in which they ended."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    bodies: dict[int, bytes] = field(default_factory=dict)
    whole_s: float = 0.0
    own_cpu_s: float = 0.0


def request(
    port: int, path: str, body: bytes, media_type: str = "image/jpeg", headers: Sequence[tuple[str, str]] = ()
) -> bytes:
    """A whole HTTP/1.1 request."""
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Type: {media_type}"]
    lines += [f"{name}: {value}" for name, value in (*headers, ("Content-Length", str(len(body))))]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def form(field_name: str, photo: bytes) -> tuple[bytes, str]:
    """The body and the media type of a form with one file."""
    edge = "saccade-edge"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="{field_name}"; filename="photo.jpg"\r\n'
    body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + photo + f"\r\n--{edge}--\r\n".encode()
    return body, f"multipart/form-data; boundary={edge}"


def objects(body: bytes) -> int:
    """How many rows an answer holds, whatever its form: the longest list of objects in it."""

    def longest(value: Any) -> int:
        match value:
            case str() if value.startswith(("{", "[")):
                return longest(msgspec.json.decode(value))
            case list() if value and isinstance(value[0], dict) and {"box", "xyxy", "label", "score"} & set(value[0]):
                return len(value)
            case list():
                return max(map(longest, value), default=0)
            case dict():
                return max(map(longest, value.values()), default=0)
            case _:
                return 0

    return longest(msgspec.json.decode(body))


async def closed(port: int, requests: Sequence[bytes], concurrency: int, calls: int) -> Found:
    """So many calls by so many callers, each of whom waits for an answer before the next; all are drained.

    The requests take turns. The first good answer to each is kept.
    """
    found = Found()
    todo = islice(cycle(enumerate(requests)), calls)
    loop = asyncio.get_running_loop()

    async def caller() -> None:
        transport, connection = await loop.create_connection(Connection, "127.0.0.1", port)
        for number, data in todo:
            begun = time.perf_counter()
            status, body = await connection.ask(data)
            if status == 200:
                found.seconds.append(time.perf_counter() - begun)
                found.bodies.setdefault(number, body)
            else:
                found.failed += 1
        transport.close()

    begun, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(min(concurrency, calls))))
    found.whole_s, found.own_cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    return found


class Connection(asyncio.Protocol):
    """One connection that stays open, with one request under way."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._data = bytearray()
        self._status = 0
        self._start = 0
        self._length: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses.
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, data: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Sends a whole request; status and body of the answer."""
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._data.clear()
        self._status = 0
        self._transport.write(data)
        return self._waiting

    def say(self, data: bytes) -> None:
        """Sends bytes without waiting for anything."""
        assert self._transport is not None
        self._transport.write(data)

    def leave(self) -> None:
        """Closes the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def closed(self) -> bool:
        """Whether either side has closed it."""
        return self._transport is None or self._transport.is_closing()

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._status and not self._head():
            return
        body = bytes(self._data[self._start :])
        if self._length is None:
            body, whole = dechunked(body)
        else:
            whole = len(body) >= self._length
        if whole and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((self._status, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError("the server hung up before it answered"))

    def _head(self) -> bool:
        """Reads status and length when the head is there."""
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, *lines = bytes(self._data[:end]).lower().split(b"\r\n")
        fields = dict(line.split(b":", 1) for line in lines)
        length = fields.get(b"content-length")
        self._length = None if length is None else int(length)
        self._status, self._start = int(first.split(b" ")[1]), end + 4
        return True


def dechunked(data: bytes) -> tuple[bytes, bool]:
    """A chunked body put together, and whether it is whole."""
    parts: list[bytes] = []
    at = 0
    while (line := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:line].split(b";")[0], 16)
        if size == 0:
            return b"".join(parts), data.endswith(b"\r\n\r\n")
        parts.append(data[line + 2 : line + 2 + size])
        at = line + 2 + size + 2
    return b"".join(parts), False
