"""The body of a request, read whole, within limits of size and time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

from starlette.types import Receive

from saccade.errors import BadInput, Overloaded, TooLarge
from saccade.server.watch import Watch

PACKED = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Content encodings that are undone, with zlib's window bits for each."""

UNPACKED = frozenset(
    {"", "identity", "none", "utf-8", "utf8", "us-ascii", "iso-8859-1", "7bit", "8bit", "binary", "base64"}
)
"""Words that some clients put there which are no content encodings; the hosts of old did not look at the header."""

RAW_DEFLATE = -15
"""Window bits of a deflate stream without zlib's frame, which .NET's DeflateStream and others send for ``deflate``."""

MEMBER = b"\x1f\x8b\x08"
MAX_MEMBERS = 100
"""A gzip body may be several, one behind the other (RFC 1952, section 2.2); for each, those behind it are copied."""

OFF_LOOP_BYTES = 4 << 10
"""Packed bodies over this size are unpacked in a thread, so that other calls go on meanwhile: they may hold a thousand
times as much."""
STEP_BYTES = 4 << 20
"""So much is unpacked before the shelf is asked for more room."""


class Departed(Exception):
    """The caller closed the connection."""


class Shelf:
    """How many bytes of request bodies may be held at one time, over all connections."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, size: int) -> None:
        """Raises Overloaded when the shelf is full."""
        if self.held_bytes + size > self.limit_bytes:
            raise Overloaded("The server holds too many large requests at the moment. Try again shortly.")
        self.held_bytes += size

    def give(self, size: int) -> None:
        """Makes room again."""
        self.held_bytes -= size


class Body:
    """One request's body; its bytes lie on the shelf until :meth:`release`."""

    def __init__(
        self, receive: Receive, headers: Mapping[str, str], shelf: Shelf, max_bytes: int, watch: Watch
    ) -> None:
        self._receive = receive
        self._headers = headers
        self._shelf = shelf
        self._max_bytes = max_bytes
        self._watch = watch
        self._held = 0

    async def read(self, timeout_s: float) -> bytes:
        """The whole body, unpacked.

        Raises:
            TooLarge: before anything is read where the length is announced, else as soon as it shows.
            BadInput: unknown or broken content encoding, or the body came too slowly.
            Overloaded: too many bodies are held already.
            Departed: the caller left.
        """
        self._window_bits()  # an encoding that is not known is refused before anything is read
        return await self.opened(await self.packed(timeout_s))

    async def opened(self, packed: bytes) -> bytes:
        """What :meth:`packed` gave, unpacked. Raises what :meth:`read` raises."""
        window_bits = self._window_bits()
        if window_bits == PACKED["deflate"] and not _is_zlib(packed):
            window_bits = RAW_DEFLATE
        return await self._unpacked(packed, window_bits) if window_bits else packed

    async def packed(self, timeout_s: float) -> bytes:
        """The whole body as it was sent. Raises what :meth:`read` raises."""
        announced = self._headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self._max_bytes:
            raise self._too_large(announced)
        try:
            with self._watch.within(timeout_s):
                return await self._whole()
        except TimeoutError:
            raise BadInput(f"The request body did not arrive within {timeout_s:g} seconds.") from None

    def release(self) -> None:
        """Takes the body off the shelf."""
        self._shelf.give(self._held)
        self._held = 0

    def _window_bits(self) -> int:
        """How to unpack the body; 0 for one that is not packed."""
        encoding = self._headers.get("content-encoding", "").strip().lower()
        if encoding not in UNPACKED and encoding not in PACKED:
            raise BadInput(f"The content encoding '{encoding[:40]}' is not supported: send the body plain or as gzip.")
        return PACKED.get(encoding, 0)

    async def _whole(self) -> bytes:
        parts: list[bytes] = []
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Departed
            part: bytes = message.get("body", b"")
            self._hold(len(part))
            if part:
                parts.append(part)
            more = message.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _hold(self, size: int) -> None:
        if self._held + size > self._max_bytes:
            raise self._too_large(f"more than {self._held + size - 1}")
        self._shelf.take(size)
        self._held += size

    async def _unpacked(self, packed: bytes, window_bits: int) -> bytes:
        unpack, rest, parts, size, members = zlib.decompressobj(window_bits), packed, list[bytes](), 0, 1
        while not unpack.eof:
            most = min(STEP_BYTES, self._max_bytes + 1 - size)
            try:
                if len(packed) > OFF_LOOP_BYTES:
                    part = await asyncio.to_thread(unpack.decompress, rest, most)
                else:
                    part = unpack.decompress(rest, most)
            except zlib.error as error:
                raise BadInput("The request body is not valid in its content encoding.") from error
            rest, size = unpack.unconsumed_tail, size + len(part)
            if size > self._max_bytes:
                raise self._too_large(f"more than {self._max_bytes}")
            if not part and not unpack.eof:
                raise BadInput("The packed request body ends too early.")
            self._shelf.take(len(part))
            self._held += len(part)
            parts.append(part)
            if unpack.eof and unpack.unused_data.startswith(MEMBER):
                members += 1
                if members > MAX_MEMBERS:
                    raise BadInput(f"The request body is packed in more than {MAX_MEMBERS} pieces: pack it as one.")
                unpack, rest = zlib.decompressobj(window_bits), unpack.unused_data
        return b"".join(parts)

    def _too_large(self, found: str) -> TooLarge:
        return TooLarge(f"Payload too large: {found} bytes > limit {self._max_bytes}")


def _is_zlib(packed: bytes) -> bool:
    """Whether a deflate stream has zlib's frame (RFC 1950, section 2.2)."""
    return len(packed) < 2 or (packed[0] & 0x0F == zlib.DEFLATED and int.from_bytes(packed[:2], "big") % 31 == 0)
