"""Masks in their compact form, and from there to polygons, PNG files and run lengths."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

import cv2
import numpy as np

from saccade.errors import RunFailed
from saccade.results import ByteArray, Crop, FloatArray, Grid, IntArray, MaskForm, Masks, Rle

PNG_START = b"\x89PNG\r\n\x1a\n"
UP = 2
"""PNG's filter that stores the difference to the row above: masks become almost all zeros, which compress fast."""
ADLER = 65521
PAIRS = 1 << 16
"""So many pairs of points are compared at once; larger arrays would come from the system anew each time, slowly."""
FINAL_BLOCK = b"\x03\x00"
"""An empty last block of a deflate stream."""

NO_POINTS = np.zeros((0, 2), np.float32)


def chosen(masks: Masks, classes: Sequence[int] | None, limit: int | None) -> Masks:
    """The segments of these classes, at most ``limit`` (the strongest), in their order; only in the "crop" form.

    Semantic segments are no objects and are not counted.
    """
    limit = None if masks.kind == "semantic" else limit
    if masks.form != "crop" or (classes is None and limit is None):
        return masks
    rows = np.arange(len(masks.scores)) if classes is None else np.flatnonzero(np.isin(masks.class_ids, classes))
    rows = np.sort(rows[np.argsort(-masks.scores[rows], kind="stable")[:limit]])
    return replace(
        masks,
        boxes_xyxy=masks.boxes_xyxy[rows],
        scores=masks.scores[rows],
        class_ids=masks.class_ids[rows],
        names=tuple(masks.names[row] for row in rows),
        areas=masks.areas[rows],
        crops=tuple(masks.crops[row] for row in rows),
    )


def rendered(masks: Masks, form: MaskForm) -> Masks:
    """The same segments in another form; only a result in the "crop" form can be turned into others.

    PNGs and run lengths are those of the original image: where masks were made on another grid, each pixel of the image
    takes the value of the grid's pixel in which its centre lies.

    Raises:
        RunFailed: the masks were turned into another form before.
    """
    if form == masks.form:
        return masks
    grid = masks.grid
    match masks.form, form:
        case "crop", "polygon":
            return replace(masks, form=form, crops=(), polygons=outlines(masks.crops, grid))
        case "crop", "png":
            pngs = tuple(png(on_image(crop, grid), grid.image_hw) for crop in masks.crops)
            return replace(masks, form=form, crops=(), pngs=pngs)
        case "crop", "rle":
            rles = tuple(rle(on_image(crop, grid), grid.image_hw) for crop in masks.crops)
            return replace(masks, form=form, crops=(), rles=rles)
    raise RunFailed(f"Masks in the form '{masks.form}' cannot be turned into the form '{form}' any more.")


def outlines(crops: Sequence[Crop], grid: Grid) -> tuple[FloatArray, ...]:
    """Each object's outline (k, 2) in image pixels, several parts joined into one ring; empty for an empty mask."""
    rings = [ring(crop) for crop in crops]
    if not rings:
        return ()
    points = np.concatenate(rings)
    height, width = grid.image_hw
    # Column by column: numpy is slow on axes of length 2.
    for column, pad, gain, edge in (
        (points[:, 0], grid.pad_x, grid.gain_x, width),
        (points[:, 1], grid.pad_y, grid.gain_y, height),
    ):
        column -= np.float32(pad)
        column /= np.float32(gain)
        np.maximum(column, np.float32(0), out=column)
        np.minimum(column, np.float32(edge), out=column)
    ends = np.cumsum([len(one) for one in rings]).tolist()
    return tuple(points[start:end] for start, end in zip([0, *ends], ends, strict=False))


def ring(crop: Crop) -> FloatArray:
    """One object's outline (k, 2) on its grid."""
    parts = contours(crop)
    if not parts:
        return NO_POINTS
    return parts[0] if len(parts) == 1 else joined(parts)


def contours(crop: Crop) -> list[FloatArray]:
    """The outer contours in grid pixels, each (k, 2)."""
    if not crop.pixels.size:
        return []
    found, _ = cv2.findContours(crop.pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(crop.x, crop.y))
    return [part.reshape(-1, 2).astype(np.float32) for part in found]


def joined(parts: Sequence[FloatArray]) -> FloatArray:
    """Contours linked into one ring over the nearest points of neighbours.

    The walk goes through all parts and back: the first and the last part are walked around completely, starting from
    their link point; a middle part contributes the way from its entry to its exit, and on the way back the rest. The
    result is point by point that of ultralytics' segment answers.
    """
    links = [nearest(one, other) for one, other in pairwise(parts)]
    forward = [closed(parts[0], links[0][0])]
    backward: list[FloatArray] = []
    for part, (_, entry), (leave, _) in zip(parts[1:-1], links[:-1], links[1:], strict=True):
        # From entry to exit without passing the part's end, against its order if need be.
        ring = closed(part[::-1], len(part) - 1 - entry) if entry > leave else closed(part, entry)
        way = abs(leave - entry)
        forward.append(ring[: way + 1])
        backward.append(ring[way:])
    forward.append(closed(parts[-1], links[-1][1]))
    return np.concatenate([*forward, *reversed(backward)])


def nearest(one: FloatArray, other: FloatArray) -> tuple[int, int]:
    """Indices of the closest pair of points, the first of several."""
    best = (np.inf, 0, 0)
    # In slices, because two contours of ten thousands of points have more pairs than memory has room for.
    step = max(PAIRS // len(other), 1)
    for start in range(0, len(one), step):
        apart = one[start : start + step, None, 0] - other[None, :, 0]
        apart *= apart
        down = one[start : start + step, None, 1] - other[None, :, 1]
        down *= down
        apart += down
        place = int(apart.argmin())
        best = min(best, (float(apart.flat[place]), start + place // len(other), place % len(other)))
    return best[1], best[2]


def closed(part: FloatArray, start: int) -> FloatArray:
    """The contour from ``start`` around and back to it."""
    return np.concatenate((part[start:], part[: start + 1]))


def on_image(crop: Crop, grid: Grid) -> Crop:
    """The crop moved from its grid to the pixels of the original image."""
    height, width = grid.image_hw
    same = (grid.height, grid.width) == (height, width) and grid.gain_x == grid.gain_y == 1
    if same and not (grid.pad_x or grid.pad_y):
        return crop
    y, rows = sampled(crop.y, crop.pixels.shape[0], grid.gain_y, grid.pad_y, height)
    x, columns = sampled(crop.x, crop.pixels.shape[1], grid.gain_x, grid.pad_x, width)
    return Crop(x, y, crop.pixels[rows[:, None], columns])


def sampled(start: int, length: int, gain: float, pad: float, size: int) -> tuple[int, IntArray]:
    """The first place of the image whose centre is in the crop, and for it and all others the crop's row or column."""
    places = np.floor((np.arange(size) + 0.5) * gain + pad).astype(np.int32) - start
    inside = np.flatnonzero((places >= 0) & (places < length))
    return (int(inside[0]) if len(inside) else 0), places[inside]


def png(crop: Crop, hw: tuple[int, int]) -> bytes:
    """An 8-bit greyscale PNG of this (height, width), 255 where the crop is set and 0 elsewhere.

    Only the rows of the crop are compressed; blank rows above and below come out of a cache.
    """
    height, width = hw
    tall, wide = crop.pixels.shape
    if not crop.pixels.size:
        tall = 0
    # The differences of the row below the crop take the crop's last row away again.
    below = min(1, height - crop.y - tall) if tall else 0
    rows = np.zeros((tall + below, width + 1), np.uint8)
    rows[:, 0] = UP
    if tall:
        shaded = crop.pixels * np.uint8(255)
        rows[0, crop.x + 1 : crop.x + 1 + wide] = shaded[0]
        np.subtract(shaded[1:], shaded[:-1], out=rows[1:tall, crop.x + 1 : crop.x + 1 + wide])
        rows[tall:, crop.x + 1 : crop.x + 1 + wide] = np.uint8(0) - shaded[-1]
    above = crop.y * (width + 1) if tall else 0
    rest = height * (width + 1) - above - rows.size
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"".join((b"\x78\x01", zeros(above), deflated(rows), zeros(rest), FINAL_BLOCK, checksum(above, rows, rest)))
    return PNG_START + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def deflated(rows: ByteArray) -> bytes:
    """A stretch of a raw deflate stream, ending at a whole byte."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    return packer.compress(rows.data) + packer.flush(zlib.Z_SYNC_FLUSH) if rows.size else b""


def zeros(count: int) -> bytes:
    """:func:`deflated` of so many zeros, put together of powers of two."""
    return b"".join(power_of_zeros(bit) for bit in range(count.bit_length()) if count >> bit & 1)


@cache
def power_of_zeros(exponent: int) -> bytes:
    return deflated(np.zeros(1 << exponent, np.uint8))


def checksum(above: int, rows: ByteArray, rest: int) -> bytes:
    """Adler-32 of zeros, the rows, and zeros again: a zero only adds the first sum to the second."""
    adler = zlib.adler32(rows.data, above % ADLER << 16 | 1)
    first, second = adler & 0xFFFF, adler >> 16
    return struct.pack(">HH", (second + rest * first) % ADLER, first)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def rle(crop: Crop, hw: tuple[int, int]) -> Rle:
    """COCO's run lengths of an image of this (height, width) that is set where the crop is."""
    height, width = hw
    tall, wide = crop.pixels.shape
    columns = np.zeros((wide, tall + 2), np.int8)
    columns[:, 1:-1] = crop.pixels.T
    column, edge = np.nonzero(np.diff(columns, axis=1))
    # Edges alternate: where a run starts, where it ends; a run up to the bottom may go on at the next column's top.
    places = (column + crop.x) * height + edge + crop.y
    ends, starts = places[1:-1:2], places[2::2]
    apart = np.flatnonzero(ends != starts)
    inner = np.stack((ends[apart], starts[apart]), axis=1).ravel()
    edges = np.concatenate(([0], places[:1], inner, places[-1:], [height * width]))
    counts = np.diff(edges).tolist()
    if counts[-1] == 0:
        counts.pop()
    return Rle(hw, tuple(counts))


def compressed(runs: Rle) -> str:
    """The counts in the compact text of COCO's tools: differences to the run before last, six bits a character."""
    text: list[str] = []
    for place, count in enumerate(runs.counts):
        text.extend(characters(count - runs.counts[place - 2] if place > 2 else count))
    return "".join(text)


def characters(value: int) -> Iterator[str]:
    """Five bits of the number a character, the lowest first; the sixth says that more follow."""
    more = True
    while more:
        bits = value & 0x1F
        value >>= 5
        more = value != (-1 if bits & 0x10 else 0)
        yield chr((bits | 0x20 if more else bits) + 48)
