"""Two answers are as alike as their users would say: the measure by which a graph is taken for its checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saccade.convert.agreement import agreement, numbers
from saccade.errors import RunFailed
from saccade.results import Boxes, Crop, Depth, Grid, Labels, MaskKind, Masks, OrientedBoxes, Result

LEFT, RIGHT = (0, 0, 100, 100), (200, 0, 300, 100)
HALF = np.array([[1, 1, 0, 0]] * 4, np.uint8)


def labels(**scores: float) -> Labels:
    ids = [ord(name) for name in scores]
    return Labels(np.array(ids, np.int32), np.array([*scores.values()], np.float32), tuple(scores))


def boxes(*found: tuple[tuple[float, ...], float, int]) -> Boxes:
    places, scores, ids = ([one[index] for one in found] for index in range(3))
    return Boxes(
        np.array(places, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(ids, np.int32),
        ("x",) * len(found),
    )


def oriented(*found: tuple[tuple[float, ...], float, int]) -> OrientedBoxes:
    plain = boxes(*found)
    corners = plain.boxes_xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    return OrientedBoxes(np.zeros((len(found), 5), np.float32), corners, plain.scores, plain.class_ids, plain.names)


def masks(*found: tuple[int, int, int, np.ndarray[Any, Any]], kind: MaskKind = "panoptic", score: float = 1.0) -> Masks:
    """Of each its class, its corner and its pixels, on a grid of 8 by 8."""
    crops = tuple(Crop(x, y, pixels) for _, x, y, pixels in found)
    return Masks(
        boxes_xyxy=np.zeros((len(found), 4), np.float32),
        scores=np.full(len(found), score, np.float32),
        class_ids=np.array([one[0] for one in found], np.int32),
        names=("x",) * len(found),
        kind=kind,
        grid=Grid(8, 8, 1.0, 1.0, 0.0, 0.0, (8, 8)),
        areas=np.array([int(crop.pixels.sum()) for crop in crops], np.int32),
        crops=crops,
    )


def depth(*values: float) -> Depth:
    return Depth(np.array([values], np.float32))


@pytest.mark.parametrize(
    ("expected", "found", "share"),
    [
        (labels(a=0.7, b=0.3), labels(b=0.3, a=0.7), 1.0),
        (labels(a=0.7, b=0.3), labels(a=0.66, b=0.34), 1.0),
        (labels(a=0.7, b=0.3), labels(a=0.6, b=0.3), 0.3),
        (labels(a=0.7, b=0.3), labels(a=0.7), 0.7),
        (labels(a=0.7, b=0.3), labels(a=float("nan"), b=float("nan")), 0.0),
        (labels(a=20.0, b=-20.0), labels(a=20.9, b=-20.9), 1.0),
        (labels(a=20.0, b=-20.0), labels(a=21.1, b=-20.0), 0.5),
        (boxes((LEFT, 0.9, 1), (RIGHT, 0.5, 2)), boxes((RIGHT, 0.5, 2), (LEFT, 0.9, 1)), 1.0),
        (boxes((LEFT, 0.9, 1)), boxes(((0, 0, 100, 91), 0.86, 1)), 1.0),
        (boxes((LEFT, 0.9, 1)), boxes(((0, 0, 100, 89), 0.9, 1)), 0.0),
        (boxes((LEFT, 0.9, 1)), boxes((LEFT, 0.9, 2)), 0.0),
        (boxes((LEFT, 0.9, 1)), boxes((LEFT, 0.8, 1)), 0.0),
        (boxes((LEFT, 0.9, 1)), boxes((LEFT, 0.9, 1), (LEFT, 0.9, 1)), 2 / 3),
        (boxes((LEFT, 0.9, 1), (LEFT, 0.9, 1)), boxes((LEFT, 0.9, 1)), 2 / 3),
        (boxes((LEFT, 0.9, 1), (RIGHT, 0.1, 2)), boxes((LEFT, 0.9, 1)), 1.8 / 1.9),
        (boxes((LEFT, 0.9, 1)), boxes(), 0.0),
        (boxes(), boxes((LEFT, 0.9, 1)), 0.0),
        (boxes(), boxes(), 1.0),
        (boxes((LEFT, 0.9, 1)), boxes(((float("nan"),) * 4, 0.9, 1)), 0.0),
        (boxes((LEFT, 0.9, 1)), boxes(((float("nan"),) * 4, 0.1, 1), (LEFT, 0.9, 1)), 1.8 / 1.9),
        (boxes((LEFT, 0.9, 1), ((0, 0, 100, 96), 0.5, 1)), boxes(((0, 0, 100, 96), 0.5, 1), (LEFT, 0.9, 1)), 1.0),
        (boxes(((0, 0, 100, 96), 0.5, 1), (LEFT, 0.9, 1)), boxes((LEFT, 0.9, 1)), 1.8 / 2.3),
        (oriented((LEFT, 0.9, 1)), oriented((LEFT, 0.9, 1)), 1.0),
        (oriented((LEFT, 0.9, 1)), oriented((RIGHT, 0.9, 1)), 0.0),
        (oriented(), oriented(), 1.0),
        (masks((1, 0, 0, HALF)), masks((1, 1, 0, HALF[:, 1:])), 0.0),
        (masks((1, 0, 0, HALF)), masks((1, 0, 0, HALF[:, :2])), 1.0),
        (masks((1, 0, 0, HALF)), masks((1, 2, 0, HALF)), 0.0),
        (masks((1, 0, 0, HALF)), masks((1, 0, 0, HALF), score=0.9), 0.0),
        (masks((1, 0, 0, HALF), kind="semantic"), masks((1, 0, 0, HALF), kind="semantic"), 8 / 64),
        (masks((1, 0, 0, HALF), kind="semantic"), masks((1, 0, 2, HALF), kind="semantic"), 4 / 64),
        (masks((1, 0, 0, HALF), kind="semantic"), masks((2, 0, 0, HALF), kind="semantic"), 0.0),
        (depth(1, 2, 3, 11), depth(1.4, 2.4, 3.4, 11.4), 1.0),
        (depth(1, 2, 3, 11), depth(1.6, 2.6, 3.6, 11.6), 0.0),
        (depth(1, 2, 3, 11), depth(1, 2, 3, float("nan")), 0.0),
        (depth(5, 5), depth(5, 5), 1.0),
        (labels(a=1.0), boxes((LEFT, 0.9, 1)), 0.0),
    ],
)
def test_answers_agree_in_what_both_have_alike(expected: Result, found: Result, share: float) -> None:
    assert agreement([(expected, found)]).share == pytest.approx(share, abs=1e-6)


def test_sure_answers_weigh_more_and_the_worst_score_is_told() -> None:
    pairs = [(labels(a=0.8, b=0.1), labels(a=0.8, b=0.1)), (labels(a=0.1), labels(a=0.2)), (depth(1, 2), depth(1, 2))]
    found = agreement(pairs)
    assert (found.share, found.score) == (pytest.approx(1.9 / 2.0), pytest.approx(0.1))
    assert found.compared == 4


def test_two_empty_answers_agree() -> None:
    assert agreement([]).share == 1.0


def array(*values: float) -> np.ndarray[Any, Any]:
    return np.array([values], np.float32)


def test_raw_numbers_are_as_far_from_one_another_as_the_farthest() -> None:
    found = numbers([[array(1, 2), array(-8)], [array(3)]], [[array(1, 2.5), array(-8)], [array(3)]])
    assert (found.largest_error, found.largest_value) == (0.5, 8.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_far_from_one_and_can_be_told(bad: float) -> None:
    for outputs in ([[array(bad)], [array(2)]], [[array(1)], [array(bad)]]):
        found = numbers([[array(1)], [array(2)]], outputs)
        assert 1e30 < found.largest_error < float("inf")
        assert found.largest_value == 2


def test_what_is_infinite_on_both_sides_is_the_same() -> None:
    """Some models give minus infinity to what they leave out."""
    lacking = array(float("-inf"), float("nan"), 1)
    found = numbers([[lacking]], [[lacking.copy()]])
    assert (found.largest_error, found.largest_value) == (0.0, 1.0)


def test_outputs_of_another_shape_are_refused() -> None:
    with pytest.raises(RunFailed, match=r"shape \(1, 2\), the checkpoint's has \(1, 1\)"):
        numbers([[array(1)]], [[array(1, 1)]])
