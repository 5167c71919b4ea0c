"""A result drawn on its picture: boxes, masks, skeletons, oriented boxes, labels and depth."""

from __future__ import annotations

from typing import Final, assert_never

import cv2
import numpy as np
import simplejpeg  # type: ignore[import-untyped]
from numpy.typing import NDArray

from saccade.errors import TooLarge
from saccade.ops.pen import INK, WHITE, Colour, Pen, colour, lighter
from saccade.results import (
    Boxes,
    ByteArray,
    Crop,
    Depth,
    FloatArray,
    Grid,
    IntArray,
    Keypoints,
    Labels,
    Masks,
    OrientedBoxes,
    Result,
    Rle,
)

VISIBLE: Final = 0.5
MASK_STRENGTH: Final = 0.45
SHADES: Final = (0.0, 0.3, 0.15)
"""How much white goes into the tint of one segment and the next, so that neighbours of one class stay apart."""

LISTED: Final = 5
LONGEST_SIDE: Final = 65500

COCO_LIMBS: Final = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6),
    (5, 7), (7, 9), (6, 8), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
"""Pairs of the 17 COCO keypoints that are joined."""

LEFT: Final[Colour] = (64, 224, 255)
RIGHT: Final[Colour] = (255, 158, 64)
MIDDLE: Final[Colour] = (190, 255, 120)


def draw(image_rgb: ByteArray, result: Result) -> ByteArray:
    """A new picture with the result on it; colours go by class, or by track where there are tracks."""
    pen = Pen(np.array(image_rgb, dtype=np.uint8, order="C"))
    match result:
        case Boxes():
            _boxes(pen, result)
            _tags(pen, result)
        case OrientedBoxes():
            _oriented(pen, result)
        case Keypoints():
            _keypoints(pen, result)
        case Masks():
            _masks(pen, result)
        case Labels():
            _panel(pen, result)
        case Depth():
            pen.canvas[:] = _heat(result.depth, pen.canvas.shape[:2])
        case _:
            assert_never(result)
    return pen.canvas


def jpeg(image_rgb: ByteArray, quality: int = 90) -> bytes:
    """The picture as a JPEG file.

    Raises: TooLarge when a side has more pixels than libjpeg takes.
    """
    height, width = image_rgb.shape[:2]
    if max(height, width) > LONGEST_SIDE:
        raise TooLarge(
            f"the picture is {width}x{height}, and what is found is drawn into a JPEG file, whose sides have at most "
            f"{LONGEST_SIDE} pixels: ask for the answer without the drawing, or cut the picture into pieces"
        )
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(image_rgb), quality, "RGB", "420"))


def _boxes(pen: Pen, result: Boxes | Keypoints | Masks) -> None:
    """Upright boxes, the surest last and so on top."""
    for i in _surest_last(result):
        left, top, right, bottom = result.boxes_xyxy[i]
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
        pen.path(corners, _ink(result, i))


def _tags(pen: Pen, result: Boxes | Keypoints | Masks) -> None:
    """Labels of the boxes, the surest first and so in the best place; after all else, or lines would cross them."""
    for i in reversed(_surest_last(result)):
        pen.tag(_caption(result, i), float(result.boxes_xyxy[i, 0]), float(result.boxes_xyxy[i, 1]), _ink(result, i))


def _oriented(pen: Pen, result: OrientedBoxes) -> None:
    for i in _surest_last(result):
        pen.path(result.corners_xy[i], _ink(result, i))
    for i in reversed(_surest_last(result)):
        x, y = result.corners_xy[i][np.argmin(result.corners_xy[i][:, 1])]
        pen.tag(_caption(result, i), float(x), float(y), _ink(result, i))


def _keypoints(pen: Pen, result: Keypoints) -> None:
    """Skeletons above boxes; limbs and points shrink with the person."""
    _boxes(pen, result)
    for points, seen, box in zip(result.keypoints_xy, _seen(result), result.boxes_xyxy, strict=True):
        width = int(np.clip(np.hypot(box[2] - box[0], box[3] - box[1]) / 110, 1, 2 * pen.line))
        if len(points) == 17:
            for start, end in COCO_LIMBS:
                if seen[start] and seen[end]:
                    pen.path(points[[start, end]], _side(start, end), closed=False, width=width)
        for index in np.flatnonzero(seen).tolist():
            ink = _side(index, index) if len(points) == 17 else colour(index)
            pen.dot(float(points[index, 0]), float(points[index, 1]), width + 1, ink)
    _tags(pen, result)


def _seen(result: Keypoints) -> NDArray[np.bool_]:
    """(n, k): which points are drawn; without visibilities, those that are not at the origin."""
    seen: NDArray[np.bool_] = (
        (result.keypoints_xy != 0).any(-1) if result.visibility is None else result.visibility > VISIBLE
    )
    return seen


def _side(start: int, end: int) -> Colour:
    """In COCO's order odd points are the left side and even ones the right; limbs across, and the nose, are neither."""
    if start % 2 != end % 2 or 0 in (start, end):
        return MIDDLE
    return LEFT if start % 2 else RIGHT


def _masks(pen: Pen, result: Masks) -> None:
    """Segments tinted and outlined: instances with box and label, other kinds with a label in their midst."""
    image_hw = (pen.canvas.shape[0], pen.canvas.shape[1])
    outlines: list[list[FloatArray]] = []
    names: list[tuple[int, float, float]] = []
    for i in range(len(result.scores)):  # one cover at a time: each can be as large as the picture, four bytes a pixel
        cover, left, top = _cover(result, i, image_hw)
        if cover.size:
            pen.tint(cover, left, top, lighter(_ink(result, i), SHADES[i % len(SHADES)]), MASK_STRENGTH)
        outlines.append(_outlines(cover, left, top))
        if result.kind != "instance" and (cover > 0.5).sum() > pen.letters**2 * 4:
            column, row = _midst(cover)
            names.append((i, left + column, top + row))
    for i, parts in enumerate(outlines):
        for outline in parts:
            pen.path(outline, _ink(result, i), width=max(1, pen.line // 2))
    if result.kind == "instance":
        _boxes(pen, result)
        _tags(pen, result)
        return
    for i, x, y in names:
        height, width = pen.measure(result.names[i])
        pen.tag(result.names[i], x - width / 2, y + height / 2, _ink(result, i))


def _cover(result: Masks, index: int, image_hw: tuple[int, int]) -> tuple[FloatArray, int, int]:
    """How much each pixel belongs to a segment, 0..1, as a rectangle (h, w) and its left and top on the image."""
    match result.form:
        case "crop":
            return _grown(result.crops[index], result.grid, image_hw)
        case "polygon":
            mask = np.zeros(image_hw, np.uint8)
            if len(result.polygons[index]):
                points = np.rint((result.polygons[index] - 0.5) * 16).astype(np.int32)
                cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
        case "png":
            mask = np.asarray(cv2.imdecode(np.frombuffer(result.pngs[index], np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)
        case "rle":
            mask = _unrolled(result.rles[index])
        case _:
            assert_never(result.form)
    left, top, width, height = cv2.boundingRect(mask)
    return mask[top : top + height, left : left + width].astype(np.float32) / np.float32(255), left, top


def _grown(crop: Crop, grid: Grid, image_hw: tuple[int, int]) -> tuple[FloatArray, int, int]:
    """A crop of the grid on the image, with smooth edges instead of the grid's steps."""
    if not crop.pixels.size:
        return np.zeros((0, 0), np.float32), 0, 0
    height, width = crop.pixels.shape
    left, right = ((np.array([crop.x - 1, crop.x + width + 1]) - grid.pad_x) / grid.gain_x).clip(0, image_hw[1])
    top, bottom = ((np.array([crop.y - 1, crop.y + height + 1]) - grid.pad_y) / grid.gain_y).clip(0, image_hw[0])
    x, y, size = int(left), int(top), (int(np.ceil(right)) - int(left), int(np.ceil(bottom)) - int(top))
    if min(size) <= 0:
        return np.zeros((0, 0), np.float32), 0, 0
    to_crop = np.array(
        [
            [grid.gain_x, 0, (x + 0.5) * grid.gain_x + grid.pad_x - 0.5 - crop.x],
            [0, grid.gain_y, (y + 0.5) * grid.gain_y + grid.pad_y - 0.5 - crop.y],
        ]
    )
    soft = cv2.warpAffine(
        crop.pixels.astype(np.float32), to_crop, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=0
    )
    sharpness = max(2.0, 1 / max(grid.gain_x, 1e-6))
    edges: FloatArray = np.asarray(soft, np.float32)
    edges -= np.float32(0.5)
    edges *= np.float32(sharpness)
    edges += np.float32(0.5)
    return np.clip(edges, 0, 1, out=edges), x, y


def _unrolled(runs: Rle) -> ByteArray:
    values = np.arange(len(runs.counts)) % 2 * 255
    flat = np.repeat(values.astype(np.uint8), runs.counts)
    return np.ascontiguousarray(flat.reshape(runs.size, order="F"))


def _outlines(cover: FloatArray, left: int, top: int) -> list[FloatArray]:
    """Contours of the half-covered line, holes included, in image pixels."""
    if not cover.size:
        return []
    solid = (cover > 0.5).astype(np.uint8)
    found, _ = cv2.findContours(solid, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_L1)
    corner = np.array([left + 0.5, top + 0.5], np.float32)
    return [part.reshape(-1, 2).astype(np.float32) + corner for part in found]


def _midst(cover: FloatArray) -> tuple[int, int]:
    """The point that is farthest from the segment's edge."""
    solid = np.pad((cover > 0.5).astype(np.uint8), 1)
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(column) - 1, int(row) - 1


def _panel(pen: Pen, result: Labels) -> None:
    """The best labels in the upper left corner, each with a bar as long as its score."""
    lines = [
        (f"{score:.2f}  {name}", float(score), int(index))
        for score, name, index in zip(
            result.scores[:LISTED], result.names[:LISTED], result.class_ids[:LISTED], strict=True
        )
    ]
    if not lines:
        return
    sizes = [pen.measure(text) for text, _, _ in lines]
    pad = max(3, pen.letters // 2)
    row = max(height for height, _ in sizes) + pad // 2
    height, width = pen.canvas.shape[:2]
    panel_w = min(max(size for _, size in sizes) + 2 * pad, width - pad)
    panel_h = min(row * len(lines) + pad, height - pad)
    if panel_w <= 0 or panel_h <= 0:
        return
    pen.tint(np.ones((panel_h, panel_w), np.float32), pad // 2, pad // 2, INK, 0.72)
    for place, (text, score, index) in enumerate(lines):
        top = pad + place * row
        bar = round((panel_w - pad) * np.clip(score, 0, 1))
        if bar > 0 and top + row - pad // 2 <= pad // 2 + panel_h:
            cover = np.ones((row - pad // 2, bar), np.float32)
            pen.tint(cover[:, : width - pad], pad, top, colour(index), 0.62)
        pen.write(text, pad + pad // 2, top, WHITE)


def _heat(depth: FloatArray, image_hw: tuple[int, int]) -> ByteArray:
    """Depth as colours from dark blue (smallest) to yellow, stretched between its 2nd and 98th percentiles."""
    known = np.isfinite(depth)
    low, high = np.percentile(depth[known], (2, 98)) if known.any() else (0.0, 1.0)
    level = np.nan_to_num((depth - low) / max(float(high - low), 1e-9), nan=0.0, posinf=1.0, neginf=0.0)
    grey = (np.clip(level, 0, 1) * 255).astype(np.uint8)
    if grey.shape != image_hw:
        grey = cv2.resize(grey, (image_hw[1], image_hw[0]), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_PLASMA)[:, :, ::-1], dtype=np.uint8)


def _surest_last(result: Boxes | OrientedBoxes | Keypoints | Masks) -> list[int]:
    return [int(i) for i in np.argsort(result.scores, kind="stable")]


def _ink(result: Boxes | OrientedBoxes | Keypoints | Masks, index: int) -> Colour:
    ids: IntArray = result.class_ids if result.track_ids is None else result.track_ids
    return colour(int(ids[index]))


def _caption(result: Boxes | OrientedBoxes | Keypoints | Masks, index: int) -> str:
    number = "" if result.track_ids is None else f"#{result.track_ids[index]} "
    return f"{number}{result.names[index]} {result.scores[index]:.2f}"
