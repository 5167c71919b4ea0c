"""Sends the same request many times over and keeps the time of each; for loads on machines of one's own."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from saccade.errors import BadOptions, Error

HERE = "http://127.0.0.1:8000"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PATIENCE_S = 600.0
"""Longest wait for one answer: more than a server takes to load a model and to answer, by its own settings."""


@dataclass(slots=True)
class Report:
    """What came back: seconds of each good answer, counts of all by status, the whole time, and how much of it the
    callers themselves computed. ``refusal`` is the body of the first answer that was none."""

    concurrency: int
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    whole_s: float = 0.0
    own_cpu_s: float = 0.0
    refusal: bytes = b""

    def figures(self) -> dict[str, Any]:
        """Good answers a second, their latencies in milliseconds, and what else came, by status."""
        ordered = sorted(self.seconds)

        def quantile(share: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3, 3) if ordered else 0.0

        refused = {str(status): count for status, count in sorted(self.statuses.items()) if status != 200}
        failed = sum(refused.values())
        return {
            "concurrency": self.concurrency,
            "calls": len(ordered) + failed,
            "failed": failed,
            "refused": refused,
            "per_second": round(len(ordered) / self.whole_s, 2) if self.whole_s else 0.0,
            "p50_ms": quantile(0.50),
            "p90_ms": quantile(0.90),
            "p99_ms": quantile(0.99),
        }


def loopback_only(url: str) -> None:
    """Raises BadOptions for an address that is not this machine's own, where loads are never sent, or is no address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # a port or an address in brackets that is none
        host, port = "", 0
        parts = urlsplit("")
    if host and host not in LOOPBACK:
        raise BadOptions(f"--url names {host}; loads are only sent to this machine, such as 127.0.0.1.")
    if parts.scheme != "http" or not host or port == 0 or parts.query or parts.fragment:
        raise BadOptions(f"--url is '{url}'; expected the http address of a server on this machine, such as {HERE}.")


async def drive(
    url: str,
    body: bytes,
    headers: dict[str, str],
    *,
    concurrency: int,
    calls: int,
    patience_s: float = PATIENCE_S,
) -> Report:
    """Sends ``calls`` POST requests over ``concurrency`` kept connections and lets all of them finish.

    Raises:
        Error: the server closed a connection, does not answer in time or does not speak HTTP/1.1 with Content-Length.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(body)}"]
    request = (
        "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items())]).encode() + b"\r\n\r\n" + body
    )
    report = Report(concurrency)
    left = calls

    async def caller() -> None:
        nonlocal left
        try:
            reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
        except OSError:
            raise Error(f"Nobody listens at {host}:{port}. Start a server there with 'saccade serve'.") from None
        try:
            while left > 0:
                left -= 1
                started = time.perf_counter()
                writer.write(request)
                async with asyncio.timeout(patience_s):
                    status, body = await _answer(reader)
                report.statuses[status] += 1
                if status == 200:
                    report.seconds.append(time.perf_counter() - started)
                elif not report.refusal:
                    report.refusal = body
        except TimeoutError:
            raise Error(f"The server gave no answer within {patience_s:g} s.") from None
        finally:
            writer.close()

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(min(concurrency, calls))))
    report.whole_s, report.own_cpu_s = time.perf_counter() - started, time.process_time() - cpu
    return report


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Reads one answer whole: its status and its body."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *fields = head.split(b"\r\n")
        lines = [line.split(b":", 1)[1] for line in fields if line.lower().startswith(b"content-length:")]
        if not lines:
            raise Error("The server's answer has no Content-Length, which this load generator needs.")
        return int(first.split(b" ", 2)[1]), await reader.readexactly(int(lines[0]))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Error("The server closed the connection before it answered.") from error
    except (asyncio.LimitOverrunError, ValueError, IndexError) as error:  # another program listens at this port
        raise Error("The server's answer is no HTTP; is it a saccade server?") from error
