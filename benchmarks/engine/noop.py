"""What the house itself costs: a model that computes nothing, over HTTP, beside the least that ASGI can do.

    python -m benchmarks.engine.noop

Rows: ``bare`` is uvicorn with an application that only reads the body; ``in-process`` and ``worker`` are the whole
server; ``cache`` is the whole server asked for the same image again; ``fronts`` is the whole server with two fronts.
All take turns in one run; the callers are in a process of their own on the same cores, and their share is told. On
two cores the row ``fronts`` shows what the second process on the way costs, and cannot show what it is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
from benchmarks.engine.drive import Figures, arguments, tell
from tests.engine.shelf import photo_sized

ROWS = {"bare": "bare", "in-process": "in-process", "worker": "worker", "cache": "worker", "fronts": "fronts"}


def main() -> None:
    given = arguments(__doc__ or "", count=4000, rounds=3, size=60_000)
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(_server(name)) for name in dict.fromkeys(ROWS.values())}
        tell("no-op", _rounds(servers, given.count, given.rounds, given.size), given.json)


def _rounds(servers: dict[str, tuple[int, psutil.Process]], count: int, rounds: int, size: int) -> dict[str, object]:
    runs: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for row, name in ROWS.items():
            for concurrency in (1, 8, 16):
                port, process = servers[name]
                runs.setdefault((row, concurrency), []).append(_run(row, port, process, concurrency, count, size))
    return {
        "rows": {
            f"{row} c{concurrency}": {key: round(statistics.median(run[key] for run in found), 3) for key in found[0]}
            for (row, concurrency), found in runs.items()
        }
    }


def _run(row: str, port: int, process: psutil.Process, concurrency: int, count: int, size: int) -> dict[str, float]:
    before, ours = _cpu_s(process), time.process_time()
    figures = asyncio.run(_ask(port, concurrency, count, size, row == "cache"))
    return {
        **figures.row(),
        "server_cpu_us": (_cpu_s(process) - before) / count * 1e6,
        "caller_cpu_us": (time.process_time() - ours) / count * 1e6,
    }


async def _ask(port: int, concurrency: int, count: int, size: int, cached: bool) -> Figures:
    """Calls over so many connections that stay open."""
    figures = Figures()
    body = photo_sized(100, size)
    cache = b"" if cached else b"x-use-cache: false\r\n"
    head = b"POST /models/m HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/jpeg\r\n"
    request = head + cache + b"content-length: %d\r\n\r\n" % len(body) + body
    numbers = iter(range(count))
    loop = asyncio.get_running_loop()

    async def caller() -> None:
        _, caller = await loop.create_connection(Caller, "127.0.0.1", port)
        for _ in numbers:
            begun = time.perf_counter()
            answer = await caller.ask(request)
            figures.note(time.perf_counter() - begun)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(answer.decode("utf-8", "replace"))
        assert caller.transport is not None
        caller.transport.close()

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    figures.seconds = time.perf_counter() - begun
    return figures


class Caller(asyncio.Protocol):
    """One connection; an HTTP client that costs as little as can be."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._data = b""
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) >= length and self._answer is not None and not self._answer.done():
            self._answer.set_result(self._data)


@contextlib.contextmanager
def _server(name: str) -> Iterator[tuple[int, psutil.Process]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.engine.server", name, str(port)], stdout=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        asyncio.run(_ask(port, 4, 100, 60_000, cached=False))
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(10)


def _cpu_s(process: psutil.Process) -> float:
    tree = [process, *process.children(recursive=True)]
    return float(sum(sum(one.cpu_times()[:2]) for one in tree))


if __name__ == "__main__":
    main()
