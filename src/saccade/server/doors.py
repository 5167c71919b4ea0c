"""Ports of their own for dedicated endpoints, beside the server's own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

import uvicorn

from saccade.endpoints.endpoint import Record
from saccade.errors import Error, SetupError, short_of

log = logging.getLogger("saccade.server")

RETRY_S = 30.0
"""How often a port that another program holds is tried again."""

Open = Callable[[int], tuple[uvicorn.Server, "asyncio.Task[None]"]]
"""Begins to serve on a port. Raises SetupError when the port cannot be used."""


class Doors:
    """The open ports, kept as the records say."""

    def __init__(self, begin: Open, own: int = 0) -> None:
        """``own`` is the port of the server itself, which is no endpoint's."""
        self.own = own
        self._begin = begin
        self._open: dict[int, tuple[uvicorn.Server, asyncio.Task[None]]] = {}
        self._problems: dict[int, str] = {}
        self._promised: list[int] = []
        self._keeping: asyncio.Task[None] | None = None

    def try_port(self, port: int) -> None:
        """Opens a port for an endpoint that is being made; nothing happens for 0 or an open one.

        Raises:
            SetupError: it is in use or may not be used.
        """
        if port and port == self.own:
            raise SetupError(f"Port {port} is that of this server itself. Choose another.")
        if port and port not in self._open:
            self._open[port] = self._begin(port)

    @contextlib.contextmanager
    def promised(self, port: int) -> Iterator[None]:
        """Keeps a port open that no record names yet."""
        self._promised.append(port)
        try:
            yield
        finally:
            self._promised.remove(port)

    def problem(self, port: int) -> str:
        """Why an endpoint's port is closed, as the beginning of a sentence; "" when it is open."""
        return self._problems.get(port, "")

    def open(self, records: Iterable[Record]) -> None:
        """Opens what the records name; a port that cannot be opened is left closed, told and logged."""
        for record in records:
            port = record.plan.port
            try:
                self.try_port(port)
            except (Error, OSError) as problem:  # or the system opens no more files now
                found = problem if isinstance(problem, Error) else short_of(problem)
                words = found.message if found is not None else str(problem.args[-1])
                if port not in self._problems:
                    log.warning("the endpoint '%s' cannot be reached at its own port: %s", record.name, words)
                self._problems[port] = words.partition(". ")[0]
            else:
                if self._problems.pop(port, ""):
                    log.info("the endpoint '%s' can be reached at its own port %d now", record.name, port)

    async def match(self, records: Sequence[Record]) -> None:
        """Opens what the records name, as :meth:`open` does, and closes the rest."""
        wanted = {record.plan.port for record in records if record.plan.port}
        self._problems = {port: problem for port, problem in self._problems.items() if port in wanted}
        closing = [self._open.pop(port) for port in set(self._open) - wanted.union(self._promised)]
        for server, _ in closing:
            server.should_exit = True
        self.open(records)  # before anything is waited for: another change may be quicker, and its records newer
        await asyncio.gather(*(task for _, task in closing), return_exceptions=True)

    def keep(self, records: Callable[[], Iterable[Record]], retry_s: float = RETRY_S) -> None:
        """From now on tries again and again what could not be opened."""

        async def keeping() -> None:
            while True:
                await asyncio.sleep(retry_s)
                self.open(records())

        self._keeping = asyncio.create_task(keeping())

    async def close(self) -> None:
        """Closes all."""
        if self._keeping is not None:
            self._keeping.cancel()
        await self.match(())
