"""Processes that end with the one that started them, and those that one takes over."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
from typing import Protocol

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Child(Protocol):
    """A child process, as :class:`subprocess.Popen` shows it."""

    @property
    def pid(self) -> int:
        """Its number."""

    def poll(self) -> int | None:
        """Its exit code (of a signal: minus its number), or None while it runs. Takes a dead one out of the system."""

    def kill(self) -> None:
        """Ends it on the spot; nothing happens when it has ended."""


class Adopted:
    """A child process that another one has forked; see :class:`Adoption`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    @property
    def known_alive(self) -> bool:
        """Whether nobody has seen its end yet."""
        return self._code is None

    def poll(self) -> int | None:
        """See :class:`Child`; 0 also when somebody else took it out of the system."""
        if self._code is None:
            try:
                found, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._code = 0
            else:
                self._code = os.waitstatus_to_exitcode(status) if found else None
        return self._code

    def kill(self) -> None:
        """See :class:`Child`."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def die_with(parent: int) -> None:
    """Asks the kernel (Linux) to end this process together with its parent, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


class Adoption:
    """While it lasts, processes whose parent ends become children of this one, if they descend from it.

    Nobody else's should, who would never be taken out of the system: it is to be as short as it can be.
    """

    _lock = threading.Lock()
    _lasting = 0

    def __init__(self) -> None:
        """Raises OSError where the system has nothing like it (all but Linux)."""
        with Adoption._lock:
            if not Adoption._lasting and not _set_reaper(True):
                raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
            Adoption._lasting += 1

    def end(self) -> None:
        """To be called once."""
        with Adoption._lock:
            Adoption._lasting -= 1
            if not Adoption._lasting:
                _set_reaper(False)


def _set_reaper(wanted: bool) -> bool:
    return sys.platform == "linux" and not ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)
