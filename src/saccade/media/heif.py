"""How many pixels a decoder has to make for a HEIF file (ISO/IEC 23008-12; ISO/IEC 14496-12, section 8.11).

A picture may be put together of others, each of which counts as often as it is named: 3 KB that announce 64x64 pixels
can name a tile of 2048x2048 nine hundred times, or tiles of tiles.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from saccade.errors import BadInput
from saccade.media.boxes import FULL, boxes, inside

MAX_PARTS: Final = 4096
MAX_DEPTH: Final = 8


def pixels(data: bytes) -> int:
    """The pixels of the costliest picture of the file, with all that it is made of.

    Raises: BadInput when it is made of absurdly many parts; struct.error or IndexError when it is cut off.
    """
    areas, parts = _areas(data), _parts(data)
    largest = max(areas.values(), default=0)
    made: dict[int, int] = {}
    for _ in range(MAX_DEPTH):
        before = made
        made = {item: sum(before.get(part, areas.get(part, largest)) for part in parts[item]) for item in parts}
        if made == before:
            return max([largest, *made.values()])
    raise BadInput(f"the HEIF image is refused: it is made of parts of parts, more than {MAX_DEPTH} deep")


def check_names(data: bytes) -> None:
    """Raises: BadInput when the kind or a name of an item is no text: pi-heif ends the process at such a kind."""
    for start, end in inside(data, b"meta", b"iinf"):
        for kind, first, last in boxes(data, start + FULL + (4 if data[start] else 2), end):
            if kind != b"infe":
                continue
            names = first + FULL + (6 if data[first] > 2 else 4)
            try:
                data[names : names + 4].decode("ascii")
                data[names:last].decode()
            except UnicodeDecodeError:
                raise BadInput(
                    "the HEIF image is damaged: the kind or the name of one of its parts is no text"
                ) from None


def _areas(data: bytes) -> dict[int, int]:
    """The pixels of each item, as the largest of its ``ispe`` says; decoders refuse data that differ from it."""
    areas: dict[int, int] = {}
    for start, end in inside(data, b"meta", b"iprp"):
        inner = list(boxes(data, start, end))
        properties = [found for name, first, last in inner if name == b"ipco" for found in boxes(data, first, last)]
        for item, numbers in (
            chosen for name, first, last in inner if name == b"ipma" for chosen in _chosen(data, first, last)
        ):
            for kind, at, _ in (properties[number - 1] for number in numbers if 0 < number <= len(properties)):
                if kind == b"ispe":
                    width, height = struct.unpack_from(">II", data, at + FULL)
                    areas[item] = max(areas.get(item, 0), width * height)
    return areas


def _chosen(data: bytes, at: int, end: int) -> Iterator[tuple[int, list[int]]]:
    """The number of each item and the properties that are its own, counted from 1."""
    wide, letter = data[at], "H" if data[at + 3] & 1 else "B"
    most = 0x7FFF if letter == "H" else 0x7F
    (count,) = struct.unpack_from(">I", data, at + FULL)
    at += FULL + 4
    for _ in range(count):
        if at >= end:
            return
        (item,) = struct.unpack_from(">I" if wide else ">H", data, at)
        at += 4 if wide else 2
        numbers = struct.unpack_from(f">{data[at]}{letter}", data, at + 1)
        at += 1 + (2 if letter == "H" else 1) * len(numbers)
        yield item, [number & most for number in numbers]


def _parts(data: bytes) -> dict[int, list[int]]:
    """The items that each one is made of."""
    parts: dict[int, list[int]] = {}
    left = MAX_PARTS
    for start, end in inside(data, b"meta", b"iref"):
        letter = "I" if data[start] else "H"
        for kind, at, _ in boxes(data, start + FULL, end):
            if kind == b"dimg":
                item, count = struct.unpack_from(f">{letter}H", data, at)
                left -= count
                if left < 0:
                    raise BadInput(f"the HEIF image is refused: it is made of more than {MAX_PARTS} parts")
                named = struct.unpack_from(f">{count}{letter}", data, at + struct.calcsize(f">{letter}H"))
                parts.setdefault(item, []).extend(named)
    return parts
