"""Boxes against the reference's numbers and against slow, plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from saccade.ops.boxes import corners_of, corners_of_rotated, nms, probiou, rotated_nms

ANCHORS = np.array([[50, 50, 40, 40], [52, 50, 40, 40], [50, 50, 40, 40], [150, 150, 20, 20]], np.float32)
SCORES = np.array([0.9, 0.8, 0.85, 0.26], np.float32)
CLASSES = np.array([0, 0, 1, 0], np.int32)

A = [100, 100, 60, 20, 0]
B = [105, 100, 60, 20, 0.1]
C = [100, 100, 60, 20, math.pi / 2]
D = [300, 300, 10, 10, 0]


def crowd(count: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random boxes as centre and size, distinct scores, three classes."""
    dice = np.random.default_rng(seed)
    boxes = np.concatenate((dice.uniform(0, spread, (count, 2)), dice.uniform(5, 90, (count, 2))), 1)
    scores = dice.permutation(count).astype(np.float32) / count
    return boxes.astype(np.float32), scores, dice.integers(0, 3, count).astype(np.int32)


def plain_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def test_corners_stand_half_a_size_from_the_centre() -> None:
    assert corners_of(ANCHORS)[0].tolist() == [30, 30, 70, 70]


def test_the_best_box_of_each_class_stays() -> None:
    assert nms(corners_of(ANCHORS), SCORES, CLASSES, 0.45).tolist() == [0, 2, 3]


def test_without_classes_they_suppress_one_another() -> None:
    assert nms(corners_of(ANCHORS), SCORES, None, 0.45).tolist() == [0, 3]


def test_boxes_of_equal_scores_stay_in_the_order_in_which_they_came() -> None:
    left = np.arange(0, 6000, 20, dtype=np.float32)
    boxes = np.stack((left, left, left + 10, left + 10), axis=1)
    scores = np.tile(np.array([0.5, 0.9], np.float32), 150)
    assert nms(boxes, scores, None, 0.45).tolist() == [*range(1, 300, 2), *range(0, 300, 2)]


def test_no_more_candidates_are_looked_at_than_the_reference_looks_at() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 30_000 + [[50, 50, 60, 60]], np.float32)
    scores = np.array([0.9] * 30_000 + [0.5], np.float32)
    assert nms(boxes, scores, None, 0.45).tolist() == [0]
    assert nms(boxes[1:], scores[1:], None, 0.45).tolist() == [0, 29_999]


def test_an_overlap_of_just_the_threshold_is_kept() -> None:
    boxes = np.array([[0, 0, 20, 10], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    assert len(nms(boxes, scores, None, 0.5)) == 2
    assert len(nms(boxes, scores, None, 0.49)) == 1


def test_equal_scores_keep_their_order() -> None:
    boxes = np.array([[0, 0, 9, 9], [50, 0, 59, 9], [1, 0, 10, 9]], np.float32)
    assert nms(boxes, np.ones(3, np.float32), None, 0.5).tolist() == [0, 1]


def test_no_more_than_the_limit_are_kept() -> None:
    boxes, scores, classes = crowd(1000, 2000)
    assert nms(corners_of(boxes), scores, classes, 0.7, limit=7).tolist() == np.argsort(-scores)[:7].tolist()


def test_nothing_is_kept_of_nothing() -> None:
    empty = np.zeros(0, np.float32)
    assert len(nms(empty.reshape(0, 4), empty, None, 0.5)) == 0
    assert len(rotated_nms(empty.reshape(0, 5), empty, None, 0.5)) == 0


def test_boxes_without_area_do_no_harm() -> None:
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 9, 9]], np.float32)
    assert len(nms(boxes, np.array([0.9, 0.8, 0.7], np.float32), None, 0.5)) == 3


@pytest.mark.parametrize("spread", [150, 900])
@pytest.mark.parametrize("iou", [0.3, 0.7])
def test_blocks_choose_what_a_plain_loop_chooses(spread, iou) -> None:
    centres, scores, classes = crowd(900, spread)
    boxes = corners_of(centres)
    kept: list[int] = []
    for row in np.argsort(-scores):
        if all(classes[row] != classes[k] or plain_iou(boxes[row], boxes[k]) <= iou for k in kept):
            kept.append(row)
    assert nms(boxes, scores, classes, iou, limit=1000).tolist() == kept


@pytest.mark.parametrize(
    ("first", "second", "overlap"), [(A, A, 0.999532), (A, B, 0.861299), (A, C, 0.367544), (B, C, 0.360142), (A, D, 0)]
)
def test_rotated_overlap_is_the_references(first, second, overlap) -> None:
    found = probiou(np.array([first], np.float32), np.array([second], np.float32))
    # Near 1 the root magnifies the last bit of a float32.
    np.testing.assert_allclose(found, [overlap], atol=1e-4 if first == second else 2e-6)


def test_turning_two_rotated_boxes_together_leaves_their_overlap_as_it_is() -> None:
    pair = np.array([A, [112, 104, 60, 20, 0.1]], np.float32)
    expected = probiou(pair[:1], pair[1:])[0]
    for angle in (0.4, 0.9, 1.8, 2.6):
        cosine, sine = math.cos(angle), math.sin(angle)
        turned = pair.copy()
        turned[:, :2] = pair[:, :2] @ np.array([[cosine, sine], [-sine, cosine]], np.float32)
        turned[:, 4] += angle
        assert probiou(turned[:1], turned[1:])[0] == pytest.approx(expected, abs=1e-5)


def test_rotated_corners_are_the_references() -> None:
    expected = [[125.7049, 98.4190], [131.6153, 79.3122], [74.2951, 61.5810], [68.3847, 80.6878]]
    np.testing.assert_allclose(
        corners_of_rotated(np.array([[100, 80, 60, 20, 0.3]], np.float32))[0], expected, atol=1e-3
    )


def test_a_dropped_rotated_box_still_drops_others() -> None:
    chain = np.array([[100, 100, 60, 20, 0], [112, 100, 60, 20, 0], [124, 100, 60, 20, 0]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    first_third = probiou(chain[:1], chain[2:])[0]
    neighbours = probiou(chain[:1], chain[1:2])[0]
    assert rotated_nms(chain, scores, None, float(first_third + neighbours) / 2).tolist() == [0]


@pytest.mark.parametrize("spread", [150, 900])
@pytest.mark.parametrize("iou", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("size", [1.0, 0.001])
def test_rotated_blocks_choose_what_all_pairs_choose(spread, iou, size) -> None:
    centres, scores, classes = crowd(700, spread)
    angles = np.random.default_rng(1).uniform(-1, 3, (700, 1))
    boxes = np.concatenate((centres[:, :2] * size, centres[:, 2:] * size, angles), 1).astype(np.float32)
    order = np.argsort(-scores)
    moved = boxes.copy()
    moved[:, :2] += classes[:, None].astype(np.float32) * 7680
    kept = [
        row
        for place, row in enumerate(order)
        if not (probiou(moved[order[:place]], np.repeat(moved[row][None], place, 0)) > np.float32(iou)).any()
    ]
    assert rotated_nms(boxes, scores, classes, iou, limit=1000).tolist() == kept
