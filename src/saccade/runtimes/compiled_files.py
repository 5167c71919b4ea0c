"""Compiled graphs on the disk: a room for each revision of a model, in which every file has a checksum.

A library that maps a compiled graph into memory trusts every byte of it: one that has changed on the disk gives wrong
answers, or ends the process. So a file is compared with its checksum before the library may see it, and one that is
damaged, or was never finished, is removed, whereupon the graph is compiled anew. Rooms that nobody entered for a month,
those of former revisions above all, are cleared, and so is what lies in a room for other numbers of threads.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path

from saccade.card import Card

log = logging.getLogger(__name__)

CHECKSUM = ".crc32"
UNFINISHED_S = 600
"""A file that is so old and has no checksum was left by a process that ended while it wrote."""
LOCK = ".lock"
KNOWN = ".known"
"""Of the files that tell which graphs were compiled into a folder, for the library's own names do not."""
PATIENCE_S = 120
"""So long a process waits for another one that compiles the same; longer than that, it has stopped."""
UNUSED_S = 30 * 86_400

_sound: set[tuple[str, int, int]] = set()
"""Files that were compared by this process: path, time of change in ns, bytes."""


def room(cache_dir: str, card: Card, kind: str) -> Path:
    """Where the compiled graphs of this revision of the model lie; ``kind`` is the library's own part of it."""
    facts = repr((card.name, card.revision or card.files)).encode()
    return Path(cache_dir) / kind / blake2b(facts, digest_size=10).hexdigest()


@contextmanager
def alone(folder: Path, graph: str) -> Iterator[None]:
    """Makes the folder, and lets one process at a time compile the graph there: the others find it then.

    Once it is there, all may come in together.

    Raises:
        OSError: the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = (folder / LOCK).open("w")
    except OSError:  # nothing is written there, but what is there may be read
        yield
        return
    known, end = folder / f"{graph}{KNOWN}", time.monotonic() + PATIENCE_S
    with lock:
        while time.monotonic() < end:
            compiled = known.exists()
            try:
                fcntl.flock(lock, (fcntl.LOCK_SH if compiled else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            except OSError:  # a file system without locks
                pass
            if compiled == known.exists():
                break
        yield


def look_through(folder: Path) -> None:
    """Removes the files in the folder that are damaged or were never finished."""
    for file in folder.glob("*.blob"):
        with suppress(OSError):  # another process may have removed it
            mark = _mark(file)
            if mark not in _sound and _is_sound(file):
                _sound.add(mark)
    for entered in (folder, folder.parent):
        with suppress(OSError):
            os.utime(entered)


def seal(folder: Path, graph: str, found: bool) -> None:
    """Gives checksums to the files that were written since :func:`look_through`, and clears what beside this folder
    and its room was not used for long.

    ``found``: the graph was there already.
    """
    new = [file for file in folder.glob("*.blob") if not _is_known(file)]
    for file in new:
        draft = file.with_suffix(f".{os.getpid()}")
        try:
            mark = _mark(file)
            draft.write_text(_checksum(file))
            draft.replace(_checksum_of(file))
            _sound.add(mark)
        except OSError:
            not_kept()
            with suppress(OSError):
                draft.unlink(missing_ok=True)
    if not new and not found:
        not_kept()
    if new or found:
        with suppress(OSError):
            (folder / f"{graph}{KNOWN}").touch()
    if new:
        for house in (folder.parent, folder.parent.parent):
            _clear(house)


@cache
def not_kept() -> None:
    """Tells, once in a process, that graphs are compiled anew next time."""
    log.warning(
        "a compiled graph could not be kept on the disk, and is made anew whenever its model is opened: the home must "
        "be writable and have room"
    )


def _is_known(file: Path) -> bool:
    """Whether the file was compared, and not written since: another version of the library writes over a file of the
    same name, beside which the checksum of the former one lies."""
    try:
        return _mark(file) in _sound and _checksum_of(file).exists()
    except OSError:  # another process has removed it
        return True


def _is_sound(file: Path) -> bool:
    """Whether the file is what was written; it is removed if it is not, or never will be."""
    try:
        written = _checksum_of(file).read_text()
    except FileNotFoundError:
        if time.time() - file.stat().st_mtime > UNFINISHED_S:
            file.unlink()
        return False
    if written == _checksum(file):
        return True
    log.warning("a compiled graph on the disk was damaged and is made anew")
    for known in file.parent.glob(f"*{KNOWN}"):  # which of them it was is not told
        known.unlink(missing_ok=True)
    file.unlink()
    _checksum_of(file).unlink()
    return False


def _checksum_of(file: Path) -> Path:
    return file.with_suffix(CHECKSUM)


def _checksum(file: Path) -> str:
    with file.open("rb") as opened:
        if not os.fstat(opened.fileno()).st_size:
            return "0"
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return f"{zlib.crc32(content):08x}"


def _mark(file: Path) -> tuple[str, int, int]:
    facts = file.stat()
    return str(file), facts.st_mtime_ns, facts.st_size


def _clear(house: Path) -> None:
    for beside in filter(Path.is_dir, house.iterdir()):
        with suppress(OSError):
            if time.time() - beside.stat().st_mtime > UNUSED_S:
                shutil.rmtree(beside, ignore_errors=True)
