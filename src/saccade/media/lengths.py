"""How long a file should be, as the containers of videos tell it, so that a cut-off one need not give half a video.

Files that tell no length, as those of live streams and of recorders that lost power, are as long as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

MAX_PARTS: Final = 4096
UNTOLD: Final = 0x7FFFFFFF
"""From here on, a length of four bytes is one that a recorder never came to write."""
SEGMENT: Final = b"\x18\x53\x80\x67"


def told(data: bytes, container: str) -> int:
    """The bytes that the file should have at least; 0 when it does not say."""
    find = _FINDERS.get(container)
    try:
        return 0 if find is None else find(data)
    except (struct.error, IndexError):  # it ends within the header, which says enough about it to any reader
        return 0


def _avi(data: bytes) -> int:
    """The end of the last RIFF list (OpenDML has several); the byte of padding after it may be left out."""
    at = end = 0
    for _ in range(MAX_PARTS):
        if data[at : at + 4] != b"RIFF":
            break
        (size,) = struct.unpack_from("<I", data, at + 4)
        if size >= UNTOLD:
            break
        end = at + 8 + size
        at = end + (size & 1)
    return end


def _matroska(data: bytes) -> int:
    """The end of the segment that follows the EBML header (RFC 8794, section 4; RFC 9559, section 5.1)."""
    size, start = _vint(data, 4)
    at = start + size
    if data[at : at + 4] != SEGMENT:
        return 0
    size, start = _vint(data, at + 4)
    return start + size if size >= 0 else 0


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to eight bytes and the place after it; -1 when all its bits are set: the size is not known."""
    width = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1
    return -1 if value == (1 << 7 * width) - 1 else value, at + width


def _asf(data: bytes) -> int:
    """The end of the last object (ASF specification 1.20.03, section 2.1)."""
    at = 0
    for _ in range(MAX_PARTS):
        if at + 24 > len(data):
            break
        (size,) = struct.unpack_from("<Q", data, at + 16)
        if size < 24:
            return 0
        at += size
    return at


_FINDERS: Final[Mapping[str, Callable[[bytes], int]]] = MappingProxyType(
    {"AVI": _avi, "Matroska": _matroska, "ASF": _asf}
)
