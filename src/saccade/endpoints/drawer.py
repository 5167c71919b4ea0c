"""Where the figures of endpoints lie while no server runs: a file each, by endpoint id."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path

import msgspec

from saccade.endpoints.figures import Figures, Report
from saccade.stores.store import alone

log = logging.getLogger("saccade.endpoints")


class Drawer:
    """A folder of this server's own: what it counted, and nobody else. Blocking, except :meth:`keep`: call it from a
    thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, id: str) -> Report | None:
        """What was kept; None when there is nothing that can be read."""
        try:
            return msgspec.msgpack.decode(self._file(id).read_bytes(), type=Report)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the figures of an endpoint cannot be read and begin anew (%s)", type(error).__name__)
            return None

    def write(self, id: str, content: bytes) -> None:
        """Keeps :func:`packed` figures; a server that is killed meanwhile leaves the older ones; one on the same home
        waits."""
        fresh = self._file(id).with_suffix(".new")
        with alone(self._folder):
            with open(fresh, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as target:
                target.write(content)
            fresh.replace(self._file(id))

    def remove(self, id: str) -> None:
        """Forgets one."""
        with contextlib.suppress(OSError):
            self._file(id).unlink()

    async def keep(self, id: str, figures: Figures) -> None:
        """Writes down what changed, in a thread; what cannot be written now is there for the next time."""
        try:
            await asyncio.to_thread(self.write, id, packed(figures.report()))
        except (OSError, RuntimeError):  # the disk is full, or there is no thread for it
            figures.changed = True

    def _file(self, id: str) -> Path:
        return self._folder / f"{id}.figures"


def packed(report: Report) -> bytes:
    """The figures as they are kept."""
    return msgspec.msgpack.encode(report)
