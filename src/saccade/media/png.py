"""PNG as a row of chunks: its header, its orientation, and the chunks that make the picture (W3C PNG, 3rd edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from saccade.errors import BadInput
from saccade.media import exif

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS: Final = 65_536
MAX_PROFILES: Final = 16

CRITICAL: Final = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
"""The chunks that decide pixels. tRNS is not critical in the standard, but it changes how palettes are expanded."""

DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
COMPONENTS: Final = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


@dataclass(frozen=True, slots=True)
class Head:
    """The IHDR chunk: ``bits`` per sample, ``components`` per pixel as decoded (a palette counts as 3)."""

    width: int
    height: int
    bits: int
    components: int


def head(data: bytes) -> Head | None:
    """The header, or None when its checksum or its fields are wrong."""
    length, kind, width, height, bits, colour = struct.unpack_from(">I4sIIBB", data, 8)
    (checksum,) = struct.unpack_from(">I", data, 29)
    if length != 13 or kind != b"IHDR" or zlib.crc32(data[12:29]) != checksum or bits not in DEPTHS.get(colour, ()):
        return None
    return Head(width, height, bits, COMPONENTS[colour])


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte, one past the last byte) of each whole chunk, checksum and length included.

    Raises: BadInput when there are absurdly many.
    """
    at = 8
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end
    raise BadInput(f"the PNG image is refused: it is made of more than {MAX_CHUNKS} chunks")


def orientation(data: bytes) -> int:
    """1 to 8, from the eXIf chunk or from the text chunks that ImageMagick writes, of which few are looked into."""
    profiles = 0
    for kind, start, end in chunks(data):
        if kind == b"eXIf":
            return exif.orientation(data[start + 8 : end - 4])
        if kind in (b"tEXt", b"zTXt") and data.startswith(b"Raw profile type ", start + 8):
            profiles += 1
            if profiles > MAX_PROFILES:
                continue
            turn = exif.text_profile(data[start + 8 : end - 4], compressed=kind == b"zTXt")
            if turn != 1:
                return turn
    return 1


def clear(data: bytes) -> tuple[int, int, int] | None:
    """The one colour (RGB, 8 bits) that the tRNS chunk makes wholly clear; None where it says more, or nothing."""
    parts = {kind: data[start + 8 : end - 4] for kind, start, end in chunks(data) if kind in (b"PLTE", b"tRNS")}
    (bits, colour), alpha = data[24:26], parts.get(b"tRNS", b"")
    if colour == 3 and alpha.count(0) == 1 and alpha.count(255) == len(alpha) - 1:
        entry = parts.get(b"PLTE", b"")[3 * alpha.index(0) :][:3]
        return (entry[0], entry[1], entry[2]) if len(entry) == 3 else None
    if bits == 8 and colour in (0, 2) and len(alpha) == (2, 0, 6)[colour]:
        levels = alpha[1::2] * (3 // len(alpha[1::2]))
        return levels[0], levels[1], levels[2]
    return None


def essential(data: bytes) -> bytes:
    """The same picture without any chunk that does not decide pixels.

    Text, profiles and animation frames never reach the decoder, so nothing in them can be inflated or complained about.

    Raises: BadInput when the file ends before its last chunk.
    """
    kept: list[tuple[int, int]] = [(0, 8)]
    last = b""
    for kind, start, end in chunks(data):
        last = kind
        if kind not in CRITICAL:
            continue
        if kept[-1][1] == start:
            kept[-1] = (kept[-1][0], end)
        else:
            kept.append((start, end))
    if last != b"IEND":
        raise BadInput(f"the PNG image is truncated: its end is missing ({len(data)} bytes arrived)")
    return data if len(kept) == 1 else b"".join(data[start:end] for start, end in kept)
