"""Results → the JSON rows of the Hugging Face Inference API.

Numbers are those of transformers' pipelines: scores are float32 widened to float64 and unrounded, box corners are cut
to whole pixels towards zero and not clamped, scores of panoptic and instance segments have six decimals, and semantic
segments score 1.0 (a null would make the JavaScript client throw).
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias, assert_never

import cv2
import numpy as np
import pybase64

from saccade.errors import RunFailed
from saccade.ops.masks import rendered
from saccade.results import Boxes, Depth, FloatArray, IntArray, Keypoints, Labels, Masks, OrientedBoxes, Result

Row: TypeAlias = dict[str, Any]


def rows_of(result: Result) -> list[Row] | Row:
    """What one image's answer is in JSON: a list for everything but depth, in the result's own order."""
    match result:
        case Labels():
            return _labelled(result.names, result.class_ids, result.scores)
        case Boxes():
            return _boxed(_labelled(result.names, result.class_ids, result.scores), result.boxes_xyxy)
        case Keypoints():
            return _with_keypoints(result)
        case OrientedBoxes():
            return _with_corners(result)
        case Masks():
            return _masked(result)
        case Depth():
            return {"depth": _depth_png(result.depth)}
    assert_never(result)


def _labelled(names: tuple[str, ...], class_ids: IntArray, scores: FloatArray) -> list[Row]:
    return [
        {"score": score, "label": name or f"LABEL_{class_id}"}
        for score, name, class_id in zip(_numbers(scores), names, class_ids.tolist(), strict=True)
    ]


def _boxed(rows: list[Row], boxes_xyxy: FloatArray) -> list[Row]:
    corners = map(int, _numbers(boxes_xyxy.ravel()))  # towards zero, as the pipelines cut
    for row, left, top, right, bottom in zip(rows, *[corners] * 4, strict=True):
        row["box"] = {"xmin": left, "ymin": top, "xmax": right, "ymax": bottom}
    return rows


def _with_keypoints(result: Keypoints) -> list[Row]:
    """Detections with one more key: Hugging Face has no pose task; its clients keep keys that they do not know."""
    rows = _boxed(_labelled(result.names, result.class_ids, result.scores), result.boxes_xyxy)
    points = _finite(result.keypoints_xy).astype(np.float64).tolist()
    seen = None if result.visibility is None else _finite(result.visibility).astype(np.float64).tolist()
    for index, row in enumerate(rows):
        row["keypoints"] = [
            {"x": x, "y": y} if seen is None else {"x": x, "y": y, "score": seen[index][place]}
            for place, (x, y) in enumerate(points[index])
        ]
    return rows


def _with_corners(result: OrientedBoxes) -> list[Row]:
    """Detections whose box is the upright one around the rotated one, with its four corners as one more key."""
    corners = _finite(result.corners_xy).reshape(-1, 4, 2)
    around = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    rows = _boxed(_labelled(result.names, result.class_ids, result.scores), around)
    for row, points in zip(rows, corners.astype(np.float64).tolist(), strict=True):
        row["corners"] = [{"x": x, "y": y} for x, y in points]
    return rows


def _masked(result: Masks) -> list[Row]:
    pngs = result.pngs if result.form == "png" else rendered(result, "png").pngs
    rows = _labelled(result.names, result.class_ids, result.scores)
    for row, png in zip(rows, pngs, strict=True):
        row["score"] = 1.0 if result.kind == "semantic" else round(row["score"], 6)
        row["mask"] = pybase64.b64encode_as_string(png)
    return rows


def _depth_png(depth: FloatArray) -> str:
    """The depth stretched over 0..255 as an 8-bit grey PNG, in base64."""
    depth = _finite(depth)
    low, high = float(depth.min(initial=np.inf)), float(depth.max(initial=-np.inf))
    grey = np.zeros(depth.shape, np.uint8)
    if high > low:
        grey = ((depth - low) / (high - low) * 255.0).astype(np.uint8)
    done, png = cv2.imencode(".png", grey)
    if not done:
        raise RunFailed("The depth picture could not be encoded.")
    return pybase64.b64encode_as_string(png.tobytes())


def _numbers(array: FloatArray) -> list[float]:
    """A flat array's finite numbers; a short list is looked through in a tenth of the time that an array takes."""
    values: list[float] = array.tolist()
    if not all(map(math.isfinite, values)):
        values = np.nan_to_num(array).tolist()
    return values


def _finite(values: FloatArray) -> FloatArray:
    """JSON has no NaN and no infinity, and the JavaScript client throws at a null."""
    return values if np.isfinite(values).all() else np.nan_to_num(values)
