"""Who may wait, how many, and who is next.

A line is bounded: it refuses at the door, at once and with the time after which it makes sense to come back, rather
than let everybody wait too long. Higher priorities go first; among equals every caller has a turn.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from saccade.call import Answer, Call
from saccade.errors import DeadlinePassed, Error, Overloaded

MEMORY = 0.1
"""Weight of the newest measurement in the moving average of the service time."""

GREED = 0.75
"""The part of a line that one named caller may fill."""

SHARE = GREED / (1 - GREED)
"""How many times the room that is left a named caller may hold: several that flood a line fill equal parts of it, and
leave room for those who ask for little (Choudhury and Hahne, Dynamic queue length thresholds, 1998)."""

RETRY_RANGE_S = (0.05, 60.0)


@dataclass(slots=True, eq=False)
class Entry:
    """A call that was accepted, with its own future (image) or frames (video); nobody else answers it."""

    id: int
    call: Call
    answer: asyncio.Future[Answer]
    arrived: float
    deadline: float
    frames: asyncio.Queue[Answer | Error | None] | None = None
    sent: float = 0.0
    attempts: int = 0
    delivered: int = 0
    timer: asyncio.TimerHandle | None = None

    async def next_frame(self) -> Answer | Error | None:
        """The next answer of a video; an Error or None is the last."""
        return None if self.frames is None else await self.frames.get()

    def fail(self, error: Error) -> None:
        """Tells the caller, unless it has been answered or has left."""
        if self.frames is not None:
            self.frames.put_nowait(error)
        if not self.answer.done():
            self.answer.set_exception(error)
            # The caller may have left at this moment; its error is then nobody's.
            self.answer.exception()


@dataclass(slots=True)
class Counts:
    """What happened to the calls of a model, since it was first loaded."""

    accepted: int = 0
    refused: int = 0
    would_refuse: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    retried: int = 0
    crashes: int = 0
    batches: dict[int, int] = field(default_factory=dict)


class Rate:
    """How fast calls are served: the moving average of the time between sending one and its answer."""

    def __init__(self) -> None:
        self.service_s: float | None = None

    def note(self, took_s: float) -> None:
        """One more call was served."""
        old = self.service_s
        self.service_s = took_s if old is None else old + MEMORY * (took_s - old)

    def wait_s(self, ahead: int, slots: int) -> float:
        """When a call with so many before it would be done, with so many served side by side (Little's law)."""
        return 0.0 if self.service_s is None else self.service_s * (ahead + 1) / max(1, slots)


class Line:
    """The calls that wait for one model. Used from the event loop only."""

    def __init__(self, name: str, limit: int, counts: Counts, dry_run: bool = False) -> None:
        self.name = name
        self.limit = limit
        self.pace = Rate()
        self.counts = counts
        self._dry_run = dry_run
        self._levels: dict[int, OrderedDict[str, deque[Entry]]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Entry]:
        for level in self._levels.values():
            for waiting in level.values():
                yield from waiting

    def admit(self, entry: Entry, slots: int, busy: int, room: int) -> None:
        """Puts a new entry into the line.

        ``slots`` are served side by side, ``busy`` of them taken; ``room`` is left in all lines together.

        Raises:
            Overloaded: the line is full, or the entry would not be served before its deadline.
        """
        reason = self._objection(entry, slots, busy, room)
        if reason is not None:
            if not self._dry_run:
                self.counts.refused += 1
                raise Overloaded(reason, retry_after_s=self.retry_after_s(slots))
            self.counts.would_refuse += 1
        self.counts.accepted += 1
        self._place(entry).append(entry)
        self._length += 1

    def put_back(self, entry: Entry) -> None:
        """Puts an entry that was already sent once in front of all others of its priority: it has had its turn."""
        self._place(entry).appendleft(entry)
        self._levels[entry.call.priority].move_to_end(entry.call.caller, last=False)
        self._length += 1

    def take(self) -> Entry | None:
        """The next entry: highest priority, callers in turn, oldest first."""
        if not self._length:
            return None
        priority = max(self._levels)
        level = self._levels[priority]
        caller, waiting = level.popitem(last=False)
        entry = waiting.popleft()
        if waiting:
            level[caller] = waiting
        elif not level:
            del self._levels[priority]
        self._length -= 1
        return entry

    def discard(self, entry: Entry) -> bool:
        """Takes an entry out whose caller left or whose time is over; False if it is not here any more."""
        level = self._levels.get(entry.call.priority, OrderedDict())
        waiting = level.get(entry.call.caller)
        if waiting is None or entry not in waiting:
            return False
        waiting.remove(entry)
        self._length -= 1
        if not waiting:
            del level[entry.call.caller]
            if not level:
                del self._levels[entry.call.priority]
        return True

    def retry_after_s(self, slots: int) -> float:
        """When about half of what waits now will be served."""
        least, most = RETRY_RANGE_S
        return min(most, max(least, self.pace.wait_s(self._length // 2, slots)))

    def _place(self, entry: Entry) -> deque[Entry]:
        level = self._levels.setdefault(entry.call.priority, OrderedDict())
        return level.setdefault(entry.call.caller, deque())

    def _objection(self, entry: Entry, slots: int, busy: int, room: int) -> str | None:
        if busy < slots and not self._length:
            return None
        if self._length >= self.limit:
            return f"The model '{self.name}' has {self._length} calls waiting, which is as many as may. Try again."
        if room < 1:
            return "As many calls wait for all models together as may. Try again."
        caller = entry.call.caller
        held = sum(len(level[caller]) for level in self._levels.values() if caller in level)
        most = min(int(self.limit * GREED), int((self.limit - self._length) * SHARE))
        if caller != "anonymous" and held >= max(1, most):
            return f"You have {held} calls waiting for the model '{self.name}', which is as many as one caller may now."
        ahead = self._ahead(entry.call)
        if self.pace.wait_s(ahead + busy, slots) > entry.deadline - time.monotonic():
            return f"The model '{self.name}' has {ahead} calls before yours, and your time would be over by then."
        return None

    def _ahead(self, call: Call) -> int:
        """How many go before a new call: those of higher priorities, and of its equals as many of each caller as it
        has turns to wait for."""
        equals = self._levels.get(call.priority, OrderedDict())
        turns = len(equals.get(call.caller, ())) + 1
        higher = sum(
            sum(map(len, level.values())) for priority, level in self._levels.items() if priority > call.priority
        )
        return higher + sum(min(len(waiting), turns) for waiting in equals.values())


def expired() -> DeadlinePassed:
    """What a caller is told whose time was over."""
    return DeadlinePassed("The call was not answered before its deadline: it timed out.")
