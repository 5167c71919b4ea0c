"""A camera for tests: RTSP (RFC 2326) on a port of this machine, Motion JPEG (RFC 2435) over the same connection."""

from __future__ import annotations

import base64
import io
import socket
import struct
import threading
import time
from contextlib import suppress
from types import TracebackType

import numpy as np
from PIL import Image

WIDTH, HEIGHT, BITS = 256, 64, 16
SDP = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track0\r\n"
ROOM = 1400


class RtspCamera:
    """Sends pictures that bear numbers, from 0, ``rate`` a second; a context manager.

    What it does can be changed while it runs: ``silent`` sends nothing, ``blurred`` nothing that can be decoded,
    ``away`` takes no connections; :meth:`drop` ends those that there are. ``login`` is "user:password".
    """

    def __init__(self, rate: float = 50, login: str = "") -> None:
        self.rate, self.login = rate, login
        self.silent = self.blurred = self.away = False
        self.sent, self.connections, self.heard = 0, 0, ""
        self._open: list[socket.socket] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]

    def address(self, user: str = "", rest: str = "/live") -> str:
        return f"rtsp://{user}{'@' if user else ''}127.0.0.1:{self.port}{rest}"

    def drop(self) -> None:
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> RtspCamera:
        threading.Thread(target=self._welcome, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.away = True
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self.drop()

    def _welcome(self) -> None:
        while True:
            try:
                caller, _ = self._door.accept()
            except OSError:
                return
            if self.away:
                caller.close()
                continue
            self._open.append(caller)
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with suppress(OSError), caller, caller.makefile("rb") as lines:
            while request := lines.readline().decode():
                head = [request]
                while (line := lines.readline().decode()).strip():
                    head.append(line)
                self._answer(caller, request.split()[0], "".join(head))

    def _answer(self, caller: socket.socket, verb: str, head: str) -> None:
        self.heard += head
        count = next(line.split()[1] for line in head.splitlines() if line.lower().startswith("cseq"))
        right = base64.b64encode(self.login.encode()).decode()
        status, more, body = "200 OK", "", ""
        if self.login and verb != "OPTIONS" and f"Basic {right}" not in head:
            status, more = "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n'
        elif verb == "OPTIONS":
            more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif verb == "DESCRIBE":
            body, more = SDP, "Content-Type: application/sdp\r\n"
        elif verb == "SETUP":
            more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        answer = f"RTSP/1.0 {status}\r\nCSeq: {count}\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}"
        caller.sendall(answer.encode())
        if verb == "PLAY" and status.startswith("200"):
            self.connections += 1
            threading.Thread(target=self._send, args=(caller,), daemon=True).start()

    def _send(self, caller: socket.socket) -> None:
        sequence, begun = 0, time.monotonic()
        with suppress(OSError):
            for picture in range(1_000_000):
                time.sleep(max(0.0, begun + picture / self.rate - time.monotonic()))
                if self.silent:
                    continue
                clock = int((time.monotonic() - begun) * 90_000)
                for last, payload in packets(jpeg(numbered(self.sent)), self.blurred):
                    head = struct.pack(">BBHII", 0x80, 26 | last << 7, sequence & 0xFFFF, clock & 0xFFFFFFFF, 7)
                    caller.sendall(struct.pack(">cBH", b"$", 0, len(head) + len(payload)) + head + payload)
                    sequence += 1
                self.sent += 1


def numbered(number: int) -> np.ndarray:
    """A picture of stripes, white for each bit that is set, red where blue would be if the channels were swapped."""
    bits = [(number >> bit & 1) * 200 + 20 for bit in range(BITS)]
    picture = np.repeat(np.array(bits, np.uint8), WIDTH // BITS)[None, :, None] * np.ones((HEIGHT, 1, 3), np.uint8)
    picture[HEIGHT // 2 :] = (220, 20, 20)
    return picture


def number_of(rgb: np.ndarray) -> int:
    """What :func:`numbered` was given."""
    middles = rgb[8, WIDTH // BITS // 2 :: WIDTH // BITS, 0]
    return sum(int(value > 120) << bit for bit, value in enumerate(middles))


def jpeg(rgb: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=90, subsampling=2)
    return buffer.getvalue()


def packets(picture: bytes, blurred: bool) -> list[tuple[int, bytes]]:
    """Payloads of RFC 2435, each with whether it is the last: the tables of quantisation and the scan of a JPEG."""
    tables, at = b"", 2
    while picture[at + 1] != 0xDA:
        (size,) = struct.unpack_from(">H", picture, at + 2)
        if picture[at + 1] == 0xDB:
            segment = picture[at + 4 : at + 2 + size]
            tables += b"".join(segment[begin + 1 : begin + 65] for begin in range(0, len(segment), 65))
        at += 2 + size
    scan = picture[at + 2 + struct.unpack_from(">H", picture, at + 2)[0] : -2]
    sides = (0, 0) if blurred else (WIDTH // 8, HEIGHT // 8)
    found = []
    for begin in range(0, len(scan), ROOM):
        head = struct.pack(">B3sBBBB", 0, begin.to_bytes(3, "big"), 1, 255, *sides)
        quantised = struct.pack(">BBH", 0, 0, len(tables)) + tables if begin == 0 else b""
        found.append((int(begin + ROOM >= len(scan)), head + quantised + scan[begin : begin + ROOM]))
    return found
