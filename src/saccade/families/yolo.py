"""YOLO by Ultralytics: v5 to 26, every task, every layout in which its exports answer.

Detections come as raw anchors (n, 4 + classes + extra, anchors), as finished rows (n, rows, 6 + extra) of models that
need no suppression or bring their own, or, from the yolov5 and yolov6 repositories, as anchors (n, anchors, 5 +
classes + extra); some converters turn the table of raw anchors round. The layout is told from the shape, because the
metadata of many exports is missing or wrong. "Extra" numbers are mask coefficients, keypoints or an angle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.errors import BadOptions, RunFailed, UnsupportedModel
from saccade.families.classifier import activated, as_scores
from saccade.families.family import Prepared, Tensor, as_float32
from saccade.ops.boxes import Rows, corners_of, corners_of_rotated, nms, rotated_nms
from saccade.ops.grids import Grids, levels_of, ranked_above, rows_above
from saccade.ops.prototypes import crops_on_image, crops_on_input
from saccade.ops.resize import (
    Frame,
    Size,
    boxes_to_image,
    letterbox,
    points_to_image,
    rotated_to_image,
    rounded_up,
)
from saccade.results import (
    Boxes,
    ByteArray,
    Crop,
    FloatArray,
    Grid,
    IntArray,
    Keypoints,
    Labels,
    Masks,
    OrientedBoxes,
    Result,
)

CONF = 0.25
IOU = 0.7
MAX_DET = 300
TOP_K = 5
SIDE = 640
CLASSIFIER_SIDE = 224
TFLITE = ".tflite"
"""Ultralytics' exports of this kind, and what others make of them, give places as parts of the input, not pixels."""
PARTS = 2.0
"""No part is larger: a box that is centred at an edge may be as wide as the input; pixels of a whole table are."""
CERTAIN = 1.01
"""No probability is larger; half precision and eight bits round that far."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MASK_PIXELS = 1_000_000_000
"""So many bytes of masks are made for one image; without the bound one request could fill the memory."""

LARGE = 16_000_000
"""More pixels than this are not computed only to be cropped away."""


@dataclass(frozen=True, slots=True)
class Found:
    """Detections in input pixels: ``boxes`` (n, 4) are xyxy, or centre and size of oriented ones; ``extras`` (n, e)."""

    boxes: FloatArray
    scores: FloatArray
    class_ids: IntArray
    extras: FloatArray

    def __getitem__(self, rows: Rows | slice) -> Found:
        return Found(self.boxes[rows], self.scores[rows], self.class_ids[rows], self.extras[rows])


class Yolo:
    """Graphs with one image input; options None mean conf 0.25, iou 0.7, at most 300 detections."""

    def __init__(self, card: Card) -> None:
        self.card = card
        metadata = card.config.get("metadata")
        # The yolov5 repository writes names and stride, and neither a task nor anything else.
        self.classic = isinstance(metadata, dict) and "names" in metadata and "task" not in metadata
        ends_to_end = isinstance(metadata, dict) and str(metadata.get("end2end", "")).lower() == "true"
        self.ranked = MAX_DET if ends_to_end else 0
        self.may_be_parts = any(file.lower().endswith(TFLITE) for file in card.files)
        self.side = CLASSIFIER_SIDE if card.task == "classify" else SIDE

    def pixels(self) -> Mapping[str, Pixels]:
        if self.classic and self.card.task == "classify":
            return {"": Pixels(scale=1 / 255, mean=IMAGENET_MEAN, std=IMAGENET_STD)}
        return {"": Pixels(scale=1 / 255)}

    def grids(self) -> Grids | None:
        match self.card.task:
            case "detect":
                return Grids(ranked=self.ranked)
            case "segment":
                return Grids("coefficients", ranked=self.ranked)
            case "pose":
                return Grids("keypoints", (self.card.keypoint_shape or (17, 3))[1], self.ranked)
            case "obb":
                return Grids("angle", ranked=self.ranked)
        return None

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        size = self.input_hw(options)
        if self.card.task == "classify":
            image_hw = (image_rgb.shape[0], image_rgb.shape[1])
            pixels = squared(image_rgb, size) if self.classic else centred(image_rgb, size)
            return Prepared({"": pixels[None]}, Frame(image_hw, size))
        pixels, frame = letterbox(image_rgb, size, self.card.stride if self.card.dynamic else None)
        return Prepared({"": pixels[None]}, frame)

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Result:
        match self.card.task:
            case "classify":
                return self.labels(outputs, options)
            case "detect":
                return self.boxes(self.found(outputs, frame, options, 0), frame)
            case "segment":
                return self.masks(outputs, frame, options)
            case "pose":
                return self.keypoints(outputs, frame, options)
            case "obb":
                return self.oriented(self.found(outputs, frame, options, 1), frame)
        raise UnsupportedModel(f"The model '{self.card.name}' does the task '{self.card.task}', which no YOLO does.")

    def input_hw(self, options: Options) -> Size:
        """A graph of fixed size runs at that size whatever is asked for."""
        if options.imgsz is None or not self.card.dynamic:
            return self.card.input_hw or (self.side, self.side)
        side = rounded_up(options.imgsz, self.card.stride)
        return side, side

    def labels(self, outputs: Sequence[Tensor], options: Options) -> Labels:
        """Raises BadOptions for a sigmoid, unless the graph ends in logits, as classic exports do."""
        numbers = as_float32(outputs[0]).reshape(-1)
        logits = self.classic or numbers.min(initial=0) < 1 - CERTAIN or numbers.max(initial=0) > CERTAIN
        usual, options = ("softmax", options) if logits else ("none", as_scores(options, self.card.name))
        scores = activated(numbers, options.activation or usual)
        if not np.isfinite(scores).all():
            raise RunFailed(f"The model '{self.card.name}' answered with numbers that are not finite.")
        best = np.argsort(-scores, kind="stable")[: TOP_K if options.top_k is None else max(options.top_k, 0)]
        return Labels(class_ids=best.astype(np.int32), scores=scores[best], names=self.names(best))

    def boxes(self, found: Found, frame: Frame) -> Boxes:
        return Boxes(
            boxes_xyxy=boxes_to_image(found.boxes, frame),
            scores=found.scores,
            class_ids=found.class_ids,
            names=self.names(found.class_ids),
        )

    def masks(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Masks:
        """Instances whose mask is empty are left out.

        Raises:
            BadOptions: another subtask than "instance" was asked for.
        """
        if options.subtask not in (None, "instance"):
            raise BadOptions(f"Subtask {options.subtask} is not supported for model '{self.card.name}'")
        maps = next((output for output in reversed(outputs) if output.ndim == 4), None)
        if maps is None:
            raise UnsupportedModel(f"The model '{self.card.name}' has no output with mask prototypes.")
        prototypes = as_float32(maps)[0]
        found = self.found(outputs, frame, options, len(prototypes))
        boxes_xyxy = boxes_to_image(found.boxes, frame)
        affordable(boxes_xyxy if options.retina_masks else found.boxes)
        if options.retina_masks:
            grid = Grid(*frame.image_hw, 1.0, 1.0, 0.0, 0.0, frame.image_hw)
            crops = crops_on_image(found.extras, prototypes, boxes_xyxy, frame)
        else:
            grid = Grid(*frame.input_hw, frame.gain_x, frame.gain_y, frame.pad_x, frame.pad_y, frame.image_hw)
            crops = crops_on_input(found.extras, prototypes, found.boxes, frame.input_hw)
        areas = np.array([np.count_nonzero(crop.pixels.view(np.bool_)) for crop in crops], np.int32)
        full = np.flatnonzero(areas)
        return Masks(
            boxes_xyxy=boxes_xyxy[full],
            scores=found.scores[full],
            class_ids=found.class_ids[full],
            names=self.names(found.class_ids[full]),
            kind="instance",
            grid=grid,
            areas=areas[full],
            crops=chosen(crops, full),
        )

    def keypoints(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Keypoints:
        shape = self.card.keypoint_shape or (17, 3)
        found = self.found(outputs, frame, options, shape[0] * shape[1])
        points = found.extras.reshape(-1, *shape)
        return Keypoints(
            boxes_xyxy=boxes_to_image(found.boxes, frame),
            scores=found.scores,
            class_ids=found.class_ids,
            names=self.names(found.class_ids),
            keypoints_xy=points_to_image(points[..., :2], frame),
            visibility=points[..., 2] if shape[1] > 2 else None,
        )

    def oriented(self, found: Found, frame: Frame) -> OrientedBoxes:
        boxes = rotated_to_image(np.concatenate((found.boxes, found.extras), axis=1), frame)
        return OrientedBoxes(
            boxes_xywhr=boxes,
            corners_xy=corners_of_rotated(boxes),
            scores=found.scores,
            class_ids=found.class_ids,
            names=self.names(found.class_ids),
        )

    def found(self, outputs: Sequence[Tensor], frame: Frame, options: Options, extra: int) -> Found:
        """The detections to answer with, best first; ``extra`` numbers follow each one's classes."""
        conf = CONF if options.conf is None else options.conf
        limit = MAX_DET if options.max_det is None else options.max_det
        found, suppressed = self.candidates(outputs, frame.input_hw, conf, extra)
        probabilities(found.scores, self.card.name)
        found = of_classes(found, options.classes)
        if suppressed:
            return found[:limit]
        iou = IOU if options.iou is None else options.iou
        class_ids = None if options.agnostic_nms else found.class_ids
        if self.card.task == "obb":
            return found[
                rotated_nms(np.concatenate((found.boxes, found.extras), axis=1), found.scores, class_ids, iou, limit)
            ]
        return found[nms(found.boxes, found.scores, class_ids, iou, limit)]

    def candidates(self, outputs: Sequence[Tensor], input_hw: Size, conf: float, extra: int) -> tuple[Found, bool]:
        """All detections above ``conf``, and whether the graph has suppressed and sorted them already."""
        oriented = self.card.task == "obb"
        grids = self.grids()
        levels = [] if grids is None else levels_of(outputs, grids)
        if grids is not None and levels:
            if len(self.card.labels) not in (0, levels[0][1].shape[3]):
                raise self.unfit((4 + levels[0][1].shape[3] + extra, sum(sides[..., 0].size for sides, *_ in levels)))
            if grids.ranked:
                return from_rows(ranked_above(levels, grids, input_hw, conf), conf), True
            return of_rows(rows_above(levels, grids, input_hw, conf), conf, extra, oriented), False
        output = next((output for output in outputs if output.ndim == 3), None)
        if output is None:
            raise UnsupportedModel(f"The model '{self.card.name}' has no output with detections.")
        table = as_float32(output)[0]
        laid = layout(table, len(self.card.labels), extra, input_hw, self.card.stride)
        if laid == "turned":
            table, laid = table.T, "raw"
        # A table of all places has some that are far from the corner; finished rows may be of small things in it alone.
        if laid in ("raw", "classic") or (self.may_be_parts and laid == "rows"):
            columns = table if laid == "raw" else table.T
            columns = in_pixels(columns, input_hw, self.points(extra))
            table = columns if laid == "raw" else columns.T
        match laid:
            case "rows":
                return from_rows(table, conf), True
            case "raw":
                return from_anchors(table, conf, extra, oriented), False
            case "classic":
                return from_classic(table, conf, extra), False
        raise self.unfit(table.shape)

    def unfit(self, shape: tuple[int, ...]) -> UnsupportedModel:
        """What to say of a table that is in none of the known layouts."""
        keypoints, check = "", "task and labels"
        if self.card.task == "pose":
            keypoints = " and {} keypoints of {} numbers".format(*self.card.keypoint_shape or (17, 3))
            check = "task, labels and keypoint_shape"
        return UnsupportedModel(
            f"The model '{self.card.name}' answers with {shape[0]} × {shape[1]} numbers, which fits no YOLO for the "
            f"task '{self.card.task}' with {len(self.card.labels)} classes{keypoints}. Check its {check}."
        )

    def points(self, extra: int) -> tuple[int, int]:
        """How many of the extra numbers are those of keypoints, and how many each of these has."""
        return (extra, (self.card.keypoint_shape or (17, 3))[1]) if self.card.task == "pose" else (0, 1)

    def names(self, class_ids: IntArray | Rows) -> tuple[str, ...]:
        labels = self.card.labels
        return tuple(labels.get(number) or f"class{number}" for number in class_ids.tolist())


FAMILY = Yolo


def in_pixels(columns: FloatArray, input_hw: Size, points: tuple[int, int]) -> FloatArray:
    """(4 + … + keypoints, n) with boxes and keypoints in pixels of the input, if they are parts of it."""
    if not columns.size or float(columns[:4].max()) > PARTS:
        return columns
    height, width = input_hw
    pixels = columns.copy()
    pixels[:4] *= np.array([[width], [height], [width], [height]], np.float32)
    count, step = points
    keypoints = pixels[len(pixels) - count :]
    keypoints[0::step] *= width
    keypoints[1::step] *= height
    return pixels


def probabilities(scores: FloatArray, name: str) -> None:
    """Raises UnsupportedModel if one of them is none."""
    if scores.max(initial=0) > CERTAIN:
        raise UnsupportedModel(
            f"The model '{name}' answers with a score of {scores.max():.3g}, and none can be above 1: its numbers mean "
            "something else, such as keypoints or angles, or boxes and scores were quantised together. Export it again "
            f"with metadata, or write its task, labels and, for poses, keypoint_shape into a '{name}.toml' beside it."
        )


def layout(table: FloatArray, classes: int, extra: int, input_hw: Size, stride: int) -> str | None:
    """In which of the known ways a table of detections is laid out, "turned" being raw with a row for each place; None
    if in none of them.

    ``classes`` 0: not known, any number fits.
    """
    first, second = table.shape
    seen = places(input_hw, stride)
    if first == 3 * seen and second > 5 + extra and classes in (0, second - 5 - extra):
        return "classic"
    # Rows of six numbers may be finished ones, too: only these have a class id, which is whole.
    if first == seen != 4 + classes + extra and not (second == 6 + extra and whole(table[:, 5])):
        if classes and second == 5 + classes + extra:
            return "classic"
        if classes and second == 4 + classes + extra:
            return "turned"
    if second == 6 + extra and first != 4 + classes + extra:
        return "rows"
    if first == 4 + classes + extra or (classes == 0 and 4 + extra < first < second):
        return "raw"
    if second == 5 + classes + extra:
        return "classic"
    return None


def places(input_hw: Size, stride: int) -> int:
    """Of all grids, from stride 8 to the model's largest; a model with anchors has three at each."""
    strides = [step for step in (8, 16, 32, 64) if step <= max(stride, 32)]
    return sum((input_hw[0] // step) * (input_hw[1] // step) for step in strides)


def whole(numbers: FloatArray) -> bool:
    return bool((numbers == np.rint(numbers)).all())


def from_anchors(table: FloatArray, conf: float, extra: int, oriented: bool) -> Found:
    """(4 + classes + extra, anchors): centre, size, a probability a class, extras."""
    stop = len(table) - extra
    return of_rows(table[:, np.flatnonzero(table[4:stop].max(axis=0) > conf)].T, conf, extra, oriented)


def of_rows(rows: FloatArray, conf: float, extra: int, oriented: bool) -> Found:
    """Those above ``conf`` of (n, 4 + classes + extra): centre, size, a probability a class, extras."""
    stop = rows.shape[1] - extra
    class_ids, scores = best_class(rows[:, 4:stop])
    boxes = rows[:, :4] if oriented else corners_of(rows[:, :4])
    found = Found(boxes, scores, class_ids, rows[:, stop:])
    return found[np.flatnonzero(scores > conf)]


def from_rows(table: FloatArray, conf: float) -> Found:
    """(rows, 6 + extra): box, score, class, extras; best first, filled up with zeros."""
    rows = table[table[:, 4] > conf]
    return Found(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int32), rows[:, 6:])


def from_classic(table: FloatArray, conf: float, extra: int) -> Found:
    """(anchors, 5 + classes + extra): centre, size, objectness, a conditional probability a class, extras."""
    rows = table[table[:, 4] > conf]
    stop = table.shape[1] - extra
    class_ids, scores = best_class(rows[:, 5:stop] * rows[:, 4:5])
    keep = scores > conf
    return Found(corners_of(rows[keep, :4]), scores[keep], class_ids[keep], rows[keep, stop:])


def best_class(probabilities: FloatArray) -> tuple[IntArray, FloatArray]:
    """The best class of each row of (n, classes) and its probability."""
    best = probabilities.argmax(axis=1)
    return best.astype(np.int32), probabilities[np.arange(len(best)), best]


def of_classes(found: Found, classes: tuple[int, ...] | None) -> Found:
    """Only the detections of these classes, if any are named."""
    return found if classes is None else found[np.flatnonzero(np.isin(found.class_ids, classes))]


def affordable(boxes_xyxy: FloatArray) -> None:
    """Raises BadOptions if masks of these boxes together take too much memory."""
    sizes = np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None)
    pixels = float(sizes.prod(axis=1, dtype=np.float64).sum())
    if pixels > MASK_PIXELS:
        raise BadOptions(
            f"The {len(boxes_xyxy)} masks asked for have {pixels / 1e6:.0f} million pixels; at most "
            f"{MASK_PIXELS / 1e6:.0f} million are made. Ask for fewer (max_det), surer ones (conf), or without "
            "retina_masks."
        )


def chosen(crops: Sequence[Crop], rows: Rows) -> tuple[Crop, ...]:
    return tuple(crops[row] for row in rows.tolist())


def centred(image_rgb: ByteArray, size: Size) -> ByteArray:
    """The middle of the image, its shorter side fitted to a square input; other inputs get all of it, stretched.

    Pillow's antialiased bilinear filter, which was used in training.
    """
    height, width = image_rgb.shape[:2]
    picture = Image.fromarray(image_rgb)
    if size[0] != size[1]:
        return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    side = size[0]
    if height <= width:
        new_h, new_w = side, int(side * width / height)
    else:
        new_h, new_w = int(side * height / width), side
    top, left = round((new_h - side) / 2), round((new_w - side) / 2)
    if new_h * new_w > LARGE:
        part = (
            left * width / new_w,
            top * height / new_h,
            (left + side) * width / new_w,
            (top + side) * height / new_h,
        )
        return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box=part))
    if (new_h, new_w) != (height, width):
        picture = picture.resize((new_w, new_h), Image.Resampling.BILINEAR)
    return np.asarray(picture)[top : top + side, left : left + side]


def squared(image_rgb: ByteArray, size: Size) -> ByteArray:
    """The largest square in the middle, resized as the yolov5 repository does it."""
    height, width = image_rgb.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(image_rgb[top : top + side, left : left + side])
    return letterbox(square, size)[0]
