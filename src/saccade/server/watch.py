"""Notices that the caller left, or that the server stops, and cancels what is being done for it."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive, Scope

DEPARTURE = "saccade.departure"
"""The extension of the ASGI scope by which our own connections tell that the caller left, without a task that waits
for it. Its "tell" takes a function, or None."""


class Watch:
    """Cancels the task that made it when the caller leaves, when a part of the work takes too long, or when it is given
    up.

    ``start`` only after the body was read: both read from the same connection. ``left`` and ``given_up`` tell what
    happened.
    """

    def __init__(self, receive: Receive, scope: Scope) -> None:
        self.left = self.given_up = self.started = False
        self._receive = receive
        self._tell = scope.get("extensions", {}).get(DEPARTURE, {}).get("tell")
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = asyncio.current_task(self._loop)
        self._listener: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to listen; a second call does nothing."""
        self.started = True
        if self._tell is not None:
            self._tell(self._gone)
        elif self._listener is None:
            self._listener = self._loop.create_task(self._listen())

    def within(self, seconds: float) -> Within:
        """``with watch.within(5):`` raises TimeoutError when what is inside takes longer."""
        return Within(self._loop, self._task, seconds)

    def give_up(self) -> None:
        """Nobody waits for the task any longer; it may say so before it ends, see :meth:`resume`."""
        if self._task is not None and not self.left and not self.given_up:
            self.given_up = True
            self._task.cancel()

    def resume(self) -> bool:
        """Whether it was cancelled as one that is given up; that is undone, so that the caller can be told."""
        if self.left or not self.given_up or self._task is None:
            return False
        self._task.uncancel()
        return True

    def stop(self) -> None:
        """Stops listening; after this nothing is cancelled any more."""
        if self._tell is not None:
            self._tell(None)
        if self._listener is not None:
            self._listener.cancel()
        if self.left and self._task is not None:
            self._task.uncancel()
        self._task = None

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone()

    def _gone(self) -> None:
        if self._task is not None and not self.left:
            self.left = True
            self._task.cancel()


class Within:
    """``asyncio.timeout`` for a task that knows its loop: the same rules at a third of the price.

    (Before Python 3.12 every look for the running loop and task is a system call, and there are two limits on the way
    of every request.)
    """

    __slots__ = ("_late", "_loop", "_seconds", "_task", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None, seconds: float) -> None:
        self._loop = loop
        self._task = task
        self._seconds = seconds
        self._late = False

    def __enter__(self) -> None:
        self._timer = self._loop.call_later(max(0.0, self._seconds), self._expire)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        # Somebody else may have cancelled the task, too: then it is a cancellation and no timeout.
        if self._late and self._task is not None and not self._task.uncancel() and kind is asyncio.CancelledError:
            raise TimeoutError

    def _expire(self) -> None:
        self._late = True
        if self._task is not None:
            self._task.cancel()
