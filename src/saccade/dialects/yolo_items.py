"""Results as the list of items that the Ultralytics APIs share: one item per object, in the words of ``summary()``.

Key order is ``name, class, confidence, box, track_id, segments, keypoints``; ``box`` has two corners, or four for
oriented boxes. Scalars are rounded like Python rounds them, arrays like numpy does, because the reference does so too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

from saccade import errors
from saccade.ops.masks import rendered
from saccade.results import Boxes, Depth, Keypoints, Labels, Masks, OrientedBoxes, Result

Item: TypeAlias = dict[str, Any]
Doubles: TypeAlias = NDArray[np.float64]

HIDDEN = 0.5
"""Below this visibility a keypoint counts as hidden."""


@dataclass(frozen=True, slots=True)
class Style:
    """How numbers are written: ``decimals`` None leaves them as they are; ``normalize`` divides by the image's size;
    ``zero_hidden`` writes hidden keypoints as 0, 0; ``top_k`` limits labels."""

    decimals: int | None = 5
    normalize: bool = False
    zero_hidden: bool = False
    top_k: int | None = None


PLAIN = Style()


def items(result: Result, image_hw: tuple[int, int], style: Style = PLAIN) -> list[Item]:
    """One item per object, the surest first: clients take the first for the best, and DETR has an order of its own.

    Raises:
        WrongTask: depth, for which these items have no words.
    """
    written = _written(result, image_hw, style)
    if isinstance(result, Labels | Depth):
        return written
    scores = result.scores.tolist()
    return [written[i] for i in sorted(range(len(scores)), key=lambda i: -scores[i])]


def flat_items(result: Result, image_hw: tuple[int, int], style: Style = PLAIN) -> list[Item]:
    """The items of the second generation (2024): flat lists, every coordinate divided by the image's size."""
    # Rounded at the end, because a width is a difference.
    whole = replace(style, decimals=None, normalize=True)
    return [_flat(item, style) for item in items(result, image_hw, whole)]


def polygons(masks: Masks) -> tuple[NDArray[np.float32], ...]:
    """The outline of each segment in image pixels.

    Raises:
        WrongTask: the masks are in a form that no longer has outlines.
    """
    shaped = rendered(masks, "polygon") if masks.form == "crop" else masks
    if shaped.form != "polygon":
        raise errors.WrongTask(f"Masks in the form '{shaped.form}' cannot be written as outlines.")
    return shaped.polygons


def _written(result: Result, image_hw: tuple[int, int], style: Style) -> list[Item]:
    match result:
        case Labels():
            return _labels(result, style)
        case Boxes():
            return [_item(result, i, box, style) for i, box in enumerate(_boxes(result.boxes_xyxy, image_hw, style))]
        case OrientedBoxes():
            return [_item(result, i, box, style) for i, box in enumerate(_corners(result, image_hw, style))]
        case Keypoints():
            return _keypoints(result, image_hw, style)
        case Masks():
            return _segments(result, image_hw, style)
        case Depth():
            raise errors.WrongTask("Depth maps have no words in this API; ask for them at /predict.")
        case _:
            assert_never(result)


def _item(result: Boxes | OrientedBoxes | Keypoints | Masks, i: int, box: dict[str, float], style: Style) -> Item:
    item: Item = {
        "name": result.names[i],
        "class": int(result.class_ids[i]),
        "confidence": _rounded(float(result.scores[i]), style),
        "box": box,
    }
    if result.track_ids is not None:
        item["track_id"] = int(result.track_ids[i])
    return item


def _labels(result: Labels, style: Style) -> list[Item]:
    count = len(result.names) if style.top_k is None else min(style.top_k, len(result.names))
    return [
        {
            "name": result.names[i],
            "class": int(result.class_ids[i]),
            "confidence": _rounded(float(result.scores[i]), style),
        }
        for i in range(count)
    ]


def _boxes(boxes_xyxy: NDArray[np.float32], image_hw: tuple[int, int], style: Style) -> Iterator[dict[str, float]]:
    height, width = image_hw if style.normalize else (1, 1)
    for x1, y1, x2, y2 in boxes_xyxy.tolist():
        yield {
            "x1": _rounded(x1 / width, style),
            "y1": _rounded(y1 / height, style),
            "x2": _rounded(x2 / width, style),
            "y2": _rounded(y2 / height, style),
        }


def _corners(result: OrientedBoxes, image_hw: tuple[int, int], style: Style) -> Iterator[dict[str, float]]:
    height, width = image_hw if style.normalize else (1, 1)
    for corners in result.corners_xy.tolist():
        box: dict[str, float] = {}
        for number, (x, y) in enumerate(corners, start=1):
            box[f"x{number}"] = _rounded(x / width, style)
            box[f"y{number}"] = _rounded(y / height, style)
        yield box


def _segments(result: Masks, image_hw: tuple[int, int], style: Style) -> list[Item]:
    written = []
    boxes = _boxes(result.boxes_xyxy, image_hw, style)
    for i, (box, segments) in enumerate(zip(boxes, _points(polygons(result), image_hw, style), strict=True)):
        item = _item(result, i, box, style)
        item["segments"] = segments
        written.append(item)
    return written


def _keypoints(result: Keypoints, image_hw: tuple[int, int], style: Style) -> list[Item]:
    written = []
    points, seen = result.keypoints_xy, result.visibility
    if style.zero_hidden and seen is not None:
        points = np.where(seen[..., None] < HIDDEN, np.float32(0), points)
    boxes = _boxes(result.boxes_xyxy, image_hw, style)
    for i, (box, keypoints) in enumerate(zip(boxes, _points([*points], image_hw, style), strict=True)):
        item = _item(result, i, box, style)
        item["keypoints"] = keypoints
        if seen is not None:
            item["keypoints"]["visible"] = _listed(seen[i].astype(np.float64), style)
        written.append(item)
    return written


def _points(
    parts_xy: Sequence[NDArray[np.float32]], image_hw: tuple[int, int], style: Style
) -> Iterator[dict[str, list[float]]]:
    """The two columns of each (k, 2)."""
    if not parts_xy:
        return
    # All objects at once: most outlines are so short that calling numpy takes longer than what it does.
    columns: Any = np.concatenate(parts_xy).T
    if style.normalize:
        # In 32 bits, as the reference divides: it decides to which side the middle between two last digits is rounded.
        columns = (column / np.float32(size) for column, size in zip(columns, reversed(image_hw), strict=True))
    x, y = (_listed(column.astype(np.float64), style) for column in columns)
    start = 0
    for part in parts_xy:
        end = start + len(part)
        yield {"x": x[start:end], "y": y[start:end]}
        start = end


def _listed(values: Doubles, style: Style) -> list[float]:
    listed: list[float] = (values if style.decimals is None else values.round(style.decimals)).tolist()
    return listed


def _rounded(value: float, style: Style) -> float:
    return value if style.decimals is None else round(value, style.decimals)


def _flat(item: Item, style: Style) -> Item:
    flat: Item = {"class": item["class"], "name": item["name"], "confidence": _rounded(item["confidence"], style)}
    box: dict[str, float] = item.get("box", {})
    if "segments" in item:
        flat["segment"] = _joined(item["segments"], style)
    elif "keypoints" in item:
        flat["keypoints"] = _joined(item["keypoints"], style)
    elif "x3" in box:
        flat["obb"] = [_rounded(value, style) for value in box.values()]
    elif box:
        flat["width"] = _rounded(box["x2"] - box["x1"], style)
        flat["height"] = _rounded(box["y2"] - box["y1"], style)
        flat["xcenter"] = _rounded((box["x1"] + box["x2"]) / 2, style)
        flat["ycenter"] = _rounded((box["y1"] + box["y2"]) / 2, style)
    if "track_id" in item:
        flat["track_id"] = item["track_id"]
    return flat


def _joined(columns: Mapping[str, list[float]], style: Style) -> list[float]:
    """Point by point what stands column by column."""
    return [_rounded(value, style) for point in zip(*columns.values(), strict=True) for value in point]
