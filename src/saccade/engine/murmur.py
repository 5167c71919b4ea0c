"""What the libraries of a worker write to standard error, once it looks at what strangers send.

Decoders complain there about damaged files, whole lines of them for one file, which belongs into nobody's log. It goes
into a small file without a name that the front holds, too: when the worker crashes, its last line is told, because the
allocator and the C++ runtime say there why they gave up. The worker's own log keeps its way to the front's.
"""

from __future__ import annotations

import fcntl
import os

MOST_BYTES = 64 << 10
"""From here on the file begins anew."""

TAIL_BYTES = 2048
LONGEST = 300


class Murmur:
    """The file, as either side sees it. Not closed by itself: the front closes its side when the worker has ended."""

    def __init__(self, descriptor: int | None = None) -> None:
        """``descriptor`` is the one that was inherited; without it a new file is made."""
        self.descriptor = _nameless() if descriptor is None else descriptor

    def take(self, stream: int) -> None:
        """Lets everything that is written to this descriptor of the process come here from now on."""
        # Each write goes to the end, wherever that is after the file was cut.
        flags = fcntl.fcntl(self.descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self.descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
        os.dup2(self.descriptor, stream)

    def trim(self) -> None:
        """Forgets all when there is too much."""
        if os.fstat(self.descriptor).st_size > MOST_BYTES:
            os.ftruncate(self.descriptor, 0)

    def last_words(self) -> str:
        """The last line without folders of this machine, or ""."""
        size = os.fstat(self.descriptor).st_size
        tail = os.pread(self.descriptor, TAIL_BYTES, max(0, size - TAIL_BYTES)).decode(errors="replace")
        lines = [line for line in tail.splitlines() if line.strip()]
        words = lines[-1].split() if lines else []
        return " ".join(word for word in words if "/" not in word and word.isprintable())[:LONGEST]

    def close(self) -> None:
        """Gives the file up."""
        os.close(self.descriptor)


def _nameless() -> int:
    if hasattr(os, "memfd_create"):
        return int(os.memfd_create("murmur"))
    import tempfile  # where the system has no files in memory; every worker would import it for nothing

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
