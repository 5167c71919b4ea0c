"""One HTTP connection, with limits on the size of a request's head and on the time in which it must come."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def guarded(max_header_bytes: int, head_timeout_s: float) -> type[HttpToolsProtocol]:
    """uvicorn's connection, which by itself takes heads of any size and waits for them for ever."""

    class Connection(HttpToolsProtocol):
        head_bytes = 0
        slow: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_came()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            self.head_bytes = 0
            if self.slow is None:
                self._await_head()
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._measure(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._measure(len(name) + len(value) + 4)
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._head_came()
            if self.head_bytes <= max_header_bytes:
                super().on_headers_complete()

        def _measure(self, size: int) -> None:
            self.head_bytes += size
            if self.head_bytes > max_header_bytes and not self.transport.is_closing():
                self.transport.write(TOO_LARGE)
                self.transport.close()

        def _await_head(self) -> None:
            self.slow = self.loop.call_later(head_timeout_s, self._too_slow)

        def _head_came(self) -> None:
            if self.slow is not None:
                self.slow.cancel()
                self.slow = None

        def _too_slow(self) -> None:
            self.slow = None
            if not self.transport.is_closing():
                self.transport.close()

    return Connection
