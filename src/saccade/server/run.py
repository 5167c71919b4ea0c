"""Starts the server, says when it is ready, and ends it well."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import uvicorn

from saccade.dialects.dialect import Dialect
from saccade.discover import budget, hold_little
from saccade.engine.aside import aside
from saccade.errors import BadSettings, Error, ModelError, SetupError, UnknownModel
from saccade.server import systemd
from saccade.server.app import App
from saccade.server.connection import PARTING_S
from saccade.server.crowd import crowd
from saccade.server.database import Database
from saccade.server.desk import Engine, Library
from saccade.server.doors import Doors
from saccade.server.fronts import Fronts, number_of
from saccade.server.reception import listening, loop_factory, reserved, server_of, speak
from saccade.server.records import SqlRecords
from saccade.server.settings import Settings
from saccade.server.shelves import check_folders, open_library
from saccade.server.wiring import build, open_engine, open_gate

log = logging.getLogger("saccade.server")

TELL_AFTER_S = 1.0
"""Somebody who waits this long for the end is told why."""

ECHO_S = 0.1
"""A signal so soon after the first is the same wish: ``timeout`` and ``make`` pass on what their whole group gets."""


def serve(
    settings: Settings,
    *,
    library: Library | None = None,
    engine: Engine | None = None,
    dialects: Sequence[Dialect] | None = None,
) -> None:
    """Serves until SIGTERM, SIGINT or SIGHUP: then health turns 503, accepted calls finish, and this returns.

    A second SIGTERM or SIGINT ends the process at once. The parts can be handed in by tests and by Ray.

    Raises:
        SetupError: the port, the home or a model folder cannot be used; the message says what to do.
        Error: a model that should be preloaded cannot be.
    """
    started = time.perf_counter()
    hold_little()
    speak()
    # Whoever started this may have had it ignored; workers' ends are to be told, and what ended them.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        _prepare_home(settings)
        check_folders(settings)
        database = Database(settings.database_url, settings.home)
        gate = open_gate(settings, database)
        fronts = 1 if dialects is not None else number_of(settings, budget())
        with (listening if fronts == 1 else reserved)(settings.host, settings.port) as listener:
            library = library or open_library(settings)
            engine = engine or open_engine(settings, library)
            app = build(settings, library, engine, gate, dialects, SqlRecords(database))
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(_serve(app, listener, fronts, started))
    except KeyboardInterrupt:
        return
    except OSError as error:
        raise _explained(error) from error


class Entrance(Protocol):
    """Where callers come in."""

    @property
    def busy(self) -> bool:
        """Whether calls that were accepted are still to be finished, besides those in this process."""

    @property
    def inflight(self) -> int:
        """How many calls they are, as last told."""

    async def open(self) -> None:
        """Returns when callers are received. Raises SetupError."""

    def drain(self) -> None:
        """From now on new calls are refused."""

    async def close(self) -> None:
        """Ends all connections."""


class Here:
    """The entrance of a server with one front: callers come to this process."""

    busy = False
    inflight = 0

    def __init__(self, app: App, listener: socket.socket) -> None:
        self._server = server_of(app)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def open(self) -> None:
        """See :class:`Entrance`."""

    def drain(self) -> None:
        """The application sees to it."""

    async def close(self) -> None:
        """See :class:`Entrance`."""
        self._server.should_exit = True
        with contextlib.suppress(Exception):
            await self._serving


async def _serve(app: App, listener: socket.socket, fronts: int, started: float) -> None:
    stop = _stop_signals()
    app.fronts = Fronts(app, listener, fronts) if fronts > 1 else None
    entrance = app.fronts or Here(app, listener)
    app.doors = Doors(lambda port: _door(app, port), listener.getsockname()[1])
    if app.fleet is not None:
        app.fleet.recall()
    with systemd.watched():
        try:
            if await _warmed(app, entrance, stop):
                _announce(app, listener, started)
                telling = asyncio.create_task(_tell_unserved(app))
                if app.fleet is not None:
                    await app.fleet.open()
                    await app.doors.match(app.fleet.records())
                    app.doors.keep(app.fleet.records)
                await stop.wait()
                telling.cancel()
            await _drained(app, entrance)
        finally:
            await entrance.close()
            await app.close()


def _door(app: App, port: int) -> tuple[uvicorn.Server, asyncio.Task[None]]:
    """A further port of the same host. Raises SetupError."""
    server, opening = server_of(app), contextlib.ExitStack()
    listener = opening.enter_context(listening(app.settings.host, port))

    async def serving() -> None:
        with opening:
            await server.serve(sockets=[listener])

    return server, asyncio.create_task(serving())


async def _warmed(app: App, entrance: Entrance, stop: asyncio.Event) -> bool:
    """Whether everything that should be loaded is; False when the server is asked to stop before."""
    warming = asyncio.create_task(_warm(app, entrance))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({warming, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not warming.done():
        warming.cancel()
        await asyncio.wait({warming})
        return False
    warming.result()
    return True


async def _warm(app: App, entrance: Entrance) -> None:
    await asyncio.gather(entrance.open(), _load(app))


async def _load(app: App) -> None:
    for name in app.settings.preload:
        await app.fetched(name)
    await app.engine.start()
    for name in app.settings.preload:
        await app.engine.load(name)


def _announce(app: App, listener: socket.socket, started: float) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    # What was made until now lives as long as the server: looking for garbage among it cost 7 % of the throughput.
    gc.collect()
    gc.freeze()
    app.ready = True
    app.desk.ready_at = time.monotonic()
    _say(f"saccade ready on http://{shown}:{port}")
    systemd.notify("READY=1")
    log.info("ready after %.2f s", time.perf_counter() - started)


async def _tell_unserved(app: App) -> None:
    """Whoever looks for a model in vain looks here next."""
    problems: Callable[[], dict[str, ModelError]] = getattr(app.desk.library, "problems", dict)
    for name, problem in (await aside(problems)).items():
        log.warning("the model '%s' cannot be served: %s", name, problem.message)
    default = app.settings.default_model
    try:
        if default:
            await app.desk.find(default)
    except UnknownModel as error:
        if not error.offered:  # what is offered is fetched for its first call
            log.warning("calls that name no model are refused, for 'default_model' is '%s'. %s", default, error.message)
    except Error:  # one of those above, or a disk that is slow
        pass


def _say(line: str) -> None:
    """On standard output, if it takes it: a full disk under a log, or a reader who left, is no reason not to serve."""
    try:
        print(line, flush=True)
    except OSError as error:
        log.warning("standard output takes nothing: %s", error.strerror)
        # What was not written would be tried again at the end, and change the exit code.
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


async def _drained(app: App, entrance: Entrance) -> None:
    """Waits for accepted calls, as long as the settings allow."""
    app.drain()
    entrance.drain()
    crowd().leaving = True
    systemd.notify("STOPPING=1")
    begun = time.monotonic()
    end, told_at = begun + app.settings.drain_timeout_s, begun + TELL_AFTER_S

    def left() -> int:
        return app.inflight + entrance.inflight + crowd().taking

    while (left() or entrance.busy) and time.monotonic() < end:
        await asyncio.sleep(0.02)
        if time.monotonic() - begun > PARTING_S:
            app.turn_away()
        if time.monotonic() > told_at:
            told_at = math.inf
            log.info("finishing the calls that were accepted (%d); a second Ctrl-C ends at once", left())
    if left() or entrance.busy:
        seconds = app.settings.drain_timeout_s
        log.warning("breaking off the calls that are not finished after %g s (%d)", seconds, left())
    app.break_off()


def _stop_signals() -> asyncio.Event:
    """Set by the first SIGTERM, SIGINT or SIGHUP; a further SIGTERM or SIGINT ends the process on the spot,
    unless it comes with the first one (:data:`ECHO_S`).

    Under ``nohup`` SIGHUP stays ignored. A terminal that is closed may send it twice.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    first_at = math.inf

    def wish() -> None:
        nonlocal first_at
        first_at = min(first_at, time.monotonic())
        stop.set()

    def handle(number: int) -> None:
        if time.monotonic() - first_at > ECHO_S:
            os._exit(128 + number)
        wish()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, wish)
    return stop


def _prepare_home(settings: Settings) -> None:
    home = Path(settings.home)
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / f".probe-{os.getpid()}"
        try:
            probe.write_bytes(b"saccade")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise BadSettings(
            f"The home '{home}' cannot be written: {error.strerror}. Name another with --home or SACCADE_HOME."
        ) from error


def _explained(error: OSError) -> Error:
    if error.errno == errno.ENOSPC:
        return SetupError("The disk is full: saccade needs room in its home for keys and compiled models.")
    what = error.strerror or type(error).__name__
    where = f" ({error.filename})" if error.filename else ""
    return SetupError(f"The system refused something that the server needs: {what}{where}.")
