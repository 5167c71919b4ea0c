"""A front, where there are several: ``python -m saccade.server.front LINE LISTENER PARENT``.

The first process starts it. It takes callers, reads and gates their requests, and renders the answers; the engine, the
cache and everything that is one of a kind are in the first process. What is no prediction on the shared URL is relayed
there whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, Literal

from starlette.types import Receive, Scope, Send

from saccade.card import Card
from saccade.dialects.dialect import Dialect
from saccade.discover import hold_little
from saccade.errors import Error, UnknownModel, place
from saccade.kin import die_with
from saccade.server import channel
from saccade.server.access import Gate
from saccade.server.app import App, host_of, installed
from saccade.server.connection import PARTING_S
from saccade.server.crowd import crowd
from saccade.server.database import Database
from saccade.server.desk import FrontDesk
from saccade.server.gate import KeyGate
from saccade.server.house import Directory, Engine, House
from saccade.server.inquiries import Inquiries
from saccade.server.journal import Journal
from saccade.server.metrics import Metrics
from saccade.server.paths import normalised
from saccade.server.reception import loop_factory, server_of, speak
from saccade.server.settings import Settings
from saccade.server.wiring import configured, open_fetcher, open_gate, open_regions

log = logging.getLogger("saccade.server")

FRESH_S = 0.5
"""How long the first process is believed about a model before it is asked again."""

REPORT_S = 0.5
DRAIN_LOOK_S = 0.02

PATIENCE = 50
"""How many times as long as gathering them took, what was counted is not told again unasked: of many models that takes
longer than the pause between two reports."""


class Desk(FrontDesk):
    """What dialects ask while they read a request."""

    def __init__(self, house: House, directory: Directory, settings: Settings) -> None:
        device: Literal["cpu", "gpu"] = "gpu" if settings.device == "cuda" else "cpu"
        super().__init__(directory, Engine(house), settings.default_model, device)
        self._house = house
        self._cards = Inquiries(self._look_up, FRESH_S)

    def uptime_s(self) -> float:
        """The server's, not this process's, which may have taken another's place."""
        return time.monotonic() - self._house.facts.ready_at

    async def _card(self, ref: str) -> Card:
        return await self._house.card(ref, fetch=False)

    async def _look_around(self, ref: str | None) -> Sequence[Card]:
        """The only model there is; none where there are several: the pages that list them are relayed."""
        try:
            return (await self._house.card(channel.ONLY, fetch=False),)
        except UnknownModel:
            return ()


class FrontApp(App):
    """The application of a front: predictions on the shared URL are answered here, everything else is relayed."""

    def __init__(
        self,
        house: House,
        directory: Directory,
        dialects: Sequence[Dialect],
        gate: Gate,
        settings: Settings,
    ) -> None:
        super().__init__(
            dialects,
            Desk(house, directory, settings),
            gate,
            settings,
            metrics=Metrics(),
            journal=Journal(settings.access_log, _Lines(house)),
            fetch=open_fetcher(settings),
        )
        self.regions = open_regions(settings)
        self.calls = 0
        self._first = house
        self._directory = directory

    @property
    def draining(self) -> bool:
        """As the first process has told, of the calls that came before, too."""
        return self._first.facts.draining

    async def settle(self) -> None:
        """Writes down what callers used, so that the first process can tell it."""
        try:
            if isinstance(self.gate, KeyGate):
                await self.gate.settle()
        except Exception as error:
            log.error("usage cannot be written now: %s", place(error))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and not self._is_ours(scope):
            await self._first.visit(scope, receive, send)
            return
        self.calls += 1
        await super().__call__(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        found = self.paths.find(scope["method"], normalised(scope["path"]))
        if not found.candidates or any(one.route.action != "predict" for one in found.candidates):
            return False
        return not self._first.facts.hosts or host_of(scope) not in self._first.facts.hosts


class _Lines:
    """Where the access log goes."""

    def __init__(self, house: House) -> None:
        self._house = house

    def write(self, text: str) -> None:
        self._house.channel.send(channel.Lines(), text.encode())

    def flush(self) -> None:
        """Nothing is held."""


async def serve(line: socket.socket, listener: socket.socket) -> None:
    """Takes callers from the listener until the first process says Stop."""
    loop = asyncio.get_running_loop()
    house = House()
    await loop.create_connection(lambda: house.channel, sock=line)
    settings = await house.begun
    gate = open_gate(settings, Database(settings.database_url, settings.home))
    app = FrontApp(house, Directory(house), configured(installed(), settings), gate, settings)
    server = server_of(app)
    serving = loop.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    if serving.done():
        serving.result()
    gc.collect()
    gc.freeze()
    house.channel.send(channel.Standing(os.getpid()))
    reporting = loop.create_task(_report(house, app, server))
    await house.stopped.wait()
    app.break_off()
    server.should_exit = True
    await serving
    await app.close()
    reporting.cancel()
    await house.leave()


async def _report(house: House, app: FrontApp, server: Any) -> None:
    """Tells the first process how things are: now and then, when asked, and as soon as nothing is left to finish."""
    told, number, leaves_at, due = -1, 0, math.inf, 0.0
    while True:
        asked = house.counted != number
        if asked:
            number = house.counted
            await app.settle()
        app.metrics.inflight.set(app.inflight)
        draining, inflight = house.facts.draining, app.inflight + crowd().taking
        if draining and not crowd().leaving:
            crowd().leaving, leaves_at = True, time.monotonic() + PARTING_S
        if time.monotonic() > leaves_at:
            app.turn_away()
        connections = len(server.server_state.connections)
        families, begun = None, time.monotonic()
        if (app.calls != told or inflight) and (asked or begun > due):
            families, told = tuple(app.metrics.families()), -1 if inflight else app.calls
            due = time.monotonic() + PATIENCE * (time.monotonic() - begun)
        house.channel.send(channel.Report(number, draining, inflight, connections, app.calls, families))
        house.report.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_LOOK_S if draining and inflight else REPORT_S):
                await house.report.wait()


def main() -> None:
    """Ends when the first process says so, or is gone."""
    die_with(int(sys.argv[3]))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Service managers tell all processes of a service; the first one lets the others finish before they leave.
        signal.signal(number, signal.SIG_IGN)
    hold_little()
    speak()
    line, listener = socket.socket(fileno=int(sys.argv[1])), socket.socket(fileno=int(sys.argv[2]))
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(line, listener))
    except Error as error:
        log.error("a front cannot start: %s", error.message)
        sys.exit(1)
    except Exception as error:
        log.error("a front ends: %s", place(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
