"""Starts the server, says when it is ready, and ends it well."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import uvicorn

from saccade.dialects.dialect import Dialect
from saccade.errors import BadSettings, Error, SetupError
from saccade.server import systemd
from saccade.server.app import App
from saccade.server.connection import guarded
from saccade.server.database import Database
from saccade.server.desk import Engine, Library
from saccade.server.doors import Doors
from saccade.server.records import SqlRecords
from saccade.server.settings import Settings
from saccade.server.shelves import open_library
from saccade.server.wiring import build, open_engine, open_gate

log = logging.getLogger("saccade.server")

BACKLOG = 2048
KEEP_ALIVE_S = 75
"""Longer than the usual idle time of proxies, so that they close first and never meet a closing connection."""


def serve(
    settings: Settings,
    *,
    library: Library | None = None,
    engine: Engine | None = None,
    dialects: Sequence[Dialect] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT: then health turns 503, accepted calls finish, and this returns.

    A second signal ends the process at once. The parts can be handed in by tests and by Ray.

    Raises:
        SetupError: the port, the home or a model folder cannot be used; the message says what to do.
        Error: a model that should be preloaded cannot be.
    """
    started = time.perf_counter()
    _speak()
    try:
        _prepare_home(settings)
        _check_folders(settings)
        database = Database(settings.database_url, settings.home)
        gate = open_gate(settings, database)
        with listening(settings.host, settings.port) as listener:
            library = library or open_library(settings)
            engine = engine or open_engine(settings, library)
            app = build(settings, library, engine, gate, dialects, SqlRecords(database))
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_serve(app, listener, started))
    except KeyboardInterrupt:
        return
    except OSError as error:
        raise _explained(error) from error


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket, closed at the end.

    Raises:
        SetupError: the port is taken or may not be used.
        BadSettings: the host is no address of this machine.
    """
    bare = host.strip("[]") or "0.0.0.0"  # noqa: S104 - only when the user asked for it with an empty host
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise BadSettings(f"The host '{host}' is not known here: {error.strerror or error}.") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise _unbound(error, host, port) from error
        listener.listen(BACKLOG)
        listener.setblocking(False)
        yield listener


async def _serve(app: App, listener: socket.socket, started: float) -> None:
    server = _server(app)
    stop = _stop_signals()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    app.doors = Doors(lambda port: _door(app, port))
    try:
        if await _warmed(app, stop):
            _announce(app, listener, started)
            if app.fleet is not None:
                await app.fleet.open()
                await app.doors.match(app.fleet.records())
            await stop.wait()
        await _drained(app)
    finally:
        server.should_exit = True
        with contextlib.suppress(Exception):
            await serving
        await app.close()


def _server(app: App) -> _Server:
    settings = app.settings
    return _Server(
        uvicorn.Config(
            app,
            loop="none",
            http=guarded(settings.max_header_bytes, settings.body_timeout_s),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=5,
        )
    )


def _door(app: App, port: int) -> tuple[uvicorn.Server, asyncio.Task[None]]:
    """A further port of the same host. Raises SetupError."""
    server, opening = _server(app), contextlib.ExitStack()
    listener = opening.enter_context(listening(app.settings.host, port))

    async def serving() -> None:
        with opening:
            await server.serve(sockets=[listener])

    return server, asyncio.create_task(serving())


async def _warmed(app: App, stop: asyncio.Event) -> bool:
    """Whether everything that should be loaded is; False when the server is asked to stop before."""
    warming = asyncio.create_task(_warm(app))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({warming, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not warming.done():
        warming.cancel()
        await asyncio.wait({warming})
        return False
    warming.result()
    return True


async def _warm(app: App) -> None:
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
    print(f"saccade ready on http://{shown}:{port}", flush=True)
    systemd.notify("READY=1")
    log.info("ready after %.2f s", time.perf_counter() - started)


async def _drained(app: App) -> None:
    """Waits for accepted calls, as long as the settings allow."""
    app.draining = True
    systemd.notify("STOPPING=1")
    end = time.monotonic() + app.settings.drain_timeout_s
    while app.inflight and time.monotonic() < end:
        await asyncio.sleep(0.02)


def _stop_signals() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second one ends the process on the spot."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handle(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)
    return stop


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: it would close the port before accepted calls are done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _speak() -> None:
    """Our log goes to stderr; the ready line has stdout for itself."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    for name, level in (("saccade", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(handler)
            logger.setLevel(level)
            logger.propagate = False


def _prepare_home(settings: Settings) -> None:
    home = Path(settings.home)
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / f".probe-{os.getpid()}"
        probe.write_bytes(b"saccade")
        probe.unlink()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise BadSettings(
            f"The home '{home}' cannot be written: {error.strerror}. Name another with --home or SACCADE_HOME."
        ) from error


def _check_folders(settings: Settings) -> None:
    for name in settings.models:
        folder = Path(name).expanduser()
        if not folder.exists():
            raise BadSettings(f"The model folder '{name}' does not exist. Check the setting 'models'.")
        if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
            raise BadSettings(f"The model folder '{name}' cannot be read. Give this user the right to read it.")


def _unbound(error: OSError, host: str, port: int) -> Error:
    if error.errno == errno.EADDRINUSE:
        return SetupError(f"Port {port} is in use on {host}. Stop the other program, or choose another with --port.")
    if error.errno == errno.EACCES:
        return SetupError(f"This user may not listen on port {port}. Choose one above 1023 with --port.")
    return BadSettings(f"Cannot listen on {host}:{port}: {error.strerror}. Check the settings 'host' and 'port'.")


def _explained(error: OSError) -> Error:
    if error.errno == errno.ENOSPC:
        return SetupError("The disk is full: saccade needs room in its home for keys and compiled models.")
    return SetupError(f"The system refused something that the server needs: {error.strerror or type(error).__name__}.")
