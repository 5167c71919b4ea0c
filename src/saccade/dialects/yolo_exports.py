"""Answers in the formats of other tools: COCO results, YOLO label files, GeoJSON, CSV.

Coordinates are pixels of the upright original, except in YOLO label files, where they are divided by its size.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, TypeAlias

import msgspec

from saccade.call import Answer
from saccade.dialects.arguments import Export
from saccade.dialects.yolo_items import Item, Style, items
from saccade.errors import BadOptions, WrongTask

MEDIA_TYPES: dict[Export, str] = {
    "coco": "application/json",
    "yolo": "text/plain; charset=utf-8",
    "geojson": "application/geo+json",
    "csv": "text/csv; charset=utf-8",
}
Frames: TypeAlias = Sequence[tuple[int, Answer]]
COLUMNS = ("frame", "class", "name", "confidence", "x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4", "track_id")


def export(form: Export, answers: Sequence[Answer], decimals: int | None, stride: int = 1) -> bytes:
    """The file that holds all answers, each with its number in the video, of which every ``stride``-th frame was seen.

    Numbers are counted from 0, as elsewhere; an image is number 0.

    Raises:
        WrongTask: the format has no words for the model's answers.
        BadOptions: the format holds one image only.
    """
    frames = list(zip(count(stride - 1, stride), answers, strict=False))
    match form:
        case "coco":
            return msgspec.json.encode(list(_coco(frames, decimals)))
        case "yolo":
            return "".join(_yolo(frames, decimals)).encode()
        case "geojson":
            features = list(_features(frames, decimals))
            return msgspec.json.encode({"type": "FeatureCollection", "features": features})
        case "csv":
            return _csv(frames, decimals)


def _coco(frames: Frames, decimals: int | None) -> Iterator[dict[str, Any]]:
    for frame, item in _items(frames, Style(None)):
        ring = _ring(item)
        xs, ys = ring[0::2], ring[1::2]
        left, top = min(xs, default=0.0), min(ys, default=0.0)
        box = item["box"]
        if "x3" not in box:
            left, top, xs, ys = box["x1"], box["y1"], [box["x2"]], [box["y2"]]
        entry: dict[str, Any] = {
            "image_id": frame,
            "category_id": item["class"],
            "bbox": _rounded([left, top, max(xs, default=left) - left, max(ys, default=top) - top], decimals),
            "score": _rounded([item["confidence"]], decimals)[0],
        }
        if "track_id" in item:  # TAO's name for it, whose results are COCO's besides
            entry["track_id"] = item["track_id"]
        if "segments" in item or "x3" in box:
            entry["segmentation"] = [_rounded(ring, decimals)] if len(ring) >= 6 else []
        if "keypoints" in item:
            points = item["keypoints"]
            seen = points.get("visible", [1.0] * len(points["x"]))
            triples = zip(points["x"], points["y"], seen, strict=True)
            entry["keypoints"] = _rounded([value for triple in triples for value in triple], decimals)
        yield entry


def _yolo(frames: Frames, decimals: int | None) -> Iterator[str]:
    if len(frames) != 1:
        raise BadOptions("format=yolo is a label file, which speaks of one image; ask for coco or csv with a video.")
    for _, item in _items(frames, Style(None, normalize=True)):
        box = item["box"]
        if "segments" in item or "x3" in box:
            numbers = _area(item)
        else:
            width, height = box["x2"] - box["x1"], box["y2"] - box["y1"]
            numbers = [box["x1"] + width / 2, box["y1"] + height / 2, width, height]
        if "keypoints" in item:
            numbers += [value for point in zip(*item["keypoints"].values(), strict=True) for value in point]
        yield " ".join([str(item["class"]), *(f"{number:g}" for number in _rounded(numbers, decimals))]) + "\n"


def _features(frames: Frames, decimals: int | None) -> Iterator[dict[str, Any]]:
    for frame, item in _items(frames, Style(decimals)):
        ring = _area(item)
        points = [list(point) for point in zip(ring[0::2], ring[1::2], strict=True)]
        properties = {"frame": frame} | {key: item[key] for key in ("name", "class", "confidence")}
        if "track_id" in item:
            properties["track_id"] = item["track_id"]
        geometry = {"type": "Polygon", "coordinates": [[*points, points[0]]]}
        yield {"type": "Feature", "geometry": geometry, "properties": properties}


def _csv(frames: Frames, decimals: int | None) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for frame, answer in frames:
        for item in items(answer.result, answer.image_hw, Style(decimals)):
            table.writerow({"frame": frame, **item, **item.get("box", {})})
    return text.getvalue().encode()


def _items(frames: Frames, style: Style) -> Iterator[tuple[int, Item]]:
    for frame, answer in frames:
        for item in items(answer.result, answer.image_hw, style):
            if "box" not in item:
                raise WrongTask("The model answers with labels of the whole image; this format holds objects. Try csv.")
            yield frame, item


def _ring(item: Item) -> list[float]:
    """The outline as x, y, x, y …: the segment's, or the box's corners."""
    if "segments" in item:
        segments = item["segments"]
        return [value for point in zip(segments["x"], segments["y"], strict=True) for value in point]
    box = item["box"]
    return list(box.values()) if "x3" in box else _corners(box)


def _area(item: Item) -> list[float]:
    """The outline, or the box where that has less than three points: readers refuse the whole file for one such."""
    ring = _ring(item)
    return ring if len(ring) >= 6 else _corners(item["box"])


def _corners(box: Mapping[str, float]) -> list[float]:
    return [box["x1"], box["y1"], box["x2"], box["y1"], box["x2"], box["y2"], box["x1"], box["y2"]]


def _rounded(values: list[float], decimals: int | None) -> list[float]:
    return values if decimals is None else [round(value, decimals) for value in values]
