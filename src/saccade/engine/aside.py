"""Work that waits for a disk or for files from elsewhere, in a thread of its own: what hangs holds up nothing else.

The event loop's own pool has a handful of threads that much depends on, and the end of the process waits for them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def aside(work: Callable[[], T]) -> T:
    """What ``work`` returns or raises. Whoever starts it sees to it that not too much is under way at one time."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def tell(settle: Callable[[Any], None], value: Any) -> None:
        if not outcome.done():
            settle(value)

    def run() -> None:
        try:
            settle, value = outcome.set_result, work()
        except BaseException as error:
            settle, value = outcome.set_exception, error  # type: ignore[assignment]
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(tell, settle, value)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return await outcome
