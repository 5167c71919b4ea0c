"""What a process needs to receive callers: a socket, uvicorn, an event loop, and a voice for its log."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from saccade.engine.voice import formatter
from saccade.errors import BadSettings, Error, SetupError
from saccade.server.app import App
from saccade.server.connection import guarded
from saccade.server.crowd import crowd
from saccade.server.outlet import OUTLET

BACKLOG = 2048
KEEP_ALIVE_S = 75
"""Longer than the usual idle time of proxies, so that they close first and never meet a closing connection."""


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


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that takes no callers, but keeps the port for those that :func:`beside` makes.

    Raises:
        The same as :func:`listening`.
    """
    # A shared port is open to every program of this user; only a socket that shares with nobody finds it taken.
    with listening(host, port) as probe:
        family, address = probe.family, probe.getsockname()
    with _shared(family, address) as keeper:
        yield keeper


def beside(keeper: socket.socket) -> socket.socket:
    """A further socket on the same port; the system spreads new connections over all that listen."""
    return _shared(keeper.family, keeper.getsockname())


def server_of(app: App) -> uvicorn.Server:
    """uvicorn for an application; sockets and signals are the caller's."""
    settings = app.settings
    return _Server(
        uvicorn.Config(
            app,
            loop="none",
            http=guarded(settings.max_header_bytes, settings.max_body_bytes, settings.body_timeout_s, crowd()),
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


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def speak() -> None:
    """Our log goes to stderr; the ready line has stdout for itself."""
    handler = logging.StreamHandler(OUTLET)
    handler.setFormatter(formatter())
    for name, level in (("saccade", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(handler)
            logger.setLevel(level)
            logger.propagate = False


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: it would close the port before accepted calls are done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _shared(family: int, address: Any) -> socket.socket:
    shared = socket.socket(family, socket.SOCK_STREAM)
    try:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(address)
    except BaseException:
        shared.close()
        raise
    shared.setblocking(False)
    return shared


def _unbound(error: OSError, host: str, port: int) -> Error:
    if error.errno == errno.EADDRINUSE:
        return SetupError(f"Port {port} is in use on {host}. Stop the other program, or choose another with --port.")
    if error.errno == errno.EACCES:
        return SetupError(f"This user may not listen on port {port}. Choose one above 1023 with --port.")
    return BadSettings(f"Cannot listen on {host}:{port}: {error.strerror}. Check the settings 'host' and 'port'.")
