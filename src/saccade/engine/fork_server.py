"""Workers as copies of a process that has imported what they need (Linux).

Starting Python and importing takes about as long as opening a model whose compiled graph is on the disk, and leaves
30 MB in every process. A copy is there at once, and shares with the others what none of them changes. The process that
is copied has a single thread, opens no model and sees no image; see :mod:`saccade.engine.fork_server_process`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from typing import cast

from saccade.discover import resident_bytes
from saccade.engine.fork_server_process import NUMBER, UNFIT
from saccade.engine.fresh import BIRTH_S, Fresh, ended, reached, spawned, started
from saccade.engine.murmur import Murmur
from saccade.kin import Adopted, Adoption, Child

log = logging.getLogger("saccade.engine")

FORK_S = 10.0
"""How long a copy may take; it is a matter of milliseconds."""

LOST_S = 1.0
"""How long those are waited for that were being forked when their parent died. Nobody but them knows their numbers."""

LONG_LIFE_S = 10.0
"""A process that lived so long did not die of being started."""

REST_S = 60.0
"""A process that was not needed for so long is let go: it holds 30 to 50 MB, and is up again within a second."""

BACK_OFF_S = (1.0, 60.0)
"""The first and the longest pause before another try."""


class Parent(asyncio.Protocol):
    """One process that workers are copied from."""

    def __init__(self, process: Child, way: socket.socket) -> None:
        self.process = process
        self.settled = asyncio.Event()
        """Set when it takes orders, and when it has ended."""
        self.gone = asyncio.Event()
        self._way = way
        self._said = b""
        self._ordered: deque[tuple[asyncio.Future[Adopted], Adoption]] = deque()
        self._lost: list[Adoption] = []
        self._strays: set[asyncio.Task[int]] = set()
        self._copies: list[Adopted] = []
        self._transport: asyncio.Transport | None = None

    @property
    def ready(self) -> bool:
        """Whether it takes orders."""
        return self.settled.is_set() and not self.gone.is_set()

    async def copied(self, way: socket.socket, murmur: Murmur) -> Adopted:
        """A new worker's process, which holds these two. Raises OSError; a parent that hangs is ended then."""
        try:
            return await self._copied(way, murmur)
        except TimeoutError:
            self.process.kill()
            raise

    async def _copied(self, way: socket.socket, murmur: Murmur) -> Adopted:
        async with asyncio.timeout(BIRTH_S):
            await self.settled.wait()
        if self.gone.is_set():
            raise ConnectionResetError
        order: asyncio.Future[Adopted] = asyncio.get_running_loop().create_future()
        adoption = Adoption()
        try:
            socket.send_fds(self._way, [b"+"], [way.fileno(), murmur.descriptor])
        except BaseException:
            adoption.end()
            raise
        self._ordered.append((order, adoption))
        async with asyncio.timeout(FORK_S):
            return await order

    async def end(self) -> int:
        """Its exit code; it is killed if it has not ended: it has nothing to finish."""
        self.process.kill()
        if self._transport is not None:
            self._transport.abort()
            await self.gone.wait()
        await asyncio.gather(*self._strays)
        code = await ended(self.process)
        if self._lost:
            await self._bury_lost()
        while self._lost:
            self._lost.pop().end()
        return code

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._said += data
        while len(self._said) >= NUMBER.size:
            (number,) = NUMBER.unpack_from(self._said)
            self._said = self._said[NUMBER.size :]
            if self.settled.is_set():
                self._deliver(number)
            self.settled.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self.gone.set()
        self.settled.set()
        while self._ordered:
            order, adoption = self._ordered.popleft()
            self._lost.append(adoption)
            if not order.done():
                order.set_exception(ConnectionResetError())

    def _deliver(self, number: int) -> None:
        order, adoption = self._ordered.popleft()
        adoption.end()
        if number < 0:
            if not order.done():
                order.set_exception(OSError(-number, os.strerror(-number)))
            return
        copy = Adopted(number)
        self._copies = [*(one for one in self._copies if one.known_alive), copy]
        if not order.done():
            order.set_result(copy)
        else:  # who ordered it has left, and with that its socket has ended
            stray = asyncio.create_task(ended(copy))
            self._strays.add(stray)
            stray.add_done_callback(self._strays.discard)

    async def _bury_lost(self) -> None:
        """Takes those out of the system that were being forked; their socket has ended, and so they do, too."""
        if sys.platform != "linux":  # there are none elsewhere, nor has every other system waitid
            return
        ours = {copy.pid for copy in self._copies}
        until = time.monotonic() + LOST_S
        with suppress(ChildProcessError):  # none is left
            while time.monotonic() < until:
                found = os.waitid(os.P_PGID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is not None and found.si_pid not in ours:
                    os.waitpid(found.si_pid, os.WNOHANG)
                else:
                    await asyncio.sleep(0.01)


class ForkServer:
    """New workers' processes: copies of one that lives in the background where ``wanted`` and possible, and rests when
    no worker has been needed for a while; processes from nothing otherwise. For the event loop only."""

    def __init__(self, runtime: str, *, wanted: bool = True) -> None:
        """``runtime``: what most models run on, and is imported before."""
        self._runtime = runtime
        self.wanted = wanted and sys.platform == "linux"
        self._parent: Parent | None = None
        self._tried = asyncio.Event()
        """Set when one has been started, or will not be."""
        self._asked = asyncio.Event()
        """Set when a worker is needed."""
        self._orders = 0
        self._needed_at = 0.0
        self._keeping: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[int] | None = None

    @property
    def ready(self) -> bool:
        """Whether the next worker is a copy of a process that is there."""
        return self._parent is not None and self._parent.ready

    @property
    def memory_bytes(self) -> int:
        """What the process that is copied holds; its copies share most of it."""
        return resident_bytes(self._parent.process.pid) if self._parent is not None else 0

    def start(self) -> None:
        """Brings up the process that is copied, in the background."""
        if self.wanted and self._keeping is None:
            self._keeping = asyncio.create_task(self._keep())
            self._keeping.add_done_callback(lambda _: self._tried.set())

    async def worker(self) -> Fresh:
        """A new worker's process. Raises OSError."""
        self._orders += 1
        self._asked.set()
        try:
            return await self._worker()
        finally:
            self._orders -= 1
            self._needed_at = time.monotonic()

    async def _worker(self) -> Fresh:
        if self._keeping is not None:
            await self._tried.wait()
        if self._parent is not None:
            try:
                return await _copy(self._parent)
            except OSError as error:
                why = error.strerror or type(error).__name__
                log.warning("a worker could not be copied (%s), and is started from nothing", why)
        return await started()

    async def close(self) -> None:
        """Ends the process that is copied; its copies live on."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._ending is not None:
            await self._ending

    async def _keep(self) -> None:
        pause_s = 0.0
        while True:
            born_at = time.monotonic()
            try:
                parent = await _begun(self._runtime)
            except OSError as error:
                self._tried.set()
                log.warning("the process that workers are copied from cannot be started: %s", error.strerror)
            else:
                rests, code = await self._lived(parent)
                if rests:
                    await self._asked.wait()
                    continue
                if code == UNFIT:
                    log.warning("workers are started from nothing: a library has started threads when it was imported")
                    return
                log.warning("the process that workers are copied from has ended; another one is started")
            least, most = BACK_OFF_S
            pause_s = 0.0 if time.monotonic() - born_at > LONG_LIFE_S else min(most, max(least, 2 * pause_s))
            await asyncio.sleep(pause_s)

    async def _lived(self, parent: Parent) -> tuple[bool, int]:
        """The whole life of a process: whether it was let go, and its exit code."""
        self._parent = parent
        self._needed_at = time.monotonic()
        self._tried.set()
        rests = False
        try:
            rests = await self._may_rest(parent)
        finally:
            self._parent = None
            self._ending = asyncio.create_task(parent.end())
        if rests:
            self._tried.clear()
            self._asked.clear()
        return rests, await asyncio.shield(self._ending)

    async def _may_rest(self, parent: Parent) -> bool:
        """Waits until the process was not needed for a while; False when it has ended before."""
        while self._orders or time.monotonic() - self._needed_at < REST_S:
            with suppress(TimeoutError):
                async with asyncio.timeout(REST_S / 10):
                    await parent.gone.wait()
                return False
        return not parent.gone.is_set()


async def _begun(runtime: str) -> Parent:
    """A new process that workers are copied from. Raises OSError."""
    ours, theirs = socket.socketpair()
    number = theirs.fileno()
    try:
        with theirs:
            process = spawned("fork_server_process", number, os.getpid(), runtime, passed=(number,))
    except BaseException:
        ours.close()
        raise
    parent = Parent(process, ours)
    try:
        await asyncio.get_running_loop().create_connection(lambda: parent, sock=ours)
    except BaseException:
        ours.close()
        await parent.end()
        raise
    return parent


async def _copy(parent: Parent) -> Fresh:
    """A copy that has said Hello. Raises OSError."""
    ours, theirs = socket.socketpair()
    murmur = Murmur()
    try:
        with theirs:
            process = await parent.copied(theirs, murmur)
    except BaseException:
        ours.close()
        murmur.close()
        raise
    fresh = await reached(process, ours, murmur)
    try:
        async with asyncio.timeout(BIRTH_S):
            await fresh.settled.wait()
        if not fresh.ready:
            raise ConnectionResetError
    except BaseException:
        await fresh.end()
        raise
    return fresh
