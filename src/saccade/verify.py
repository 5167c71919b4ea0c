"""How far a model's fast answers are from its exact ones: the same pictures in automatic precision and in f32."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from saccade.call import Options
from saccade.card import Card, Json
from saccade.convert.agreement import mask_ious, overlap
from saccade.convert.pictures import pictures
from saccade.model import Model
from saccade.ops.boxes import ious, probiou
from saccade.results import (
    Boxes,
    ByteArray,
    Depth,
    FloatArray,
    IntArray,
    Keypoints,
    Labels,
    Masks,
    OrientedBoxes,
    Result,
)
from saccade.runtimes.session import Compute

SAME = 0.5
"""Objects of one class that overlap by at least this much are one object, seen twice."""

SHARE = 0.9
MEAN_SCORE = 0.03
"""At least this share of the objects must be found by both, with scores this close on average."""

Located = Boxes | Keypoints | Masks | OrientedBoxes


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Two answers a picture, compared; None where the task has no such thing or nothing matched.

    ``missing`` objects are only in the expected answers, ``extra`` ones only in the found; ``unmatched_score`` is the
    best score among both: near the threshold there is nothing to worry about. ``box_px`` is the largest difference of
    an edge (a corner of oriented boxes), ``keypoint_px`` the longest way of a point of visibility above 0.5. For
    semantic maps and depths ``pixel_share`` is the share of pixels with equal class, or with depths 1 % apart at most.
    """

    matched: int
    missing: int
    extra: int
    unmatched_score: float | None = None
    score_max: float | None = None
    score_mean: float | None = None
    box_px_max: float | None = None
    box_px_median: float | None = None
    keypoint_px_max: float | None = None
    mask_iou_min: float | None = None
    mask_iou_mean: float | None = None
    pixel_share: float | None = None

    @property
    def share(self) -> float:
        """Of all objects in both answers, those that are in both; 1 if there are none."""
        total = 2 * self.matched + self.missing + self.extra
        return 2 * self.matched / total if total else 1.0

    @property
    def agrees(self) -> bool:
        """Whether the two are the same but for noise."""
        pixels = 1.0 if self.pixel_share is None else self.pixel_share
        return min(self.share, pixels) >= SHARE and (self.score_mean or 0.0) <= MEAN_SCORE


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared, how, and with which outcome.

    ``precision`` is what the fast graph computes in, in the runtime's word. ``own_pictures`` False: the pictures were
    drawn, so that few objects are in them, and ``output_error`` tells more: the largest of the outputs' root mean
    square differences, measured against the output's own spread (large in graphs that put their objects in order
    themselves, where two objects of nearly equal score may change places). ``exact_ms`` and ``fast_ms`` are medians of
    one run. ``certificate`` is what was measured against the original library when the graph was made from a
    checkpoint.
    """

    model: str
    revision: str
    precision: str
    images: int
    own_pictures: bool
    difference: Difference
    output_error: float | None
    exact_ms: float
    fast_ms: float
    certificate: Json = None

    @property
    def agrees(self) -> bool:
        """See :class:`Difference`."""
        return self.difference.agrees


def verify(
    card: Card,
    compute: Compute,
    images: Sequence[ByteArray] | None = None,
    options: Options | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Runs every picture in both precisions; None takes drawn pictures. Both models are open at the same time.

    ``compute.precision`` does not matter. ``progress`` hears how many of how many pictures are done.

    Raises:
        CorruptFiles, UnsupportedModel, MissingExtra, RunFailed: as the model does.
    """
    asked = msgspec.structs.replace(options or Options(), mask_form="crop")
    shown = pictures(()) if images is None else images
    exact = Model(card, msgspec.structs.replace(compute, precision="f32"))
    try:
        fast = Model(card, msgspec.structs.replace(compute, precision="auto"))
        try:
            return compared(exact, fast, shown, images is not None, asked, progress)
        finally:
            fast.close()
    finally:
        exact.close()


def compared(
    exact: Model,
    fast: Model,
    images: Sequence[ByteArray],
    own: bool,
    options: Options,
    progress: Callable[[int, int], None],
) -> Report:
    if options.candidate_labels is None:
        options = msgspec.structs.replace(options, candidate_labels=exact.trial.candidate_labels)
    pairs: list[tuple[Result, Result]] = []
    times: list[tuple[float, float]] = []
    errors: list[float] = []
    for place, image in enumerate(images):
        prepared = exact.prepare(image, options)
        one, one_ms = timed(exact, prepared.tensors)
        other, other_ms = timed(fast, prepared.tensors)
        error = output_error(one, other)
        if error is not None:
            errors.append(error)
        times.append((one_ms, other_ms))
        pairs.append((exact.read(one, prepared.frame, options), fast.read(other, prepared.frame, options)))
        progress(place + 1, len(images))
    card = exact.card
    return Report(
        model=card.name,
        revision=card.revision,
        precision=str(getattr(fast.session, "precision", "") or "unknown"),
        images=len(images),
        own_pictures=own,
        difference=difference(pairs),
        output_error=max(errors, default=None),
        exact_ms=median(one for one, _ in times) if times else 0.0,
        fast_ms=median(other for _, other in times) if times else 0.0,
        certificate=card.config.get("certificate"),
    )


def timed(model: Model, tensors: Any) -> tuple[list[NDArray[Any]], float]:
    """The outputs and the milliseconds they took; a first run, which may set things up, does not count."""
    model.run(tensors)
    started = time.perf_counter()
    outputs = model.run(tensors)
    return outputs, (time.perf_counter() - started) * 1e3


def output_error(expected: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> float | None:
    """The worst output's error; None if shapes differ, as those of graphs do that choose their objects themselves.

    Whole numbers are counts or classes, which are no nearer to one than to another.
    """
    if [one.shape for one in expected] != [other.shape for other in found]:
        return None
    errors = []
    for one, other in zip(expected, found, strict=True):
        if one.size and one.dtype.kind == "f":
            error = float(np.sqrt(np.mean(np.square(one.astype(np.float64) - other.astype(np.float64)))))
            errors.append(error / max(float(one.std()), 1e-9))
    return max(errors, default=None)


class Tally:
    """Gathers over all pictures what a Difference sums up."""

    def __init__(self) -> None:
        self.matched = self.missing = self.extra = 0
        self.unmatched: list[float] = []
        self.scores: list[float] = []
        self.box_px: list[float] = []
        self.keypoint_px: list[float] = []
        self.mask_iou: list[float] = []
        self.pixels: list[float] = []

    def difference(self) -> Difference:
        return Difference(
            matched=self.matched,
            missing=self.missing,
            extra=self.extra,
            unmatched_score=max(self.unmatched, default=None),
            score_max=max(self.scores, default=None),
            score_mean=mean(self.scores),
            box_px_max=max(self.box_px, default=None),
            box_px_median=median(self.box_px) if self.box_px else None,
            keypoint_px_max=max(self.keypoint_px, default=None),
            mask_iou_min=min(self.mask_iou, default=None),
            mask_iou_mean=mean(self.mask_iou),
            pixel_share=mean(self.pixels),
        )


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def difference(pairs: Iterable[tuple[Result, Result]]) -> Difference:
    """Of (expected, found) answers to the same pictures; masks in the form "crop"."""
    tally = Tally()
    for expected, found in pairs:
        match expected, found:
            case Labels(), Labels():
                labels(tally, expected, found)
            case Masks(), Masks() if expected.kind == "semantic":
                tally.pixels.append(equal_pixels(expected, found))
            case Depth(), Depth():
                close = np.abs(expected.depth - found.depth) <= 0.01 * max(float(np.ptp(expected.depth)), 1e-9)
                tally.pixels.append(float(close.mean()))
            case _ if isinstance(expected, Located) and isinstance(found, Located) and type(expected) is type(found):
                objects(tally, expected, found)
            case _:
                raise TypeError(f"{type(expected).__name__} and {type(found).__name__} cannot be compared.")
    return tally.difference()


def labels(tally: Tally, expected: Labels, found: Labels) -> None:
    """The best label is the object; scores are compared for all labels that both list."""
    if expected.class_ids[:1].tolist() == found.class_ids[:1].tolist():
        tally.matched += len(expected.class_ids[:1])
    else:
        tally.missing += 1
        tally.extra += 1
        tally.unmatched.append(float(max(expected.scores.max(initial=0), found.scores.max(initial=0))))
    others = dict(zip(found.class_ids.tolist(), found.scores.tolist(), strict=True))
    for number, score in zip(expected.class_ids.tolist(), expected.scores.tolist(), strict=True):
        if number in others:
            tally.scores.append(abs(score - others[number]))


def objects(tally: Tally, expected: Located, found: Located) -> None:
    """Pairs of the same class, the expected ones' best first, each with what overlaps it most."""
    shared = overlaps(expected, found)
    pairs = paired(expected.class_ids, expected.scores, found.class_ids, shared)
    tally.matched += len(pairs)
    tally.missing += len(expected.scores) - len(pairs)
    tally.extra += len(found.scores) - len(pairs)
    for result, taken in ((expected, {row for row, _ in pairs}), (found, {column for _, column in pairs})):
        tally.unmatched.extend(score for row, score in enumerate(result.scores.tolist()) if row not in taken)
    for row, column in pairs:
        tally.scores.append(abs(float(expected.scores[row]) - float(found.scores[column])))
        distances(tally, expected, found, row, column)
        if isinstance(expected, Masks):
            tally.mask_iou.append(float(shared[row, column]))


def overlaps(expected: Located, found: Located) -> FloatArray:
    """(expected, found) intersections over unions, of masks where there are any."""
    match expected, found:
        case Masks(), Masks():
            return mask_ious(expected, found)
        case OrientedBoxes(), OrientedBoxes():
            count, others = len(expected.scores), len(found.scores)
            first = np.repeat(expected.boxes_xywhr, others, axis=0)
            return probiou(first, np.tile(found.boxes_xywhr, (count, 1))).reshape(count, others)
    return ious(edges(expected), edges(found))


def edges(result: Located) -> FloatArray:
    """(n, 4) edges, (n, 8) corners of oriented boxes."""
    return result.corners_xy.reshape(-1, 8) if isinstance(result, OrientedBoxes) else result.boxes_xyxy


def paired(classes: IntArray, scores: FloatArray, others: IntArray, shared: FloatArray) -> list[tuple[int, int]]:
    """(row, column) of the pairs; the best scores choose first."""
    allowed = np.where(classes[:, None] == others[None, :], shared, np.float32(-1))
    pairs: list[tuple[int, int]] = []
    for row in np.argsort(-scores, kind="stable").tolist() if allowed.size else ():
        column = int(allowed[row].argmax())
        if allowed[row, column] >= SAME:
            allowed[:, column] = -1
            pairs.append((row, column))
    return pairs


def distances(tally: Tally, expected: Located, found: Located, row: int, column: int) -> None:
    """How far the edges and the points of one pair lie apart."""
    one, other = edges(expected)[row], edges(found)[column]
    # The same oriented box may be told from any of its corners.
    turns = (0, 2, 4, 6) if isinstance(expected, OrientedBoxes) else (0,)
    tally.box_px.append(min(float(np.abs(one - np.roll(other, turn)).max()) for turn in turns))
    if isinstance(expected, Keypoints) and isinstance(found, Keypoints):
        ways = np.hypot(*(expected.keypoints_xy[row] - found.keypoints_xy[column]).T)
        seen = np.ones(len(ways), np.bool_) if expected.visibility is None else expected.visibility[row] > 0.5
        tally.keypoint_px.extend(ways[seen].tolist())


def equal_pixels(expected: Masks, found: Masks) -> float:
    """The share of pixels that have the same class in both."""
    others = dict(zip(found.class_ids.tolist(), found.crops, strict=True))
    same = covered = 0
    for number, crop in zip(expected.class_ids.tolist(), expected.crops, strict=True):
        covered += int(np.count_nonzero(crop.pixels))
        same += overlap(crop, others[number]) if number in others else 0
    return same / covered if covered else 1.0
