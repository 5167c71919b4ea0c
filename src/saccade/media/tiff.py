"""The tags of a TIFF file's first page that say how large and of what kind it is (TIFF 6.0, section 2; BigTIFF)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

MAX_ENTRIES: Final = 4096
MAX_TILE_EXCESS: Final = 4_194_304

WIDTH, HEIGHT, BITS, SAMPLES, TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT = 256, 257, 258, 277, 322, 323, 339
LETTERS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
IEEE_FLOAT: Final = 3


@dataclass(frozen=True, slots=True)
class Page:
    """``bits`` per sample, ``components`` per pixel, ``floats`` when the samples are floating point."""

    width: int
    height: int
    bits: int
    components: int
    floats: bool


def first_page(data: bytes) -> Page | None:
    """The first page, or None when the tags make no sense."""
    tags = _tags(data)
    width, height = tags.get(WIDTH, 0), tags.get(HEIGHT, 0)
    tile = tags.get(TILE_WIDTH, 0) * tags.get(TILE_HEIGHT, 0)
    if tile > width * height + MAX_TILE_EXCESS:
        return None
    return Page(width, height, tags.get(BITS, 1), tags.get(SAMPLES, 1), tags.get(SAMPLE_FORMAT, 1) == IEEE_FLOAT)


def _tags(data: bytes) -> dict[int, int]:
    """The first value of each wanted tag."""
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\x00", b"\x00+")
    entry, inline = (order + "HHQ", 8) if big else (order + "HHI", 4)
    step = struct.calcsize(entry) + inline
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    first = start + (8 if big else 2)
    found: dict[int, int] = {}
    for at in range(first, first + step * min(count, MAX_ENTRIES), step):
        tag, kind, values = struct.unpack_from(entry, data, at)
        letter = LETTERS.get(kind)
        if (
            letter is None
            or values == 0
            or tag not in (WIDTH, HEIGHT, BITS, SAMPLES, TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT)
        ):
            continue
        place = at + struct.calcsize(entry)
        if struct.calcsize(letter) * values > inline:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
        (found[tag],) = struct.unpack_from(order + letter, data, place)
    return found
