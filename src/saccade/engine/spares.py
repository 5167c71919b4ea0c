"""Worker processes that wait for a model.

Starting Python and importing what a model needs takes about as long as opening a model whose compiled graph is on the
disk. A spare has done the first part before anybody asks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from saccade.discover import resident_bytes
from saccade.engine.murmur import Murmur

log = logging.getLogger("saccade.engine")

BIRTH_S = 60.0
"""How long a new process may take until it says something; a busy machine starts slowly."""

PATIENCE_S = 5.0
"""How long a process may take to end after its socket has."""

REST_S = 1.0
"""How long the first answers of a model that was just opened have the processors for themselves. A low priority alone
does not give them that: where the kernel shares time out among sessions, a spare has a share of its own."""

LONG_LIFE_S = 10.0
"""A spare that lived so long did not die of being started."""

BACK_OFF_S = (1.0, 60.0)
"""The first and the longest pause before another try."""


class Fresh(asyncio.Protocol):
    """A worker's process that was not told yet what to open, and the way to it."""

    def __init__(self, process: subprocess.Popen[bytes], murmur: Murmur) -> None:
        self.process = process
        self.murmur = murmur
        self.settled = asyncio.Event()
        """Set when it has said Hello, and when it has ended."""
        self.gone = asyncio.Event()
        self._said = b""
        self._transport: asyncio.Transport | None = None

    @property
    def ready(self) -> bool:
        """Whether it waits for its order."""
        return bool(self._said) and not self.gone.is_set() and self.process.poll() is None

    def hand_over(self, heir: asyncio.Protocol) -> asyncio.Transport:
        """From now on ``heir`` hears what the process says; also what it has said already."""
        transport = cast(asyncio.Transport, self._transport)
        transport.set_protocol(heir)
        if self._said:
            heir.data_received(self._said)
        if self.gone.is_set():
            heir.connection_lost(None)
        return transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._said += data
        self.settled.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self.gone.set()
        self.settled.set()

    async def end(self) -> None:
        """Kills it and waits for its end; it has nothing to finish."""
        self.process.kill()
        if self._transport is not None:
            self._transport.abort()
        await ended(self.process)
        self.murmur.close()


async def started(runtime: str = "") -> Fresh:
    """A new worker's process; named a runtime, it gets ready for models of it before it says Hello."""
    ours, theirs = socket.socketpair()
    murmur = Murmur()
    words = [str(theirs.fileno()), str(os.getpid()), str(murmur.descriptor), *([runtime] if runtime else [])]
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "saccade.engine.worker_process", *words],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), murmur.descriptor),
            # A Ctrl-C at the terminal is for the front, which lets the workers finish first.
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        murmur.close()
        raise
    finally:
        theirs.close()
    fresh = Fresh(process, murmur)
    try:
        await asyncio.get_running_loop().create_connection(lambda: fresh, sock=ours)
    except BaseException:
        ours.close()
        await fresh.end()
        raise
    return fresh


async def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process whose end is near, so that no zombie stays."""
    patience = time.monotonic() + PATIENCE_S
    while (code := process.poll()) is None:
        if time.monotonic() > patience:
            process.kill()
        await asyncio.sleep(0.005)
    return code


class Spares:
    """``count`` spares, brought up in the background while nothing is being opened. For the event loop only."""

    def __init__(self, count: int, runtime: str) -> None:
        self._count = count
        self._runtime = runtime
        self._spares: dict[Fresh, float] = {}
        self._opening = 0
        self._pause_s = 0.0
        self._closed = False
        self._filling: asyncio.Task[None] | None = None
        self._watching: dict[Fresh, asyncio.Task[None]] = {}

    @property
    def ready(self) -> int:
        """How many wait for a model."""
        return sum(spare.ready for spare in self._spares)

    @property
    def memory_bytes(self) -> int:
        """What all of them hold."""
        return sum(resident_bytes(spare.process.pid) for spare in self._spares)

    @contextmanager
    def opening(self) -> Iterator[Fresh | None]:
        """A spare for a model that is opened now, if one is ready; the next comes up when all opening is done."""
        self._opening += 1
        try:
            yield self._taken()
        finally:
            self._opening -= 1
            self.refill()

    def refill(self) -> None:
        """Brings up what is missing, in the background."""
        if self._opening or self._closed or (self._filling is not None and not self._filling.done()):
            return
        if len(self._spares) < self._count:
            self._filling = asyncio.create_task(self._fill())

    async def close(self) -> None:
        """Ends all of them; none comes after."""
        self._closed = True
        tasks = [*self._watching.values(), *([self._filling] if self._filling is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        spares, self._spares = tuple(self._spares), {}
        await asyncio.gather(*(spare.end() for spare in spares))

    def _taken(self) -> Fresh | None:
        spare = next((spare for spare in self._spares if spare.ready), None)
        if spare is not None:
            del self._spares[spare]
            self._watching.pop(spare).cancel()
            self._pause_s = 0.0
        return spare

    async def _fill(self) -> None:
        while len(self._spares) < self._count and not self._opening:
            await asyncio.sleep(max(REST_S, self._pause_s))
            if self._opening:
                return
            try:
                spare = await started(self._runtime)
            except OSError as error:
                log.warning("a spare worker cannot be started: %s", error.strerror)
                self._wait_longer()
                continue
            self._spares[spare] = time.monotonic()
            self._watching[spare] = asyncio.create_task(self._watch(spare))
            await spare.settled.wait()

    async def _watch(self, spare: Fresh) -> None:
        """Replaces a spare that ends, or never gets ready."""
        try:
            async with asyncio.timeout(BIRTH_S):
                await spare.settled.wait()
            await spare.gone.wait()
            log.warning("a spare worker ended before it was needed; another one is started")
        except TimeoutError:
            log.warning("a spare worker was not ready within %g s; another one is started", BIRTH_S)
        lived_s = time.monotonic() - self._spares.pop(spare)
        del self._watching[spare]
        if lived_s > LONG_LIFE_S:
            self._pause_s = 0.0
        else:
            self._wait_longer()
        await spare.end()
        self.refill()

    def _wait_longer(self) -> None:
        least, most = BACK_OFF_S
        self._pause_s = min(most, max(least, 2 * self._pause_s))
