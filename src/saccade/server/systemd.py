"""Tells systemd how the server is, where it asks to be told (sd_notify)."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import socket
from collections.abc import Iterator

WAIT_S = 1.0
"""So long a word may take to be sent; a system that takes none must not keep callers waiting."""


def notify(state: str) -> None:
    """Sends ``READY=1``, ``STOPPING=1`` or the like to ``NOTIFY_SOCKET``; without one, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.settimeout(WAIT_S)
        line.connect("\0" + address[1:] if address.startswith("@") else address)
        line.sendall(state.encode())


def pause_s() -> float | None:
    """How long to wait between two signs of life: half of what ``WatchdogSec=`` says; None where nobody asks."""
    micros, asked = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not micros.isascii() or not micros.isdigit() or not int(micros) or asked not in ("", str(os.getpid())):
        return None
    return int(micros) / 2e6


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Meanwhile the event loop gives signs of life, if systemd wants them: it ends a process that gives none."""
    pause = pause_s()
    if pause is None:
        yield
        return
    faulthandler.enable()  # it ends it with SIGABRT: then the log has the place where it hung
    living = asyncio.create_task(_live(pause))
    try:
        yield
    finally:
        living.cancel()


async def _live(pause: float) -> None:
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(pause)
