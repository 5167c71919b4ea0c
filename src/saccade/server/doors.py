"""Ports of their own for dedicated endpoints, beside the server's own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

import uvicorn

from saccade.endpoints.endpoint import Record
from saccade.errors import Error

log = logging.getLogger("saccade.server")

Open = Callable[[int], tuple[uvicorn.Server, "asyncio.Task[None]"]]
"""Begins to serve on a port. Raises SetupError when the port cannot be used."""


class Doors:
    """The open ports, kept as the records say."""

    def __init__(self, begin: Open) -> None:
        self._begin = begin
        self._open: dict[int, tuple[uvicorn.Server, asyncio.Task[None]]] = {}

    def try_port(self, port: int) -> None:
        """Opens a port for an endpoint that is being made; nothing happens for 0 or an open one.

        Raises:
            SetupError: it is in use or may not be used.
        """
        if port and port not in self._open:
            self._open[port] = self._begin(port)

    async def match(self, records: Iterable[Record]) -> None:
        """Opens what the records name and closes the rest; a port that cannot be opened is left closed, and logged."""
        wanted = {record.plan.port for record in records if record.plan.port}
        for port in set(self._open) - wanted:
            server, task = self._open.pop(port)
            server.should_exit = True
            with contextlib.suppress(Exception):
                await task
        for port in wanted:
            try:
                self.try_port(port)
            except Error as error:
                log.warning("an endpoint cannot be reached at its own port: %s", error.message)

    async def close(self) -> None:
        """Closes all."""
        await self.match(())
