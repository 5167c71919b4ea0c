"""What the library said of models, so that the event loop never waits for the disk on which they lie."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from saccade.errors import Overloaded, anew

T = TypeVar("T")

FRESH_S = 1.0
"""How long an answer is believed before the library, which looks at the files, is asked again."""

PATIENCE_S = 0.5
"""How long a caller waits for a library that has answered before; then its last answer serves until it is done."""

LONGEST_S = 10.0
"""How long one waits for what was never answered."""

MOST_KEPT = 1024
"""How many answers are remembered: callers write one name in many ways."""

MOST_AT_ONCE = 8
"""How many questions the library is asked at one time."""

MOST_WAITING = 1000


class Unasked(Exception):
    """Nobody asked lately about the model ``ref``, or, where that is None, about all of them."""

    def __init__(self, ref: str | None) -> None:
        super().__init__(ref)
        self.ref = ref


class Inquiries(Generic[T]):
    """Answers by ref; each question is asked once, however many want to know. Used from the event loop.

    :meth:`told` may also be called in other threads.
    """

    def __init__(
        self, ask: Callable[[str | None], Awaitable[T]], fresh_s: float = FRESH_S, longest_s: float = LONGEST_S
    ) -> None:
        self._ask = ask
        self._fresh_s = fresh_s
        self._longest_s = longest_s
        self._kept: dict[str | None, tuple[float, T]] = {}
        self._late: set[str | None] = set()
        self._asking: dict[str | None, asyncio.Task[T]] = {}
        self._room = asyncio.Semaphore(MOST_AT_ONCE)

    def __len__(self) -> int:
        return len(self._kept)

    def told(self, ref: str | None) -> T:
        """The answer of less than :data:`FRESH_S` ago; the last one while the library is slow to answer again.

        Raises:
            Unasked: there is none.
        """
        until, answer = self._kept.get(ref) or (0.0, None)
        if answer is None or (time.monotonic() > until and ref not in self._late):
            raise Unasked(ref)
        return answer

    async def ask(self, ref: str | None, patience_s: float = PATIENCE_S) -> T:
        """The library's answer now, or the last one if that takes longer than the caller's patience.

        Raises:
            Overloaded: there is no last one.
            Error: what the library raises.
        """
        task = self._asking.get(ref) or self._begin(ref)
        done, _ = await asyncio.wait({task}, timeout=patience_s if ref in self._kept else self._longest_s)
        if done:
            if (error := task.exception()) is not None:
                raise anew(error)
            return task.result()
        if ref not in self._kept:
            raise _slow()
        self._late.add(ref)
        return self._kept[ref][1]

    def _begin(self, ref: str | None) -> asyncio.Task[T]:
        if len(self._asking) >= MOST_WAITING:
            raise _slow()
        task = self._asking[ref] = asyncio.get_running_loop().create_task(self._answer(ref))
        # Everybody who wanted to know may have left.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _answer(self, ref: str | None) -> T:
        try:
            async with self._room:
                answer = await self._ask(ref)
        except BaseException:
            self._kept.pop(ref, None)
            raise
        finally:
            del self._asking[ref]
            self._late.discard(ref)
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[ref] = (time.monotonic() + self._fresh_s, answer)
        return answer


def _slow() -> Overloaded:
    return Overloaded(
        "The disk or network folder with the models does not answer, so the model cannot be looked for. Try again "
        "shortly.",
        retry_after_s=LONGEST_S,
    )
