"""Standard error, so that nobody waits for it: neither for a reader who has stopped nor for a disk that is full."""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
import time

MOST_BYTES = 1 << 20
"""So much is kept for a reader who has stopped (``| less``, Ctrl-S); what comes after it is left out."""

AT_ONCE = 4096
"""What a pipe that takes something takes without waiting: POSIX's PIPE_BUF, on Linux."""

LEAVE_S = 1.0
"""So long is waited at the end of the process for what is kept."""


class Outlet:
    """Lines in their order, as they are taken. How many are left out is told before the next. Thread-safe."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._missing = 0
        self._lock = threading.Lock()
        atexit.register(self._leave)

    def write(self, text: str) -> None:
        """Whole lines. Never raises, and never waits but for a disk that is slow."""
        with self._lock:
            if self._missing and not self._kept:
                missing, self._missing = self._missing, 0
                stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                if self._push(f"{stamp} up to {missing} lines are missing: the log took nothing\n".encode()):
                    self._missing = missing + text.count("\n")
                    return
            if len(self._kept) > MOST_BYTES:
                self._missing += text.count("\n") + self._push()
            else:
                self._missing += self._push(text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """What can be written was written."""

    def _push(self, more: bytes = b"", wait_ms: int = 0) -> int:
        """Writes what is taken now; how many lines are lost."""
        self._kept += more
        ready = select.poll()
        try:
            descriptor = sys.stderr.fileno()
            ready.register(descriptor, select.POLLOUT)
        except (AttributeError, OSError, ValueError):  # it is closed
            return self._clear()
        while self._kept and any(event & select.POLLOUT for _, event in ready.poll(wait_ms)):
            try:
                del self._kept[: os.write(descriptor, self._kept[:AT_ONCE])]
            except BlockingIOError:
                break
            except OSError:
                return self._clear()
        return 0

    def _clear(self) -> int:
        lost = self._kept.count(b"\n")
        self._kept.clear()
        return lost

    def _leave(self) -> None:
        with self._lock:
            self._push(wait_ms=round(LEAVE_S * 1e3))


OUTLET = Outlet()
