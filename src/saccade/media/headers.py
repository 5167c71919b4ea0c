"""An image's format and size, read from its first bytes without decoding anything.

Each parser below touches only what it needs, follows no pointer out of the data and has a bound on its loops, because
the bytes come from strangers. Sizes are the largest that any header in the file promises, so that the limit holds
whichever of them a decoder believes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from saccade.errors import BadInput
from saccade.media import avif, exif, gif, heif, netpbm, png, tiff
from saccade.media.boxes import boxes, inside
from saccade.media.signatures import ACCEPTED, image_format, is_stripped, looks_like

MAX_SEGMENTS: Final = 4096
MAX_SCANS: Final = 100
LEAST_SCANS: Final = 30
MOST_DRAWN: Final = 2_000_000_000
"""Passes over a JPEG: so many always, which is more than any program makes, and no more once they draw so many pixels
in all. Of 64 million pixels each pass takes a tenth of a second, and ten bytes."""
MAX_ICONS: Final = 64
MOST_OVERLAP: Final = 4
"""Times that the parts of a HEIF picture may cover it: tiles jut out at two sides, layers lie over one another."""

SCAN: Final = b"\xff\xda"
END: Final = b"\xff\xd9"
MARKER: Final = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""Between the pixels; what it leaves out has no length and ends no pass."""
SEQUENTIAL: Final = (0xC0, 0xC1)
PIXELS_PER_BYTE: Final = 1024
"""Of a sequential JPEG: a block of 64 pixels takes at least 2 bits, counted four times as generously."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header promises: stored ``width`` and ``height`` (before ``orientation``, EXIF 1 to 8, is applied).

    ``bits`` per sample, ``components`` per pixel where the header says so, ``floats`` when samples are not integers.
    AVIF, HEIC and TIFF decoders turn the picture themselves: their ``orientation`` stays 1.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    bits: int = 8
    components: int = 3
    floats: bool = False


def probe(data: bytes) -> Header:
    """The format and the size of an image.

    Raises: BadInput, whose message begins with "cannot identify image file" when the bytes are no accepted format.
    """
    if not data:
        raise BadInput("cannot identify image file: it is empty (0 bytes)")
    if is_stripped(data):
        raise BadInput(
            "cannot identify image file: its line ends and zero bytes were taken out on the way. With curl, send it as "
            "--data-binary @FILE: -d and --data change it"
        )
    name = image_format(data)
    if name is None:
        header = _tga(data)
        if header is None:
            raise _unidentified(data)
        return header
    try:
        header = _PARSERS[name](data)
    except (struct.error, IndexError, OverflowError):
        raise BadInput(f"the {name} image is truncated: its header is incomplete ({len(data)} bytes arrived)") from None
    if header is None:
        if name in _WEAK:
            raise _unidentified(data)
        raise BadInput(f"cannot identify image file: it begins like {name}, but its header is damaged")
    if header.width <= 0 or header.height <= 0:
        raise BadInput(f"the {name} image is damaged: its header says {header.width}x{header.height} pixels")
    return header


def _unidentified(data: bytes) -> BadInput:
    return BadInput(f"cannot identify image file: {looks_like(data)}. Accepted are {ACCEPTED}")


def _jpeg(data: bytes) -> Header | None:
    """Walks the marker segments up to the start of the scan (ITU T.81, annex B)."""
    size: tuple[int, int, int, int] | None = None
    turn: int | None = None
    name, frame = "JPEG", 0
    for marker, start, end in _jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, components = struct.unpack_from(">BHHB", data, start)
            if size is None or width * height > size[0] * size[1]:
                size = (width, height, bits, components)
            frame = marker
        elif marker == 0xE1 and turn is None and data.startswith(exif.PREFIX, start):
            turn = exif.orientation(data[start:end])
        elif marker == 0xE2 and data.startswith(b"MPF\x00", start):
            name = "MPO"
    if size is None:
        return None
    width, height, bits, components = size
    most = min(MAX_SCANS, max(LEAST_SCANS, MOST_DRAWN // max(1, width * height)))
    if _count(data, SCAN) > most and _jpeg_scans(data, most) > most:
        raise BadInput(f"the JPEG image is refused: it is drawn in more than {most} passes")
    if frame in SEQUENTIAL and len(data) * PIXELS_PER_BYTE < width * height:
        raise BadInput(f"the JPEG image is truncated: {len(data)} bytes cannot hold its {width}x{height} pixels")
    return Header(name, width, height, turn or 1, bits, components)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, first byte, one past the last byte) of each segment before the scan."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        if data[at] != 0xFF:
            return
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            continue
        if marker in (0x00, 0xD8, 0xD9, 0xDA):
            return
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2:
            return
        yield marker, at + 2, at + length
        at += length
    raise BadInput(f"the JPEG image is refused: it has more than {MAX_SEGMENTS} segments before its pixels")


def _count(data: bytes, pair: bytes) -> int:
    """How often two bytes follow one another; ``bytes.count`` takes eight times as long, a tenth of the decoding."""
    (sought,) = np.frombuffer(pair, np.uint16)
    views = (np.frombuffer(data, np.uint16, (len(data) - odd) // 2, odd) for odd in (0, 1))
    return sum(int(np.count_nonzero(view == sought)) for view in views)


def _jpeg_scans(data: bytes, most: int) -> int:
    """How often the picture is drawn over, at most ``most`` + 1; what stands behind its end is no part of it.

    Each pass over all of it takes ten bytes, whether progressive or not.
    """
    at, scans = 2, 0
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(data, at)
        if found is None or found.group() == END or scans > most:
            return scans
        scans += found.group() == SCAN
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    raise BadInput(f"the JPEG image is refused: it has more than {MAX_SEGMENTS} segments")


def _png(data: bytes) -> Header | None:
    head = png.head(data)
    if head is None:
        return None
    return Header("PNG", head.width, head.height, png.orientation(data), head.bits, head.components)


def _webp(data: bytes) -> Header | None:
    """The canvas of an extended file, or the frame of a simple one (RFC 9649)."""
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data):
        raise BadInput(
            f"the WEBP image is truncated: it should have {struct.unpack_from('<I', data, 4)[0] + 8} bytes, "
            f"{len(data)} arrived"
        )
    size: tuple[int, int] | None = None
    turn, at = 1, 12
    for _ in range(MAX_SEGMENTS):
        if at + 8 > len(data):
            break
        kind, length = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        body = at + 8
        if kind == b"VP8X":
            size = (_le24(data, body + 4) + 1, _le24(data, body + 7) + 1)
        elif kind == b"VP8 " and size is None:
            width, height = struct.unpack_from("<HH", data, body + 6)
            size = (width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L" and size is None:
            (packed,) = struct.unpack_from("<I", data, body + 1)
            size = ((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1)
        elif kind == b"EXIF":
            turn = exif.orientation(data[body : body + length])
        at = body + length + (length & 1)
    return None if size is None else Header("WEBP", *size, orientation=turn)


def _le24(data: bytes, at: int) -> int:
    low, high = struct.unpack_from("<HB", data, at)
    return int(low) | int(high) << 16


def _gif(data: bytes) -> Header | None:
    size = gif.size(data)
    return None if size is None else Header("GIF", *size)


def _tiff(data: bytes) -> Header | None:
    page = tiff.first_page(data)
    return None if page is None else Header("TIFF", page.width, page.height, 1, page.bits, page.components, page.floats)


def _bmp(data: bytes) -> Header | None:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    elif size in (16, 40, 52, 56, 64, 108, 124):
        width, height = struct.unpack_from("<ii", data, 18)
    else:
        return None
    return Header("BMP", width, abs(height))


def _avif(data: bytes) -> Header | None:
    """The announced size, or the largest frame of the data if that is larger."""
    header = _spatial_extent(data, "AVIF")
    if header is None:
        return None
    width, height = max([(header.width, header.height), *avif.frame_sizes(data)], key=lambda size: size[0] * size[1])
    return Header("AVIF", width, height)


def _heif(data: bytes) -> Header | None:
    """Raises: BadInput when far more pixels have to be decoded than the picture has."""
    heif.check_names(data)
    header = _spatial_extent(data, "HEIF")
    if header is not None and heif.pixels(data) > MOST_OVERLAP * header.width * header.height:
        raise BadInput("the HEIF image is refused: its parts hold many times the pixels of the whole")
    return header


def _spatial_extent(data: bytes, name: str) -> Header | None:
    """The largest ``ispe`` of ``meta/iprp/ipco`` (ISO/IEC 23008-12): tiles and thumbnails are never larger."""
    extents = (
        struct.unpack_from(">II", data, start + 4)
        for at, end in inside(data, b"meta", b"iprp", b"ipco")
        for kind, start, _ in boxes(data, at, end)
        if kind == b"ispe"
    )
    best = max(extents, key=lambda size: size[0] * size[1], default=(0, 0))
    return Header(name, *best) if best[0] else None


def _jp2(data: bytes) -> Header | None:
    """The code stream's own SIZ segment (ITU T.800, A.5.1): decoders go by it, not by the box around it."""
    starts = (
        [0] if data.startswith(b"\xff\x4f") else [at for kind, at, _ in boxes(data, 0, len(data)) if kind == b"jp2c"]
    )
    if not starts:
        return None
    width, height, left, top = struct.unpack_from(">IIII", data, starts[0] + 8)
    components, bits = struct.unpack_from(">HB", data, starts[0] + 40)
    if data[starts[0] + 2 : starts[0] + 4] != b"\xff\x51" or not 1 <= components <= 4:
        return None
    return Header("JPEG2000", width - left, height - top, 1, (bits & 0x7F) + 1, components)


def _ico(data: bytes) -> Header | None:
    """The largest icon, by the size that its own PNG or BMP header says."""
    (count,) = struct.unpack_from("<H", data, 4)
    if not 1 <= count <= MAX_ICONS:
        return None
    sizes = []
    for index in range(count):
        length, start = struct.unpack_from("<II", data, 6 + 16 * index + 8)
        icon = data[start : start + length]
        if icon.startswith(png.SIGNATURE):
            head = png.head(icon)
            sizes.append((head.width, head.height) if head else (0, 0))
        elif len(icon) >= 16 and struct.unpack_from("<I", icon)[0] == 40:
            width, height = struct.unpack_from("<ii", icon, 4)
            sizes.append((width, abs(height) // 2))
        else:
            return None
    return Header("ICO", *max(sizes, key=lambda size: size[0] * size[1]))


def _pnm(data: bytes) -> Header | None:
    head = netpbm.head(data)
    return (
        None
        if head is None
        else Header("PPM", head.width, head.height, 1, 8 if head.maximum < 256 else 16, head.components)
    )


def _tga(data: bytes) -> Header | None:
    """TGA has no signature, so every field that can be wrong is checked, and the pixels must be there."""
    if len(data) < 19:
        return None
    id_length, has_map, kind, _, map_length, map_bits = struct.unpack_from("<BBBHHB", data)
    width, height, depth, flags = struct.unpack_from("<HHBB", data, 12)
    allowed = {1: (8,), 2: (16, 24, 32), 3: (1, 8, 16), 9: (8,), 10: (16, 24, 32), 11: (1, 8, 16)}.get(kind, ())
    palette = kind in (1, 9)
    if depth not in allowed or has_map not in (0, 1) or (palette and not has_map) or flags & 0xC0:
        return None
    if has_map and map_bits not in (15, 16, 24, 32):
        return None
    if not width or not height or (flags & 0x0F) not in (0, 1, 8):
        return None
    pixels = len(data) - 18 - id_length - (map_length * ((map_bits + 7) // 8) if has_map else 0)
    row = (width * depth + 7) // 8
    least = row * height if kind < 8 else height * max(1, -(-width // 128))
    if pixels < least:
        return None
    return Header("TGA", width, height)


_PARSERS: Final[dict[str, Callable[[bytes], Header | None]]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "TIFF": _tiff,
    "BMP": _bmp,
    "AVIF": _avif,
    "HEIF": _heif,
    "JPEG2000": _jp2,
    "ICO": _ico,
    "PPM": _pnm,
}

_WEAK: Final = {"BMP", "ICO", "PPM"}
"""Formats with so short a signature that other things begin with it by chance."""
