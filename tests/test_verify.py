"""What the comparison of two answers, or of two precisions, says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.call import Options
from saccade.card import Card
from saccade.media import decode
from saccade.results import Boxes, Crop, Depth, Grid, Keypoints, Labels, Masks, OrientedBoxes
from saccade.runtimes.session import Compute
from saccade.stores.local import Local
from saccade.verify import difference, verify

GRID = Grid(20, 20, 1.0, 1.0, 0.0, 0.0, (20, 20))


def boxes(*rows: tuple[list[float], float, int]) -> Boxes:
    return Boxes(
        boxes_xyxy=np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row[1] for row in rows], np.float32),
        class_ids=np.array([row[2] for row in rows], np.int32),
        names=tuple(str(row[2]) for row in rows),
    )


def masks(kind: Any, *crops: tuple[Crop, int]) -> Masks:
    count = len(crops)
    return Masks(
        boxes_xyxy=np.zeros((count, 4), np.float32),
        scores=np.ones(count, np.float32),
        class_ids=np.array([number for _, number in crops], np.int32),
        names=("thing",) * count,
        kind=kind,
        grid=GRID,
        areas=np.array([crop.pixels.sum() for crop, _ in crops], np.int32),
        crops=tuple(crop for crop, _ in crops),
    )


def block(x: int, wide: int) -> Crop:
    return Crop(x, 0, np.ones((20, wide), np.uint8))


def test_equal_answers_differ_by_nothing() -> None:
    answer = boxes(([0, 0, 10, 10], 0.9, 1), ([20, 0, 30, 10], 0.5, 2))
    found = difference([(answer, answer)])
    assert (found.matched, found.missing, found.extra) == (2, 0, 0)
    assert (found.score_max, found.box_px_max, found.unmatched_score) == (0, 0, None)
    assert found.agrees


def test_moved_lost_and_new_objects_are_counted() -> None:
    expected = boxes(([0, 0, 10, 10], 0.9, 1), ([20, 0, 30, 10], 0.5, 2), ([50, 0, 60, 10], 0.3, 2))
    found = boxes(([0, 0, 10, 12], 0.8, 1), ([20, 0, 30, 10], 0.5, 3), ([51, 0, 60, 10], 0.32, 2))
    seen = difference([(expected, found), (expected, expected)])
    assert (seen.matched, seen.missing, seen.extra) == (5, 1, 1)
    assert seen.unmatched_score == 0.5
    assert seen.score_max == pytest.approx(0.1)
    assert seen.score_mean == pytest.approx(0.12 / 5)
    assert seen.box_px_max == 2
    assert seen.share == pytest.approx(10 / 12)
    assert not seen.agrees


def test_two_empty_answers_agree_and_one_empty_does_not() -> None:
    assert difference([(boxes(), boxes())]).agrees
    assert not difference([(boxes(([0, 0, 9, 9], 0.9, 1)), boxes())]).agrees
    assert not difference([(boxes(), boxes(([0, 0, 9, 9], 0.9, 1)))]).agrees


def test_only_visible_keypoints_are_measured() -> None:
    def pose(x: float, hidden: float) -> Keypoints:
        return Keypoints(
            boxes_xyxy=np.array([[0, 0, 9, 9]], np.float32),
            scores=np.ones(1, np.float32),
            class_ids=np.zeros(1, np.int32),
            names=("person",),
            keypoints_xy=np.array([[[x, 0], [hidden, 0]]], np.float32),
            visibility=np.array([[0.9, 0.1]], np.float32),
        )

    assert difference([(pose(3, 0), pose(5, 8))]).keypoint_px_max == 2


def test_an_oriented_box_told_from_another_corner_is_the_same() -> None:
    corners = np.array([[[20, 5], [20, 15], [0, 15], [0, 5]]], np.float32)
    told = [
        OrientedBoxes(
            boxes_xywhr=np.array([[10, 10, *sides]], np.float32),
            corners_xy=np.roll(corners, turn, axis=1),
            scores=np.ones(1, np.float32),
            class_ids=np.zeros(1, np.int32),
            names=("ship",),
        )
        for turn, sides in ((0, [20, 10, 0]), (1, [10, 20, np.pi / 2]))
    ]
    found = difference([(told[0], told[1])])
    assert found.matched == 1
    assert found.box_px_max == 0


def test_instance_masks_are_matched_by_their_pixels() -> None:
    found = difference([(masks("instance", (block(0, 10), 1)), masks("instance", (block(0, 8), 1)))])
    assert found.mask_iou_min == pytest.approx(0.8)
    assert difference([(masks("instance", (block(0, 5), 1)), masks("instance", (block(5, 5), 1)))]).matched == 0


def test_semantic_maps_share_pixels() -> None:
    expected = masks("semantic", (block(0, 10), 1), (block(10, 10), 2))
    found = difference([(expected, masks("semantic", (block(0, 5), 1), (block(5, 15), 2)))])
    assert found.pixel_share == 0.75
    assert not found.agrees


def test_labels_agree_in_the_best() -> None:
    def labels(*scores: float) -> Labels:
        order = np.argsort(-np.array(scores))
        return Labels(order.astype(np.int32), np.array(scores, np.float32)[order], tuple(map(str, order)))

    found = difference([(labels(0.6, 0.4), labels(0.58, 0.42)), (labels(0.6, 0.4), labels(0.4, 0.6))])
    assert (found.matched, found.missing, found.extra) == (1, 1, 1)
    assert found.score_max == pytest.approx(0.2)


def test_depths_are_compared_by_their_range() -> None:
    ramp = np.linspace(0, 100, 200, dtype=np.float32).reshape(10, 20)
    moved = ramp.copy()
    moved[:5] += 10
    assert difference([(Depth(ramp), Depth(moved))]).pixel_share == 0.5


def test_results_of_different_tasks_cannot_be_compared() -> None:
    with pytest.raises(TypeError, match="Boxes and Depth"):
        difference([(boxes(), Depth(np.zeros((2, 2), np.float32)))])


def shared_card(data: Path, name: str) -> Card:
    card = Local([data / "models"]).find(name)
    assert card is not None
    return card


def test_a_model_is_compared_with_itself_on_photos(data: Path) -> None:
    images = [decode(path.read_bytes()).rgb for path in sorted((data / "images" / "coco").glob("*.jpg"))[:3]]
    steps: list[tuple[int, int]] = []
    report = verify(
        shared_card(data, "yolo11n-seg"),
        Compute(threads=2, lone=False, shapes=0),
        images,
        Options(conf=0.3),
        lambda done, total: steps.append((done, total)),
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert report.agrees
    assert report.own_pictures
    assert report.images == 3
    assert report.difference.matched >= 5
    assert report.difference.mask_iou_mean is not None
    assert report.exact_ms > 0
    assert report.fast_ms > 0


def test_without_photos_the_outputs_still_tell(data: Path) -> None:
    report = verify(shared_card(data, "yolo11n-cls"), Compute(threads=2, lone=False))
    assert not report.own_pictures
    assert report.images == 4
    assert report.output_error is not None
    assert report.output_error < 0.5
