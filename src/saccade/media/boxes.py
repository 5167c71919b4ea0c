"""The boxes of ISO base media files (ISO/IEC 14496-12), of which AVIF, HEIC and JPEG 2000 files are made."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from saccade.errors import BadInput

MAX_BOXES: Final = 4096


def boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte of the content, one past its last byte) of the boxes side by side in a range.

    Raises: BadInput when there are more than MAX_BOXES.
    """
    for _ in range(MAX_BOXES):
        if at + 8 > min(end, len(data)):
            return
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        stop = end if size == 0 else at + size
        if stop < start:
            return
        yield kind, start, min(stop, end)
        at = stop
    raise BadInput(f"the image is refused: it is made of more than {MAX_BOXES} boxes")


def inside(data: bytes, *path: bytes) -> Iterator[tuple[int, int]]:
    """The contents (first byte, one past the last) of all boxes that lie at a path, such as meta, iprp, ipco.

    Raises: BadInput as :func:`boxes`.
    """
    ranges = [(0, len(data))]
    for name in path:
        head = FULL if name == b"meta" else 0
        ranges = [
            (start + head, stop) for at, end in ranges for kind, start, stop in boxes(data, at, end) if kind == name
        ]
    yield from ranges


def missing(data: bytes) -> int:
    """Bytes that the boxes of a file promise, and that it lacks at its end."""
    at = 0
    for _ in range(MAX_BOXES):
        if at + 16 > len(data):
            break
        size, _, long = struct.unpack_from(">I4sQ", data, at)
        size = long if size == 1 else size
        if size < 8:
            return 0
        at += size
    return max(0, at - len(data))


FULL: Final = 4
"""Bytes of version and flags, with which the content of a full box such as ``meta`` begins."""
