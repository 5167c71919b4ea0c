"""Notices that the caller left, and cancels what is being done for it."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive


class Watch:
    """Cancels the task that made it when the caller leaves.

    ``start`` only after the body was read: both read from the same connection. ``left`` tells whether it happened.
    """

    def __init__(self, receive: Receive) -> None:
        self.left = False
        self._receive = receive
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        self._listener: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to listen; a second call does nothing."""
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())

    def stop(self) -> None:
        """Stops listening; after this nothing is cancelled any more."""
        if self._listener is not None:
            self._listener.cancel()
        if self.left and self._task is not None:
            self._task.uncancel()
        self._task = None

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None:
            self.left = True
            self._task.cancel()
