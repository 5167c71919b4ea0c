"""Masks in their compact form, and from there to polygons, PNG files and run lengths."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np

from saccade.errors import RunFailed
from saccade.results import ByteArray, Crop, FloatArray, Grid, MaskForm, Masks, Rle

PNG_START = b"\x89PNG\r\n\x1a\n"
UP = 2
"""PNG's filter that stores the difference to the row above: masks become almost all zeros, which compress fast."""


def rendered(masks: Masks, form: MaskForm) -> Masks:
    """The same segments in another form; only a result in the "crop" form can be turned into others."""
    if form == masks.form:
        return masks
    if masks.form != "crop":
        raise RunFailed(f"Masks in the form '{masks.form}' cannot be turned into the form '{form}' any more.")
    fields = {name: getattr(masks, name) for name in masks.__dataclass_fields__} | {"form": form, "crops": ()}
    match form:
        case "polygon":
            fields["polygons"] = tuple(polygon(crop, masks.grid) for crop in masks.crops)
        case "png":
            fields["pngs"] = tuple(png(dense(crop, masks.grid)) for crop in masks.crops)
        case "rle":
            fields["rles"] = tuple(rle(dense(crop, masks.grid)) for crop in masks.crops)
        case "crop":
            pass
    return Masks(**fields)


def dense(crop: Crop, grid: Grid) -> ByteArray:
    """One object's mask over the whole image, (height, width) of 0 and 255, sampled at pixel centres."""
    height, width = grid.image_hw
    if (
        (grid.height, grid.width) == grid.image_hw
        and grid.gain_x == grid.gain_y == 1
        and not (grid.pad_x or grid.pad_y)
    ):
        whole = np.zeros((height, width), np.uint8)
        h, w = crop.pixels.shape
        np.multiply(crop.pixels, 255, out=whole[crop.y : crop.y + h, crop.x : crop.x + w])
        return whole
    columns = ((np.arange(width) + 0.5) * grid.gain_x + grid.pad_x).astype(np.intp) - crop.x
    rows = ((np.arange(height) + 0.5) * grid.gain_y + grid.pad_y).astype(np.intp) - crop.y
    whole = np.zeros((height, width), np.uint8)
    inside_x = np.flatnonzero((columns >= 0) & (columns < crop.pixels.shape[1]))
    inside_y = np.flatnonzero((rows >= 0) & (rows < crop.pixels.shape[0]))
    if len(inside_x) and len(inside_y):
        part = crop.pixels[rows[inside_y]][:, columns[inside_x]]
        whole[inside_y[0] : inside_y[-1] + 1, inside_x[0] : inside_x[-1] + 1] = part * 255
    return whole


def cropped(mask: ByteArray) -> tuple[Crop, int]:
    """A full-size mask (height, width) of zero and non-zero as the Crop that holds it, and its number of set pixels."""
    x, y, w, h = cv2.boundingRect(mask)
    pixels = (mask[y : y + h, x : x + w] != 0).astype(np.uint8)
    return Crop(x, y, pixels), int(np.count_nonzero(pixels))


def polygon(crop: Crop, grid: Grid) -> FloatArray:
    """One object's outline (k, 2) in image pixels, several parts joined into one ring; empty for an empty mask."""
    parts = contours(crop)
    if not parts:
        return np.zeros((0, 2), np.float32)
    ring = parts[0] if len(parts) == 1 else joined(parts)
    pad = np.array([grid.pad_x, grid.pad_y], np.float32)
    gain = np.array([grid.gain_x, grid.gain_y], np.float32)
    height, width = grid.image_hw
    outline: FloatArray = np.clip((ring - pad) / gain, 0, np.array([width, height], np.float32))
    return outline


def contours(crop: Crop) -> list[FloatArray]:
    """The outer contours in grid pixels, each (k, 2)."""
    if not crop.pixels.size:
        return []
    found, _ = cv2.findContours(crop.pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(crop.x, crop.y))
    return [part.reshape(-1, 2).astype(np.float32) for part in found]


def joined(parts: list[FloatArray]) -> FloatArray:
    """Contours linked into one ring over the nearest points of neighbours.

    The walk goes through all parts and back: the first and the last part are walked around completely, starting from
    their link point; a middle part contributes the way from its entry to its exit, and on the way back the rest. The
    result is point by point that of ultralytics' segment answers.
    """
    links = [_nearest(one, other) for one, other in pairwise(parts)]
    forward = [_closed(parts[0], links[0][0])]
    backward: list[FloatArray] = []
    for part, (_, entry), (exit_, _) in zip(parts[1:-1], links[:-1], links[1:], strict=True):
        if entry > exit_:
            part, entry, exit_ = part[::-1], exit_, entry
        ring = _closed(part, entry)
        forward.append(ring[: exit_ - entry + 1])
        backward.append(ring[exit_ - entry :])
    forward.append(_closed(parts[-1], links[-1][1]))
    return np.concatenate([*forward, *reversed(backward)])


def png(mask: ByteArray) -> bytes:
    """An 8-bit greyscale PNG of (height, width) uint8, without loss."""
    height, width = mask.shape
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = UP
    rows[0, 1:] = mask[0]
    np.subtract(mask[1:], mask[:-1], out=rows[1:, 1:])
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    data = packer.compress(rows.data) + packer.flush()
    return PNG_START + b"".join([_chunk(b"IHDR", head), _chunk(b"IDAT", data), _chunk(b"IEND", b"")])


def rle(mask: ByteArray) -> Rle:
    """COCO's run lengths of a mask (height, width) of zero and non-zero."""
    flat = np.asfortranarray(mask != 0).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(edges).tolist()
    if flat.size and flat[0]:
        counts.insert(0, 0)
    return Rle((mask.shape[0], mask.shape[1]), tuple(counts))


def compressed(runs: Rle) -> str:
    """The counts in the compact text of COCO's tools: differences of every second run, six bits a character."""
    text: list[str] = []
    for i, count in enumerate(runs.counts):
        text.extend(_characters(count - runs.counts[i - 2] if i > 2 else count))
    return "".join(text)


def _characters(value: int) -> Iterator[str]:
    more = True
    while more:
        bits = value & 0x1F
        value >>= 5
        more = value != (-1 if bits & 0x10 else 0)
        yield chr((bits | 0x20 if more else bits) + 48)


def _nearest(one: FloatArray, other: FloatArray) -> tuple[int, int]:
    """Indices of the closest pair of points, the first of several."""
    apart = ((one[:, None] - other[None]) ** 2).sum(-1)
    place = int(apart.argmin())
    return place // len(other), place % len(other)


def _closed(part: FloatArray, start: int) -> FloatArray:
    """The contour from ``start`` around and back to it."""
    return np.concatenate([part[start:], part[:start], part[start : start + 1]])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
