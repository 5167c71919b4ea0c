"""The fronts as the first process sees them: started, kept alive, served, drained."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec

from saccade.discover import Budget
from saccade.errors import SetupError, place
from saccade.server import channel
from saccade.server.app import App
from saccade.server.channel import Facts, Report
from saccade.server.metrics import Family, summed
from saccade.server.reception import beside
from saccade.server.service import Service
from saccade.server.settings import Settings

log = logging.getLogger("saccade.server")

THREADS_PER_FRONT = 8
"""One front carries about what so many threads of small models answer (see docs/production.md)."""

MOST_FRONTS = 4
"""So many keep the first process busy; more are only started when asked for."""

TICK_S = 0.1
HANG_S = 30.0
"""A front that says nothing for so long is replaced."""

BIRTH_S = 60.0
FAREWELL_S = 10.0
COUNT_S = 1.0
LONG_LIFE_S = 10.0
BACK_OFF_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses before another front, while none of them has a long life."""


_numbers = count(1)


def number_of(settings: Settings, budget: Budget) -> int:
    """How many fronts there are: as wished, else as the processors need, which is one on most machines.

    Other systems than Linux let several processes listen on a port, and give all callers to one of them.
    """
    if sys.platform != "linux":
        if settings.fronts > 1:
            log.warning("there is one front, and not %d: only Linux spreads callers over several", settings.fronts)
        return 1
    if settings.fronts:
        return settings.fronts
    if not settings.isolate:
        return 1
    return min(MOST_FRONTS, max(1, (settings.threads or budget.threads) // THREADS_PER_FRONT))


class Fronts:
    """All fronts of a server. Used from the event loop only."""

    def __init__(self, app: App, keeper: socket.socket, number: int) -> None:
        """``keeper`` reserves the port; see :func:`saccade.server.reception.reserved`."""
        self.app = app
        self.keeper = keeper
        share = max(app.settings.max_body_bytes, app.settings.max_inflight_bytes // number)
        self.settings = msgspec.structs.replace(app.settings, max_inflight_bytes=share)
        self.facts = Facts()
        self._number = number
        self._fronts: list[Front] = []
        self._retired: list[Family] = []
        self._closing = False
        self._short_lives = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether a front still has calls to finish, or has not heard yet that it should."""
        return any(front.standing and (front.inflight or not front.draining) for front in self._fronts)

    @property
    def inflight(self) -> int:
        """The calls that the fronts are answering, as last told."""
        return sum(front.inflight for front in self._fronts if front.standing)

    async def open(self) -> None:
        """Returns when all fronts take callers.

        Raises:
            SetupError: one of them cannot be started.
        """
        self._look()
        self._start(self._tend())
        self._fronts = [Front(self) for _ in range(self._number)]
        await asyncio.gather(*(front.open() for front in self._fronts))

    def drain(self) -> None:
        """Tells the fronts at once that the server stops."""
        self._look()

    async def close(self) -> None:
        """Ends all fronts; what they still do is cut off after a while."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(front.close() for front in self._fronts))

    def info(self) -> list[dict[str, int]]:
        """A line for each front, for /info."""
        return [front.info() for front in self._fronts]

    async def settle(self) -> None:
        """Returns when all fronts have told what they counted, and written down what callers used."""
        await asyncio.gather(*(front.count() for front in self._fronts if front.standing))

    async def families(self) -> list[list[Family]]:
        """What all fronts have counted until now."""
        await self.settle()
        return [self._retired, *(list(front.families) for front in self._fronts if front.standing)]

    def lost(self, front: Front) -> None:
        """A front has ended: what it counted is kept, and another takes its place unless it never stood."""
        kept = (family for family in front.families if family.kind != "gauge")
        self._retired = summed([self._retired, kept])
        if front.standing and not self._closing:
            self._short_lives = 0 if time.monotonic() - front.born_at > LONG_LIFE_S else self._short_lives + 1
            self._start(self._replace(front))

    async def _replace(self, front: Front) -> None:
        while not self._closing:
            await asyncio.sleep(BACK_OFF_S[min(max(0, self._short_lives - 1), len(BACK_OFF_S) - 1)])
            fresh = Front(self)
            self._fronts[self._fronts.index(front)] = fresh
            try:
                await fresh.open()
                return
            except (SetupError, OSError) as error:
                log.warning("a front cannot be started: %s", error)
                self._short_lives += 1
                front = fresh

    async def _tend(self) -> None:
        """Tells the fronts what has changed, and ends those that hang."""
        felt_at = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            try:
                self._look()
            except Exception as error:
                log.error("looking after the fronts failed: %s", place(error))
            for front in self._fronts:
                if now - felt_at > HANG_S / 4:
                    front.heard_at = now  # it was this process that slept
                elif front.standing and now - front.heard_at > HANG_S:
                    log.warning("a front is ended: it showed no sign of life for %g s", HANG_S)
                    front.kill()
            felt_at = now

    def _look(self) -> None:
        """Tells the fronts the facts if they are new."""
        app = self.app
        records = [] if app.fleet is None else app.fleet.records()
        hosts = tuple(record.plan.hostname for record in records if record.plan.hostname)
        facts = Facts(app.desk.ready_at, app.draining, hosts)
        if facts != self.facts:
            self.facts = facts
            for front in self._fronts:
                front.channel.send(facts)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Front:
    """One front: its process, and what it asks for."""

    def __init__(self, fronts: Fronts) -> None:
        self.channel = Service(fronts.app, self._told, self._lost).channel
        self.standing = False
        self.draining = False
        self.inflight = 0
        self.families: Iterable[Family] = ()
        self.born_at = self.heard_at = time.monotonic()
        self._fronts = fronts
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._report = Report(0, False, 0, 0, 0, ())
        self._reported = asyncio.Event()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._gone = asyncio.Event()
        self._closing = False
        self._burial: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Returns when it takes callers.

        Raises:
            SetupError: it ended before.
            OSError: the system lets no process be started.
        """
        ours, theirs = socket.socketpair()
        with theirs, beside(self._fronts.keeper) as listener:
            fds = (theirs.fileno(), listener.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "saccade.server.front", *map(str, fds), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=fds,
                # A Ctrl-C at the terminal is for the first process, which lets the fronts finish first.
                start_new_session=True,
            )
        await self._loop.create_connection(lambda: self.channel, sock=ours)
        self.channel.send(channel.Begin(channel.VERSION, self._fronts.settings))
        self.channel.send(self._fronts.facts)
        birth = self._loop.call_later(BIRTH_S, self.kill)
        try:
            await self._opened
        finally:
            birth.cancel()

    async def close(self) -> None:
        """Asks it to leave, and sees to it that it does."""
        self._closing = True
        if self._process is None or not self.channel.is_open:
            return
        self.channel.send(channel.Stop())
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self._gone.wait()
        self.kill()
        await self._gone.wait()

    def kill(self) -> None:
        """Ends it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)

    def info(self) -> dict[str, int]:
        """Its line in /info."""
        return {
            "pid": self._process.pid if self._process else 0,
            "connections": self._report.connections,
            "in_flight": self._report.inflight,
            "calls": self._report.calls,
        }

    async def count(self) -> None:
        """Lets it report now; one that does not answer in time stands with its last report."""
        number = next(_numbers)
        self.channel.send(channel.Count(number))
        with suppress(TimeoutError):
            async with asyncio.timeout(COUNT_S):
                while self._report.number < number:
                    self._reported.clear()
                    await self._reported.wait()

    def _told(self, message: channel.Standing | Report) -> None:
        self.heard_at = time.monotonic()
        if isinstance(message, Report):
            self.draining, self.inflight = message.draining, message.inflight
            self.families = self.families if message.families is None else message.families
            self._report = message
            self._reported.set()
        elif not self._opened.done():
            self.standing = True
            self._opened.set_result(None)

    def _lost(self) -> None:
        """It has ended, or its end is near."""
        self._burial = self._loop.create_task(self._bury())

    async def _bury(self) -> None:
        """Waits for the process's end, so that no zombie stays."""
        patience = time.monotonic() + FAREWELL_S
        while self._process is not None and (code := self._process.poll()) is None:
            if time.monotonic() > patience:
                self.kill()
            await asyncio.sleep(0.005)
        self._gone.set()
        if not self._closing:
            log.warning("a front was lost (exit code %s)", code)
        if not self._opened.done():
            self._opened.set_exception(SetupError("A front ended before it took callers; the log says why."))
            self._opened.exception()
        self._fronts.lost(self)
        self.standing = False
