"""One HTTP connection, with limits on the size of a request's head, on the time in which it must come, and on the time
for which nothing of an answer is taken.

It also tells the request that is being answered when its caller leaves: see :class:`saccade.server.watch.Watch`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import Callable, Sized
from contextlib import suppress
from typing import Any, cast
from urllib.parse import quote_from_bytes

import httptools
from starlette.types import Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from saccade.server.crowd import Crowd
from saccade.server.watch import DEPARTURE

GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
"""To who waits for this word before it sends a body; and to who has ended its side of the connection. The latter looks
the same whether it waits for the answer, as `nc -N` and small devices do, or has left; but something that is sent to
who has left comes back as a reset."""

PROBES_S = (0.02, 0.5)
"""The first and the longest pause between two looks for that reset."""

AT_ONCE_S = 0.1
"""HTTP/1.0 knows no such line: who speaks it waits for the answer if its side ends within this time after asking."""

ASCII = "".join(map(chr, range(128)))

LOOK_S = 0.5
"""How often is looked whether an answer that is too large to leave at once is being taken."""

MOST_WAITING = 100
"""Requests that may wait on a connection while an earlier one is answered: each takes 2.8 kB, for 18 bytes that came.
Who sends more gets these answered, and the rest is for another connection."""

PARTING_S = 5.0
"""A server that stops lets go who has taken nothing of an answer for so long, and waits so long for bodies."""


def refusal(status: str, error: str, more: str = "") -> bytes:
    """A whole answer to somebody whose request is not read; the connection is closed after it."""
    return (
        f"HTTP/1.1 {status}\r\n{more}content-type: application/json\r\ncontent-length: {len(error) + 12}\r\n"
        f'connection: close\r\n\r\n{{"error":"{error}"}}'
    ).encode()


TOO_LARGE = refusal(
    "431 Request Header Fields Too Large",
    "The address and the headers of the request are too long. Send long parameters in the body.",
)
FULL = refusal(
    "503 Service Unavailable",
    "The server holds as many connections as it may. Try again soon.",
    "retry-after: 1\r\n",
)
INVALID = refusal(
    "400 Bad Request",
    "This is not HTTP/1.1: the request's first line, a header or the length of its body cannot be read.",
)


TLS = b"\x16\x03"
"""How everything begins that a program sends to an address with https."""

log = logging.getLogger("saccade.server")


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which by itself sends the head of an answer and its body one after the other, and loses the
    body of a request that offers another protocol, as Java offers HTTP/2 with all of its own, and the answer to one
    that more bytes follow than it announced. What follows a body in chunks it takes for headers of the request. To
    HTTP/1.0 it speaks HTTP/1.1. An address that holds more than ASCII, as curl and PHP send what was typed, is no HTTP
    to it."""

    parted: int | None = None
    between = True

    def data_received(self, data: bytes) -> None:
        super().data_received(encoded(data) if self.between else data)
        while self.parted is not None:
            data, self.parted = self._without_offer() + data[self.parted :], None
            self.parser = httptools.HttpRequestParser(self)
            with suppress(AttributeError):  # before httptools 0.6.3; as uvicorn's own parser
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body):
            self.cycle.keep_alive = False  # what was asked whole is answered; the rest is lost with the connection
            return
        self.transport.write(INVALID)
        self.transport.close()

    def on_message_begin(self) -> None:
        self.between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self.declines():
            return
        super().on_headers_complete()
        self.headers = []  # for trailers, which are none of those that the request has (RFC 9110, 6.5.1)
        if self.scope["method"] != "HEAD":
            self.cycle.transport = cast(asyncio.Transport, Whole(self.cycle.transport, self.loop))
        if self.scope["http_version"] == "1.0":
            self.cycle.waiting_for_100_continue = False
            self.cycle.transport = cast(asyncio.Transport, Unframed(self.cycle.transport))

    def on_message_complete(self) -> None:
        if not self.declines():
            self.between = True
            super().on_message_complete()

    def declines(self) -> bool:
        """Whether this head offers another protocol: it is then read again without the offer."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _unsupported_upgrade_warning(self) -> None:
        """That is nothing for the log. The parser stops behind such a head, and skips its body."""
        error = sys.exception()
        if self.declines() and isinstance(error, httptools.HttpParserUpgrade):
            self.parted = error.args[0]

    def _without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % pair for pair in self.headers if pair[0] not in (b"upgrade", b"http2-settings")]
        return b"\r\n".join((*lines, b"", b""))


def encoded(data: bytes) -> bytes:
    """Requests, the first of which has a line of ASCII, percent-encoded where it was not."""
    end = data.find(b"\n")
    line = data if end < 0 else data[:end]
    return data if line.isascii() else quote_from_bytes(line, safe=ASCII).encode() + data[len(line) :]


def guarded(max_header_bytes: int, max_body_bytes: int, patience_s: float, crowd: Crowd) -> type[HttpToolsProtocol]:
    """A connection of a server with no proxy before it.

    uvicorn's takes heads of any size and waits for them for ever, keeps an answer that nobody reads for ever, goes on
    reading requests however many wait already, and resets the connection of a caller that is still sending when the
    answer is complete: many never see that answer then. Who has ended its own side of the connection gets none from it.
    """

    class Guarded(Connection):
        head_bytes = 0
        unfinished_bytes = 0
        begun = False
        in_head = False
        head_is_new = False
        dismissed = False
        dropped_bytes = 0
        asked_at = 0.0
        slow: asyncio.TimerHandle | None = None
        unread: asyncio.TimerHandle | None = None
        untaken = 0
        taken_at = 0.0
        lost = False
        departure: Callable[[], None] | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.flow = InTurn(transport, self.pipeline)
            self._await_head()
            if not crowd.enter(self):
                transport.write(FULL)
                transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            crowd.leave(self)
            self._head_came()
            self._is_read()
            super().connection_lost(exc)
            self.lost = True
            if self.departure is not None:
                self.departure()

        def eof_received(self) -> bool | None:  # type: ignore[override]
            """Whether the connection stays open for the answer; uvicorn's never does."""
            if not self._awaits_answer() or self.cycle.more_body:
                return None
            self.cycle.keep_alive = False
            if self.cycle.response_started:  # what is still to be written shows whether anybody is there
                return True
            if self.scope["http_version"] == "1.0" and self.loop.time() - self.asked_at > AT_ONCE_S:
                return None
            if self.scope["http_version"] != "1.0" and not self.pipeline:  # else another answer may be half written
                self.transport.write(GO_ON)
            self._head_came()
            self._probe(PROBES_S[0], self.loop.time() + patience_s)
            return True

        def _probe(self, pause_s: float, until: float) -> None:
            """Whether who ended its side has left; it counts as gone, too, when it has waited too long."""
            self.slow = None
            if self.cycle.response_started:
                return
            gone = self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if gone or self.loop.time() > until:
                self.transport.abort()
                return
            longer_s = min(2 * pause_s, PROBES_S[1])
            self.slow = self.loop.call_later(pause_s, self._probe, longer_s, until)

        def send_400_response(self, msg: str) -> None:
            if not self.dismissed and not self.transport.is_closing():
                self._dismiss(INVALID)

        def make_room(self) -> None:
            """See :class:`saccade.server.crowd.Guest`."""
            self.transport.abort()

        @property
        def unsent(self) -> bool:
            """See :class:`saccade.server.crowd.Guest`."""
            return self.transport.get_write_buffer_size() > 0

        def pause_writing(self) -> None:
            super().pause_writing()
            self._await_reader()

        def resume_writing(self) -> None:
            self._is_read()
            super().resume_writing()
            if self.cycle is not None and self.cycle.response_complete and self.unsent:
                self._await_reader()

        def tell(self, departure: Callable[[], None] | None) -> None:
            """Calls this once when the caller has left; None calls nobody any more."""
            self.departure = departure
            if departure is not None:
                self.flow.resume_reading()  # what is not read from shows no end
                if self.lost:
                    departure()

        def data_received(self, data: bytes) -> None:
            if self.dismissed:
                self._drop(len(data))
                return
            if self.between and data.startswith(TLS):
                log.warning(
                    "a caller spoke TLS to this port, which takes plain HTTP: its address must begin with http://"
                )
                self.send_400_response("")
                return
            self.head_is_new = False
            super().data_received(data)
            # The parser tells of a line when it is complete, and gathers it until then.
            self.unfinished_bytes = self.unfinished_bytes + len(data) if self.in_head and not self.head_is_new else 0
            if self.unfinished_bytes > max_header_bytes:
                self._refuse_head()
            # Most heads come whole, and need no timer.
            if self.begun and self.slow is None and not self.transport.is_closing():
                self._await_head()

        def on_message_begin(self) -> None:
            if not self.dismissed:
                self.head_bytes = 0
                self.begun = self.in_head = self.head_is_new = True
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._measure(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._measure(len(name) + len(value) + 4)
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            if self.dismissed or self.declines():
                return
            if len(self.pipeline) >= MOST_WAITING:
                self._dismiss(b"")
                return
            self._head_came()
            self.in_head = False
            crowd.busy(self)
            self.scope["extensions"] = {DEPARTURE: {"tell": self.tell}}
            super().on_headers_complete()
            if self.cycle.waiting_for_100_continue:
                vars(self.cycle)["send"] = ending_unless_asked(self.cycle)
            if not self.cycle.keep_alive or self.cycle.waiting_for_100_continue:
                self.cycle.transport = cast(asyncio.Transport, Last(self.cycle.transport, self._part))

        def on_body(self, body: bytes) -> None:
            if not self.dismissed:
                super().on_body(body)

        def on_message_complete(self) -> None:
            if self.dismissed or self.declines():
                return
            self.asked_at = self.loop.time()
            super().on_message_complete()
            if self.cycle.response_complete:
                self._head_came()
                if not self.cycle.keep_alive:
                    self.transport.close()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle.response_complete:
                crowd.idle(self)
            if self._refused():
                self._await_head()
            if self.unsent:
                self._await_reader()

        def _part(self) -> None:
            if not self._refused():
                self.transport.close()

        def _refused(self) -> bool:
            """Whether the answer came before the whole body, whose rest is dropped as it comes, for a while."""
            return self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing()

        def _measure(self, size: int) -> None:
            self.head_bytes += size
            if self.head_bytes > max_header_bytes:
                self._refuse_head()

        def _refuse_head(self) -> None:
            if not self.dismissed and not self.transport.is_closing():
                self._dismiss(TOO_LARGE)

        def _awaits_answer(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _dismiss(self, answer: bytes) -> None:
            """Reads nothing more. What was asked whole before is answered, else this is; as much as a body may be is
            still dropped: many callers would lose the answer with a connection that is reset while they send."""
            self.dismissed, self.in_head = True, False
            broken = self.cycle is not None and self.cycle.more_body
            if broken and self.cycle.response_complete:
                return  # it was refused before, and its rest is dropped already
            self._head_came()
            if self._awaits_answer():
                if not broken:
                    self.cycle.keep_alive = False
                    return
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            self.transport.write(answer)
            self.transport.write_eof()
            self.flow.resume_reading()
            self._await_head()

        def _drop(self, size: int) -> None:
            self.dropped_bytes += size
            if self.dropped_bytes > max_body_bytes and not self._awaits_answer():
                self.transport.close()

        def _await_head(self) -> None:
            self._head_came()
            self.slow = self.loop.call_later(patience_s, self._too_slow)

        def _head_came(self) -> None:
            self.begun = False
            if self.slow is not None:
                self.slow.cancel()
                self.slow = None

        def _too_slow(self) -> None:
            self.slow = None
            if self.pipeline:
                self._await_head()  # nothing is read meanwhile
            elif not self.transport.is_closing():
                self.transport.close()

        def _await_reader(self) -> None:
            """From now on, and anew where something was taken or added: old numbers say nothing of new answers."""
            self._is_read()
            self.untaken, self.taken_at = _untaken(self.transport), self.loop.time()
            self.unread = self.loop.call_later(LOOK_S, self._look_if_read)

        def _is_read(self) -> None:
            if self.unread is not None:
                self.unread.cancel()
                self.unread = None

        def _look_if_read(self) -> None:
            self.unread = None
            if not self.unsent:
                return
            if _untaken(self.transport) < self.untaken:
                self._await_reader()
            elif self.loop.time() - self.taken_at < (min(patience_s, PARTING_S) if crowd.leaving else patience_s):
                self.unread = self.loop.call_later(LOOK_S, self._look_if_read)
            else:
                self.transport.abort()  # it cannot be closed: that would wait for the reader, too

    return Guarded


def ending_unless_asked(cycle: RequestResponseCycle) -> Send:
    """ASGI's send of a request whose body waits for a word. An answer without that word is the connection's last: some
    callers keep the body then, and would go on with a request that is read as the body (RFC 9110, 10.1.1)."""
    send = cycle.send

    async def sending(message: Any) -> None:
        if cycle.waiting_for_100_continue and cycle.more_body:
            cycle.keep_alive = False
        await send(message)

    return sending


def _untaken(transport: Any) -> int:
    """Bytes of answers that the caller's system has not taken. This system holds megabytes of them for a slow one, and
    takes no more for many seconds."""
    held = 0
    if sys.platform == "linux":
        import fcntl
        import termios

        with suppress(OSError, ValueError):
            number = transport.get_extra_info("socket").fileno()
            held = struct.unpack("i", fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4)))[0]
    return int(transport.get_write_buffer_size()) + held


class InTurn(FlowControl):
    """Reads nothing more of a connection while requests that came on it wait for their turn."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class Whole:
    """The way out of one answer: its head waits for the first part of its body, so that both leave together.

    A process that is killed between them leaves half an answer, which a proxy cannot ask another replica for. A head
    that is not followed at once goes alone. The word for which a caller waits before it sends a body is no head.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.is_closing = transport.is_closing
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        self._begun = False

    def write(self, data: bytes) -> None:
        """The head, and then parts of the body."""
        if data == GO_ON:
            self._transport.write(data)
        elif not self._begun:
            self._begun, self._head = True, data
            self._loop.call_soon(self._alone)
        elif self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines((head, data))
        else:
            self._transport.write(data)

    def close(self) -> None:
        """After what was written."""
        self._alone()
        self._transport.close()

    def _alone(self) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head)


class Unframed:
    """The way out for HTTP/1.0, which knows no chunks: a body of unknown length ends with the connection."""

    CHUNKED = b"transfer-encoding: chunked\r\n"

    def __init__(self, transport: asyncio.Transport) -> None:
        self.is_closing = transport.is_closing
        self.close = transport.close
        self._write = transport.write
        self._begun = self._chunked = False

    def write(self, data: bytes) -> None:
        """The head, and then parts of the body, each in a chunk of its own."""
        if not self._begun:
            self._begun, self._chunked = True, self.CHUNKED in data
            data = data.replace(self.CHUNKED, b"")
        elif self._chunked:
            size, _, rest = data.partition(b"\r\n")
            data = rest[: int(size or b"0", 16)]
        self._write(data)


class Last:
    """The way out for the last answer on a connection; closing it is left to the connection."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close
