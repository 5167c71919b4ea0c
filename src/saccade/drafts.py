"""Folders for what is being made. None outlives its work for long, even if whoever made it was killed: the next one
clears it away."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


@contextmanager
def draft(home: Path, prefix: str) -> Iterator[Path]:
    """A new folder in ``home``, gone at the end unless it was moved away; those of the same prefix that nobody works in
    any more are deleted first.

    Raises:
        OSError: it cannot be made.
    """
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with ExitStack() as door:  # a folder that was made and is not locked yet must not seem to be left over
            _lock(home, fcntl.LOCK_EX, door)
            for left in home.glob(f"{prefix}*"):
                _clear(left)
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=home))
            _lock(folder, fcntl.LOCK_EX, held)
            held.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def _clear(left: Path) -> None:
    """Deletes a folder, unless somebody works in it. The system takes a lock back whatever its holder ends by."""
    with suppress(OSError), ExitStack() as held:
        if _lock(left, fcntl.LOCK_EX | fcntl.LOCK_NB, held):
            shutil.rmtree(left, ignore_errors=True)


def _lock(folder: Path, how: int, held: ExitStack) -> bool:
    """Whether it could be locked; not on a file system without locks, where nothing is deleted either."""
    descriptor = os.open(folder, os.O_RDONLY)
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        return False
    return True
