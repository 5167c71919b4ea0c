"""Where the AV1 data of an AVIF file lie, and the largest frame that they hold.

The file announces a size (``ispe``), but decoders obey the data: 855 bytes that announce 64x64 pixels can hold
8192x8192.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import Final

from saccade.errors import BadInput
from saccade.media import av1
from saccade.media.boxes import FULL, boxes, inside

MAX_ITEMS: Final = 4096
MAX_EXTENTS: Final = 4096
IN_FILE: Final = 0
IN_IDAT: Final = 1


def frame_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Sizes (width, height), none of which is exceeded by any frame that a decoder may meet at the first picture.

    Raises: BadInput when the file is made of absurdly many parts; struct.error or IndexError when it is cut off.
    """
    return av1.frame_sizes(_streams(data))


def _streams(data: bytes) -> Iterator[bytes]:
    budget = 2 * len(data)  # parts that lie over one another would make much work of few bytes
    for place in itertools.chain(_items(data), _first_samples(data)):
        budget -= sum(max(0, min(length, len(data) - start)) for start, length in place)
        if budget < 0:
            raise BadInput("the AVIF image is refused: its parts lie over one another")
        yield b"".join(data[start : start + length] for start, length in place)


Place = list[tuple[int, int]]
"""(first byte, number of bytes) of the parts in which a picture lies, in order."""


def _items(data: bytes) -> Iterator[Place]:
    """Every coded picture of the file: the main one, its alpha, tiles (ISO/IEC 14496-12, 8.11).

    Raises: BadInput when more than one list says where they lie: nobody writes that, and each could be long.
    """
    lists = 0
    for start, end in inside(data, b"meta"):
        coded: set[int] = set()
        places: list[tuple[int, int]] = []
        idat = 0
        for kind, first, last in boxes(data, start, end):
            if kind == b"iinf":
                coded |= set(_coded(data, first, last))
            elif kind == b"iloc":
                places.append((first, last))
                lists += 1
                if lists > 1:
                    raise BadInput("the AVIF image is refused: it says more than once where its parts lie")
            elif kind == b"idat":
                idat = first
        for first, _ in places:
            yield from (place for item, place in _located(data, first, idat) if item in coded)


def _coded(data: bytes, start: int, end: int) -> Iterator[int]:
    """The numbers of the items that hold AV1 data."""
    at = start + FULL + (4 if data[start] else 2)
    for kind, first, _ in boxes(data, at, end):
        if kind == b"infe" and data[first] in (2, 3):
            number, name = struct.unpack_from(">H2x4s" if data[first] == 2 else ">I2x4s", data, first + FULL)
            if name == b"av01":
                yield number


def _located(data: bytes, at: int, idat: int) -> Iterator[tuple[int, Place]]:
    """The number of each item and where it lies."""
    read = _Reader(data, at)
    version = read.number(FULL) >> 24
    sizes = read.number(2)
    offset_bytes, length_bytes, base_bytes, index_bytes = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 2 if version < 2 else 4
    items, extents = read.number(wide), 0
    if items > MAX_ITEMS:
        raise BadInput(f"the AVIF image is refused: it has more than {MAX_ITEMS} items")
    for _ in range(items):
        item = read.number(wide)
        method = read.number(2) & 15 if version else IN_FILE
        read.number(2)
        base = read.number(base_bytes) + (idat if method == IN_IDAT else 0)
        count = read.number(2)
        extents += count
        if extents > MAX_EXTENTS:
            raise BadInput(f"the AVIF image is refused: it lies in more than {MAX_EXTENTS} parts")
        place: Place = []
        for _ in range(count):
            read.number(index_bytes if version else 0)
            first = base + read.number(offset_bytes)
            place.append((first, read.number(length_bytes) or len(data)))
        yield item, place


def _first_samples(data: bytes) -> Iterator[Place]:
    """The first frame of every track of an animation."""
    for start, end in inside(data, b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        found = {kind: at + FULL for kind, at, _ in boxes(data, start, end)}
        if b"stsz" not in found or not found.keys() & {b"stco", b"co64"}:
            continue
        (first,) = (
            struct.unpack_from(">I", data, found[b"stco"] + 4)
            if b"stco" in found
            else struct.unpack_from(">Q", data, found[b"co64"] + 4)
        )
        (size,) = struct.unpack_from(">I", data, found[b"stsz"])
        if not size:
            (size,) = struct.unpack_from(">I", data, found[b"stsz"] + 8)
        yield [(first, size)]


class _Reader:
    """Reads numbers of any width, one after another."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def number(self, width: int) -> int:
        self._at += width
        if self._at > len(self._data):
            raise IndexError
        return int.from_bytes(self._data[self._at - width : self._at], "big")
