"""PBM, PGM and PPM: the header of all six, and the pixels of the three that are written as text (netpbm(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from saccade.errors import BadInput
from saccade.results import ByteArray

HEAD_BYTES: Final = 4096
COMMENT: Final = re.compile(rb"#[^\r\n]*")
SPACE: Final = b" \t\r\n\v\f"
DIGITS: Final = re.compile(rb"\s*(\d{1,9})(?=\s)")


@dataclass(frozen=True, slots=True)
class Head:
    """``kind`` 1 to 6 as in "P1"; ``maximum`` is white; pixels begin at byte ``start``."""

    kind: int
    width: int
    height: int
    maximum: int
    components: int
    start: int


def head(data: bytes) -> Head | None:
    """The header, or None when these bytes are no netpbm file."""
    kind = data[1] - ord("0")
    opening = COMMENT.sub(lambda comment: b" " * len(comment.group()), data[:HEAD_BYTES])
    numbers, at = [], 2
    for _ in range(2 if kind in (1, 4) else 3):
        found = DIGITS.match(opening, at)
        if found is None:
            return None
        numbers.append(int(found.group(1)))
        at = found.end()
    width, height, maximum = (*numbers, 1)[:3]
    if not 1 <= maximum <= 65535:
        return None
    return Head(kind, width, height, maximum, 3 if kind in (3, 6) else 1, at + 1)


def is_text(data: bytes) -> bool:
    return data[1:2] in b"123"


def pixels(data: bytes) -> ByteArray:
    """(h, w, 3) of a P1, P2 or P3 file.

    Written here because Pillow's reader of these is a Python loop over the numbers, and OpenCV's ignores ``maximum``
    above 255.

    Raises: BadInput.
    """
    page = head(data)
    if page is None:
        raise BadInput("the PPM image is damaged: its header makes no sense")
    text = COMMENT.sub(b"", data[page.start :])
    wanted = page.width * page.height * page.components
    values = _bits(text) if page.kind == 1 else _numbers(text)
    if len(values) < wanted:
        raise BadInput(f"the PPM image is truncated: it should have {wanted} samples, {len(values)} arrived")
    samples = values[:wanted].reshape(page.height, page.width, page.components)
    if samples.min() < 0 or samples.max() > page.maximum:
        raise BadInput(f"the PPM image is damaged: a sample is outside 0..{page.maximum}")
    scaled = np.rint(samples * 255.0 / page.maximum).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(scaled, (page.height, page.width, 3)))


def _bits(text: bytes) -> NDArray[np.integer]:
    """In P1 files 1 is black, and digits need no space between them."""
    digits = text.translate(None, SPACE)
    if digits.translate(None, b"01"):
        raise BadInput("the PPM image is damaged: something other than 0 and 1 is among its samples")
    return 1 - (np.frombuffer(digits, np.uint8) - ord("0"))


def _numbers(text: bytes) -> NDArray[np.integer]:
    if text.translate(None, b"0123456789" + SPACE):
        raise BadInput("the PPM image is damaged: something other than numbers is among its samples")
    return np.fromstring(text, dtype=np.int32, sep=" ")
