"""GIF as a row of blocks: its size, whether it moves, and the blocks that make its first frame (GIF89a, appendix B)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Final

from saccade.errors import BadInput

MAX_BLOCKS: Final = 1_000_000

FRAME: Final = 0x2C
EXTENSION: Final = 0x21
GRAPHIC_CONTROL: Final = b"\x21\xf9"


def size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of the logical screen, or of the first frame where that is larger; None without a frame.

    Raises: BadInput, struct.error, IndexError when the file ends too early.
    """
    width, height = struct.unpack_from("<HH", data, 6)
    for start, _ in _frames(data):
        left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, start + 1)
        return max(width, left + frame_width), max(height, top + frame_height)
    return None


def is_animation(data: bytes) -> bool:
    """Whether there is a second frame."""
    try:
        return next(islice(_frames(data), 1, None), None) is not None
    except (BadInput, struct.error, IndexError):
        return False


def is_whole(data: bytes) -> bool:
    """Whether the file does not end within a block.

    Raises: BadInput when there are absurdly many blocks.
    """
    try:
        for _ in _frames(data):
            pass
    except (struct.error, IndexError):
        return False
    return True


def first_frame(data: bytes) -> bytes:
    """A GIF of the first frame alone.

    Pillow gathers comments by adding bytes to bytes, which for megabytes of them takes hours: it never sees any.
    """
    start, control = next(_frames(data))
    return data[: 13 + _colours(data[10])] + control + data[start:]


def clear(data: bytes) -> tuple[int, int, int] | None:
    """The colour (RGB) that is clear in the first frame."""
    start, control = next(_frames(data))
    if len(control) < 7 or not control[3] & 1:
        return None
    flags, at = (data[start + 9], start + 10) if data[start + 9] & 0x80 else (data[10], 13)
    entry = data[at : at + _colours(flags)][3 * control[6] :][:3]
    return (entry[0], entry[1], entry[2]) if len(entry) == 3 else None


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Where each image descriptor begins, and the graphic control extension before it (or b"")."""
    at, blocks, control = 13 + _colours(data[10]), 0, b""
    while data[at] in (EXTENSION, FRAME):
        start, is_frame = at, data[at] == FRAME
        if is_frame:
            yield start, control
        at += 11 + _colours(data[at + 9]) if is_frame else 2
        while data[at] and blocks <= MAX_BLOCKS:
            at += 1 + data[at]
            blocks += 1
        at += 1
        blocks += 1
        if blocks > MAX_BLOCKS:
            raise BadInput(f"the GIF image is refused: it is made of more than {MAX_BLOCKS} blocks")
        if is_frame and at == len(data):
            return  # the byte that closes the file is missing, as some programs leave it out
        if not is_frame and data.startswith(GRAPHIC_CONTROL, start):
            control = data[start:at]


def _colours(flags: int) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
