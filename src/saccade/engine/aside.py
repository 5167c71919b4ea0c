"""Work that waits for a disk or for files from elsewhere, in a thread of its own: what hangs holds up nothing else.

The event loop's own pool has a handful of threads that much depends on, and the end of the process waits for them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


async def aside(work: Callable[[], T]) -> T:
    """What ``work`` returns or raises. Whoever starts it sees to it that not too much is under way at one time."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()
    threading.Thread(target=_run, args=(work, loop, outcome), name="aside", daemon=True).start()
    try:
        return await outcome
    finally:
        del outcome  # it has the error, and the error this frame: no circle is left behind


def _run(work: Callable[[], T], loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[T]) -> None:
    try:
        settle, value = outcome.set_result, work()
    except BaseException as error:
        settle, value = outcome.set_exception, error.with_traceback(_without_first(error))  # type: ignore[assignment]
    with suppress(RuntimeError):  # the loop has ended, and nobody waits
        loop.call_soon_threadsafe(_tell, outcome, settle, value)


def _tell(outcome: asyncio.Future[T], settle: Callable[[Any], None], value: Any) -> None:
    if not outcome.done():
        settle(value)


def _without_first(error: BaseException) -> TracebackType | None:
    """Where the error rose, without the frame that caught it and has it."""
    return error.__traceback__ and error.__traceback__.tb_next
