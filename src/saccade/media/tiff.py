"""The tags of a TIFF file's first page that say how large and of what kind it is (TIFF 6.0, section 2; BigTIFF)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from saccade.errors import BadInput

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile
    from PIL.TiffImagePlugin import TiffImageFile

MAX_ENTRIES: Final = 4096
MAX_TILE_EXCESS: Final = 4_194_304
MAX_TILED_EXCESS: Final = 64_000_000
MOST_OVERLAP: Final = 4
"""Times that all tiles may cover the picture, out of which they jut at two sides."""

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANES = 256, 257, 258, 259, 262, 277, 284
TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT = 322, 323, 339
LETTERS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
WANTED: Final = (WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT)
IEEE_FLOAT: Final = 3
WHITE_IS_ZERO: Final = 0
SEPARATE: Final = 2

UNREAD: Final = {
    **dict.fromkeys((33003, 33005, 34712), "JPEG 2000"),
    **dict.fromkeys((22610, 34934), "JPEG XR"),
    **dict.fromkeys((50002, 52546), "JPEG XL"),
    34887: "LERC",
    34933: "PNG",
    50001: "WebP",
}
"""Ways of compression that no reader here knows, which geographers and microscopes use."""

SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
MAX_VALUES: Final = 1_000_000
"""Pillow reads all tags into lists of Python numbers, the same bytes for each tag that points to them."""


@dataclass(frozen=True, slots=True)
class Page:
    """``bits`` per sample, ``components`` per pixel, ``floats`` when the samples are floating point."""

    width: int
    height: int
    bits: int
    components: int
    floats: bool


def first_page(data: bytes) -> Page | None:
    """The first page, or None when the tags make no sense.

    Raises: BadInput when far more pixels have to be unpacked than the page has, the tags are larger than the file, or
    its compression is not read.
    """
    tags = _tags(data)
    if (name := UNREAD.get(tags.get(COMPRESSION, 1))) is not None:
        raise BadInput(f"the TIFF image is compressed with {name}, which is not read: save it with LZW or Deflate")
    width, height = tags.get(WIDTH, 0), tags.get(HEIGHT, 0)
    tile_width, tile_height = tags.get(TILE_WIDTH, 0), tags.get(TILE_HEIGHT, 0)
    if tile_width * tile_height > width * height + MAX_TILE_EXCESS:
        return None
    if tile_width and tile_height:
        tiled = -(-width // tile_width) * tile_width * -(-height // tile_height) * tile_height
        if tiled > MOST_OVERLAP * width * height + MAX_TILED_EXCESS:
            raise BadInput("the TIFF image is refused: its tiles hold many times the pixels of the whole")
    return Page(width, height, tags.get(BITS, 1), tags.get(SAMPLES, 1), tags.get(SAMPLE_FORMAT, 1) == IEEE_FLOAT)


def widen_planes(picture: ImageFile) -> None:
    """Has 16-bit samples read as such where each channel lies by itself, not packed: Pillow takes them for bytes."""
    tags = cast("TiffImageFile", picture).tag_v2
    if tags.get(PLANES) != SEPARATE or any(tile.codec_name != "raw" for tile in picture.tile):
        return
    wide = ";16B" if tags.prefix == b"MM" else ";16" if picture.mode == "I;16" else ";16L"
    for index, tile in enumerate(picture.tile):
        if isinstance(tile.args, tuple) and len(tile.args[0]) == 1:
            picture.tile[index] = tile._replace(args=(tile.args[0] + wide, *tile.args[1:]))


def is_negative(picture: ImageFile) -> bool:
    """Whether 0 is white, which Pillow heeds in samples of at most 8 bits only."""
    tags = cast("TiffImageFile", picture).tag_v2
    return picture.mode.startswith("I;16") and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO


def _tags(data: bytes) -> dict[int, int]:
    """The first value of each wanted tag.

    Raises: BadInput when the tags together are larger than the file.
    """
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\x00", b"\x00+")
    entry, inline = (order + "HHQ", 8) if big else (order + "HHI", 4)
    step = struct.calcsize(entry) + inline
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    first = start + (8 if big else 2)
    found: dict[int, int] = {}
    total = 0
    for at in range(first, first + step * min(count, MAX_ENTRIES), step):
        tag, kind, values = struct.unpack_from(entry, data, at)
        total += values * SIZES.get(kind, 0)
        if total > len(data) + step * MAX_ENTRIES or (values > MAX_VALUES and SIZES.get(kind, 0) > 1):
            raise BadInput("the TIFF image is damaged: its tags promise more data than the file has")
        if tag not in WANTED or kind not in LETTERS or values == 0:
            continue
        letter, place = LETTERS[kind], at + struct.calcsize(entry)
        if SIZES[kind] * values > inline:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
        (found[tag],) = struct.unpack_from(order + letter, data, place)
    return found
