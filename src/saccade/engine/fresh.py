"""Workers' processes that were not told yet what to open."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import cast

from saccade.engine.murmur import Murmur
from saccade.kin import Child

BIRTH_S = 60.0
"""How long a new process may take until it says something; a busy machine starts slowly."""

PATIENCE_S = 5.0
"""How long a process may take to end after its socket has."""

_burials: set[asyncio.Task[None]] = set()


class Fresh(asyncio.Protocol):
    """A worker's process that was not told yet what to open, and the way to it."""

    def __init__(self, process: Child, murmur: Murmur) -> None:
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
        """Kills it and waits for its end; it has nothing to finish. Who waits may leave."""
        self.process.kill()
        if self._transport is not None:
            self._transport.abort()
        burial = asyncio.create_task(self._buried())
        _burials.add(burial)
        burial.add_done_callback(_burials.discard)
        await asyncio.shield(burial)

    async def _buried(self) -> None:
        await ended(self.process)
        self.murmur.close()


def spawned(module: str, *words: object, passed: Sequence[int]) -> subprocess.Popen[bytes]:
    """An interpreter of its own that runs a module of this package, and inherits these descriptors. Raises OSError."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", f"saccade.engine.{module}", *map(str, words)],
        stdin=subprocess.DEVNULL,
        pass_fds=passed,
        # A Ctrl-C at the terminal is for the front, which lets the workers finish first.
        start_new_session=True,
    )


async def started() -> Fresh:
    """A new process of an interpreter of its own, which has everything still to import. Raises OSError."""
    ours, theirs = socket.socketpair()
    murmur = Murmur()
    passed = (theirs.fileno(), murmur.descriptor)
    try:
        with theirs:
            process = spawned("worker_process", passed[0], os.getpid(), passed[1], passed=passed)
    except BaseException:
        ours.close()
        murmur.close()
        raise
    return await reached(process, ours, murmur)


async def reached(process: Child, way: socket.socket, murmur: Murmur) -> Fresh:
    """A process that holds the other ends; it is ended, and both are closed, when it cannot be listened to."""
    fresh = Fresh(process, murmur)
    try:
        await asyncio.get_running_loop().create_connection(lambda: fresh, sock=way)
    except BaseException:
        way.close()
        await fresh.end()
        raise
    return fresh


async def ended(process: Child) -> int:
    """The exit code of a process whose end is near, so that no zombie stays."""
    patience = time.monotonic() + PATIENCE_S
    while (code := process.poll()) is None:
        if time.monotonic() > patience:
            process.kill()
        await asyncio.sleep(0.005)
    return code
