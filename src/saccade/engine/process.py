"""A replica in a process of its own, seen from the front."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from contextlib import suppress
from typing import cast

import msgspec

from saccade.card import Card
from saccade.engine import wire
from saccade.engine.fork_server import ForkServer
from saccade.engine.fresh import BIRTH_S, ended
from saccade.engine.job import Job
from saccade.engine.link import OnLost, OnReply
from saccade.engine.murmur import Murmur
from saccade.engine.replica import Duty
from saccade.errors import Error, RunFailed, place
from saccade.kin import Child
from saccade.runtimes.session import Compute

log = logging.getLogger("saccade.engine")

ONE_WRITE = 256 << 10
"""Up to this size head and body go out together; the copy is cheaper than a second system call."""

LISTEN_S = 0.5
"""How often the pulse is felt."""

FAREWELL_S = 5.0
"""How long a worker may take to leave when it was asked to."""


EXPECTED = (0, 70, 71, 72, -signal.SIGKILL, -signal.SIGTERM)
"""Exit codes of workers that were ended, or ended themselves, for a reason that is told elsewhere."""


class ProcessLink(asyncio.Protocol):
    """See :class:`saccade.engine.link.Link`. The worker is reached over a socket pair, which has no name to leak."""

    def __init__(
        self,
        card: Card,
        compute: Compute,
        duty: Duty,
        on_reply: OnReply,
        on_lost: OnLost,
        *,
        forks: ForkServer,
        decode_s: float,
        hang_s: float,
        memory_bytes: int,
    ) -> None:
        self.slots = 0
        self.memory_bytes = 0
        self.opened_bytes = 0
        self.culprit: tuple[int, Error] | None = None
        self.killed = False
        self._order = wire.Open(card, compute, duty, decode_s, memory_bytes)
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._forks = forks
        self._hang_s = hang_s
        self._loop = asyncio.get_running_loop()
        self._process: Child | None = None
        self._murmur: Murmur | None = None
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._missing = 0
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._checked: asyncio.Future[str | None] | None = None
        self._gone = asyncio.Event()
        self._closing = False
        self._warm = False
        self._why = ""
        self._pulse_at = self._felt_at = self._woke_at = time.monotonic()
        self._alive = False
        self._listening: asyncio.TimerHandle | None = None
        self._burial: asyncio.Task[None] | None = None

    @property
    def facts(self) -> dict[str, str | int | float]:
        """See the contract."""
        return {"isolated": 1, "pid": self._process.pid if self._process else 0}

    async def open(self) -> None:
        """See the contract."""
        fresh = await self._forks.worker()
        # The pulse of one that has said something begins at once.
        self._alive = fresh.ready
        self._pulse_at = self._felt_at = time.monotonic()
        self._process, self._murmur = fresh.process, fresh.murmur
        self._listen()
        self._transport = fresh.hand_over(self)
        self._write(wire.Hello(wire.VERSION, os.getpid()))
        self._write(self._order)
        await self._opened
        self._warm = True

    def send(self, job: Job, data: bytes) -> None:
        """See the contract."""
        self._write(job, data)

    def cancel(self, job_id: int) -> None:
        """See the contract."""
        self._write(wire.Cancel(job_id))

    def grant(self, job_id: int, frames: int) -> None:
        """See the contract."""
        self._write(wire.Grant(job_id, frames))

    async def check(self, patience_s: float) -> str | None:
        """See the contract."""
        if self._checked is None:
            self._checked = self._loop.create_future()
            self._write(wire.Check())
        since = 0.0
        try:
            while since <= self._woke_at:
                since = time.monotonic()
                with suppress(TimeoutError):
                    async with asyncio.timeout(patience_s):
                        return await asyncio.shield(self._checked)
            return f"it did not look at a picture within {patience_s:g} s"
        finally:
            if self._checked is not None and self._checked.done():
                self._checked = None

    async def close(self) -> None:
        """See the contract."""
        self._closing = True
        if self._process is None:
            return
        if self._warm and not self._gone.is_set():
            self._write(wire.Stop())
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self._gone.wait()
        self.kill()
        if self._transport is not None:
            self._transport.abort()
        await self._buried()

    def data_received(self, data: bytes) -> None:
        """Takes whole frames out of what has come; the parts of a large one are put together when it is whole."""
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        view = memoryview(data)
        at, end, prefix = 0, len(data), wire.PREFIX.size
        after = prefix
        while end - at >= prefix:
            head, body = wire.PREFIX.unpack_from(view, at)
            after = at + prefix + head + body
            if after > end:
                break
            try:
                self._take(wire.from_worker(view[at + prefix : at + prefix + head]))
            except msgspec.DecodeError as error:
                log.error("a worker speaks another language: %s", place(error))
                self._why = "it spoke another language"
                self.kill()
                return
            at, after = after, after + prefix
        if at < end:
            self._parts.append(data[at:])
            self._missing = after - end

    def connection_lost(self, exc: Exception | None) -> None:
        """The worker has ended, or its end is near."""
        if self._listening is not None:
            self._listening.cancel()
        self._gone.set()
        self._burial = self._loop.create_task(self._bury())

    def _take(self, message: wire.FromWorker) -> None:
        match message:
            case wire.Told() | wire.Over() | wire.Sorry():
                self._on_reply(self, wire.to_reply(message))
            case wire.Pulse():
                self._pulse_at = time.monotonic()
                self._alive = True
                self.memory_bytes = message.memory_bytes
            case wire.Opened():
                self.slots = message.slots
                self.memory_bytes = self.opened_bytes = message.memory_bytes
                self._settle(None)
            case wire.Refused():
                self._settle(wire.error_of(message.kind, message.message))
            case wire.Checked():
                if self._checked is not None and not self._checked.done():
                    self._checked.set_result(message.wrong)
            case wire.Guilty():
                self.culprit = (message.id, wire.error_of(message.kind, message.message))
                self._why = "it ended itself because of one image"
            case wire.Hello():
                if message.version != wire.VERSION:
                    self._settle(RunFailed("The worker is of another version of saccade. Restart the server."))

    def _settle(self, error: Error | None) -> None:
        if self._opened.done():
            return
        if error is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(error)

    def _write(self, message: wire.ToWorker, body: bytes = b"") -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        head = wire.packed(message, body)
        if len(body) <= ONE_WRITE:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)

    def _listen(self) -> None:
        """Kills a worker whose pulse has stopped, unless it was this process that slept."""
        now = time.monotonic()
        if now - self._felt_at > 2 * LISTEN_S + 0.5:
            self._pulse_at = self._woke_at = now
        self._felt_at = now
        patience_s = self._hang_s if self._alive else max(BIRTH_S, self._hang_s)
        if now - self._pulse_at > patience_s:
            self._why = f"it showed no sign of life for {patience_s:g} s"
            self.kill()
        self._listening = self._loop.call_later(LISTEN_S, self._listen)

    def kill(self) -> None:
        """See the contract."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    async def _bury(self) -> None:
        """Waits for the process's end, so that no zombie stays, and tells who needs to know."""
        code = await ended(cast(Child, self._process))
        reason = self._why or _told(code)
        self.killed = code == -signal.SIGKILL and not self._why
        self._tell_last_words(code)
        self._settle(RunFailed(f"The worker of '{self._order.card.name}' died while it opened the model: {reason}."))
        self._opened.exception()
        if self._checked is not None and not self._checked.done():
            self._checked.set_result(None)
        if self._warm and not self._closing:
            self._on_lost(self, reason)

    def _tell_last_words(self, code: int) -> None:
        """Logs what a worker that crashed said at its end, and gives up the file that it said it into."""
        murmur, self._murmur = self._murmur, None
        if murmur is None:
            return
        words = "" if code in EXPECTED else murmur.last_words()
        murmur.close()
        if words:
            log.warning("the last words of a worker of '%s': %s", self._order.card.name, words)

    async def _buried(self) -> None:
        await self._gone.wait()
        if self._burial is not None:
            await self._burial


def _told(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return {70: "it lost its way", 71: "an image ran away", 72: "it held too much memory"}.get(
            code, f"it ended with code {code}"
        )
    if -code == signal.SIGKILL:
        return "it was ended by SIGKILL, as a system that is short of memory does"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"
