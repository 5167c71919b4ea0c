"""How a picture has to be turned to stand upright, from its EXIF block."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import cv2
import numpy as np

from saccade.results import ByteArray

ORIENTATION_TAG: Final = 0x0112
MAX_ENTRIES: Final = 1024
MAX_PROFILE_BYTES: Final = 1 << 20

PREFIX: Final = b"Exif\x00\x00"
PROFILE_KEYS: Final = (b"Raw profile type exif\x00", b"Raw profile type APP1\x00")


def orientation(block: bytes) -> int:
    """1 to 8 as EXIF counts them; 1 when the block says nothing. ``block`` begins with its byte order."""
    block = block.removeprefix(PREFIX)
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for at in range(start + 2, start + 2 + 12 * min(count, MAX_ENTRIES), 12):
            tag, kind = struct.unpack_from(order + "HH", block, at)
            if tag == ORIENTATION_TAG:
                letter = {1: "B", 3: "H", 4: "I"}.get(kind, "H")
                (value,) = struct.unpack_from(order + letter, block, at + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def text_profile(chunk: bytes, *, compressed: bool) -> int:
    """The orientation in a PNG text chunk as ImageMagick writes it: the EXIF block in hexadecimal, perhaps deflated."""
    key = next((key for key in PROFILE_KEYS if chunk.startswith(key)), None)
    if key is None:
        return 1
    body = chunk[len(key) :]
    if compressed:
        try:
            body = zlib.decompressobj().decompress(body[1:], MAX_PROFILE_BYTES)
        except zlib.error:
            return 1
    lines = body[:MAX_PROFILE_BYTES].split(b"\n")
    try:
        return orientation(bytes.fromhex(b"".join(lines[3:]).decode("ascii")))
    except (ValueError, UnicodeDecodeError):
        return 1


def upright(pixels: ByteArray, turn: int) -> ByteArray:
    """The same picture as it was meant to be seen; ``turn`` is an EXIF orientation. May return the very same array."""
    match turn:
        case 2:
            turned = cv2.flip(pixels, 1)
        case 3:
            turned = cv2.rotate(pixels, cv2.ROTATE_180)
        case 4:
            turned = cv2.flip(pixels, 0)
        case 5:
            turned = cv2.transpose(pixels)
        case 6:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            turned = cv2.flip(cv2.transpose(pixels), -1)
        case 8:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case _:
            return pixels
    return np.asarray(turned, dtype=np.uint8)
