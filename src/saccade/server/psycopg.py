"""Connections to PostgreSQL that are given up when its server hangs: libpq would wait for ever."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg

PATIENCE_S = 10.0
"""Longest wait for the answer to one statement."""

CONNECT_S = 5
"""Longest wait for a connection, unless the URL says otherwise."""


class Patient(psycopg.Connection[Any]):
    """A connection that ends itself, and what waits for it, when an answer does not come in time."""

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **more: Any) -> Any:
        """psycopg's own, within :data:`PATIENCE_S`."""
        return super().wait(self._bounded(gen), *args, **more)

    def _bounded(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """The same steps; psycopg comes by ten times a second while nothing is ready."""
        end = time.monotonic() + PATIENCE_S
        try:
            ready = yield next(steps)
            while True:
                if not ready and time.monotonic() > end:
                    self.pgconn.finish()
                    raise psycopg.errors.ConnectionTimeout("the server did not answer in time")
                ready = yield steps.send(ready)
        except StopIteration as done:
            return done.value


def connected(*args: Any, **options: Any) -> Patient:
    """A new connection."""
    return Patient.connect(*args, **{"connect_timeout": CONNECT_S, **options})
