"""How many connections this process may hold, and who makes room when one more comes.

Every connection takes a file descriptor, and the system gives a process only so many. Without a bound the kernel would
reset new callers while thousands hold connections on which they ask nothing, and no worker could be started either.
"""

from __future__ import annotations

import logging
import sys
import time
from functools import cache
from typing import Protocol

log = logging.getLogger("saccade.server")

RESERVE = 2304
"""Descriptors for everything but callers: workers, files, and as many callers as may arrive between two looks."""

UNBOUNDED = 1 << 20
TELL_S = 60.0


class Guest(Protocol):
    """A connection."""

    @property
    def unsent(self) -> bool:
        """Whether something of its answers has not left this process."""

    def make_room(self) -> None:
        """Ends it at once."""


class Crowd:
    """All connections of this process, whatever the port. Used from the event loop only."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.leaving = False
        """The server stops: who reads, however slowly, may read on; nobody else is waited for long."""
        self._here: set[Guest] = set()
        self._idle: dict[Guest, None] = {}
        self._told_at = float("-inf")

    def enter(self, guest: Guest) -> bool:
        """Whether there is room for one more; the one that has asked nothing for longest makes it."""
        if len(self._here) >= self.most:
            self._tell()
            oldest = next(iter(self._idle), None)
            if oldest is None:
                return False
            self.leave(oldest)
            oldest.make_room()
        self._here.add(guest)
        self._idle[guest] = None
        return True

    def busy(self, guest: Guest) -> None:
        """A request has come on it."""
        self._idle.pop(guest, None)

    def idle(self, guest: Guest) -> None:
        """It waits for a request."""
        if guest in self._here:
            self._idle[guest] = None

    def leave(self, guest: Guest) -> None:
        """It has ended; a second time does nothing."""
        self._here.discard(guest)
        self._idle.pop(guest, None)

    @property
    def taking(self) -> int:
        """How many have an answer that is complete, but that they have not taken whole."""
        return sum(guest.unsent for guest in self._idle)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told_at > TELL_S:
            self._told_at = now
            log.warning(
                "%d connections are open, as many as the limit of open files allows (ulimit -n); "
                "those that ask nothing make room",
                self.most,
            )


@cache
def crowd() -> Crowd:
    """The one of this process, which from now on may open as many files as the system lets it."""
    limit = descriptors()
    return Crowd(max(16, limit - min(RESERVE, limit // 3)))


def descriptors() -> int:
    """How many files this process may open, after asking for as many as it may."""
    if sys.platform == "win32":
        return UNBOUNDED
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = UNBOUNDED if hard == resource.RLIM_INFINITY else min(hard, UNBOUNDED)
    while soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            break
        except (OSError, ValueError):  # macOS tells no limit, has one all the same, and refuses what is over it
            wanted //= 2
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return UNBOUNDED if soft == resource.RLIM_INFINITY else min(soft, UNBOUNDED)
