"""Numbers stay with their objects: through motion, crossings, gaps and flickering scores."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from saccade.media import frames
from saccade.results import Boxes, Depth, Grid, Keypoints, Labels, Masks, OrientedBoxes
from saccade.tracking import Tracker, _cheapest


def boxes(
    *rows: tuple[float, float, float, float], scores: list[float] | None = None, classes: list[int] | None = None
) -> Boxes:
    count = len(rows)
    return Boxes(
        boxes_xyxy=np.array(rows, np.float32).reshape(-1, 4),
        scores=np.array(scores or [0.9] * count, np.float32),
        class_ids=np.array(classes or [0] * count, np.int32),
        names=("thing",) * count,
    )


def at(x: float, y: float, size: float = 40) -> tuple[float, float, float, float]:
    return (x, y, x + size, y + size)


def ids(result: Boxes) -> list[int]:
    assert result.track_ids is not None
    return [int(number) for number in result.track_ids]


def test_objects_keep_their_numbers_whatever_the_order_of_the_boxes() -> None:
    tracker, rng = Tracker(), np.random.default_rng(3)
    for step in range(30):
        places = [at(10 + 6 * step, 20), at(300 - 5 * step, 100), at(50, 200 + 4 * step)]
        order = rng.permutation(3)
        result = tracker.update(boxes(*(places[index] for index in order)))
        if step == 0:
            known = {int(index): number for index, number in zip(order, ids(result), strict=True)}
        assert ids(result) == [known[int(index)] for index in order]
    assert sorted(known.values()) == [1, 2, 3]


def test_objects_that_cross_each_other_do_not_swap_numbers() -> None:
    tracker = Tracker()
    for step in range(41):
        result = tracker.update(boxes(at(10 + 8 * step, 100), at(330 - 8 * step, 112)))
        assert ids(result) == [1, 2], step


def test_an_object_that_was_hidden_for_a_while_gets_its_number_back() -> None:
    tracker = Tracker()
    for step in range(12):
        tracker.update(boxes(at(10 + 5 * step, 50)))
    for _ in range(8):
        assert ids(tracker.update(boxes())) == []
    assert ids(tracker.update(boxes(at(10 + 5 * 20, 50)))) == [1]


@pytest.mark.parametrize(("gone", "number"), [(5, 1), (6, 2)])
def test_an_object_that_was_gone_too_long_is_a_new_one(gone: int, number: int) -> None:
    tracker = Tracker(patience=5)
    for _ in range(5):
        tracker.update(boxes(at(10, 50)))
    for _ in range(gone):
        tracker.update(boxes())
    assert ids(tracker.update(boxes(at(10, 50)))) == [number]


def test_what_was_seen_in_one_frame_alone_is_forgotten() -> None:
    tracker = Tracker()
    for seen in (boxes(at(10, 50)), boxes()):
        tracker.update(seen)
    assert ids(tracker.update(boxes(at(10, 50)))) == [2]


def test_an_unsure_box_does_not_bring_a_lost_object_back() -> None:
    tracker = Tracker()
    for _ in range(5):
        tracker.update(boxes(at(10, 50)))
    tracker.update(boxes())
    assert ids(tracker.update(boxes(at(10, 50), scores=[0.3]))) == [2]


def test_a_box_is_not_given_to_an_object_that_it_does_not_touch_because_both_are_left() -> None:
    tracker = Tracker()
    for _ in range(5):
        tracker.update(boxes(at(100, 50), at(120, 50)))
    assert ids(tracker.update(boxes(at(100, 50), at(80, 50)))) == [1, 3]


def test_an_unsure_box_continues_a_track_but_a_sure_one_comes_first() -> None:
    tracker = Tracker()
    for step in range(20):
        score = 0.9 if step % 3 else 0.3
        assert ids(tracker.update(boxes(at(10 + 4 * step, 50), scores=[score]))) == [1], step
    both = boxes(at(92, 54), at(90, 50), scores=[0.3, 0.9])
    assert ids(tracker.update(both))[1] == 1


def test_a_class_that_flickers_does_not_break_the_track() -> None:
    tracker = Tracker()
    for step in range(10):
        assert ids(tracker.update(boxes(at(10 + 3 * step, 50), classes=[2 + step % 2]))) == [1]


def test_objects_of_two_classes_in_one_place_keep_their_numbers() -> None:
    tracker = Tracker()
    for step in range(6):
        place = at(10 + 3 * step, 50)
        order = [0, 1] if step % 2 else [1, 0]
        found = dict(zip(order, ids(tracker.update(boxes(place, place, classes=order))), strict=True))
        assert found == {1: 1, 0: 2}


@pytest.mark.parametrize(("shift", "number"), [(10, 1), (30, 2)])
def test_a_new_object_is_followed_only_where_much_of_it_stays(shift: int, number: int) -> None:
    tracker = Tracker()
    tracker.update(boxes(at(10, 50)))
    assert ids(tracker.update(boxes(at(10 + shift, 50)))) == [number]


def test_two_trackers_know_nothing_of_each_other() -> None:
    one, other = Tracker(), Tracker()
    one.update(boxes(at(0, 0), at(100, 100)))
    assert ids(other.update(boxes(at(0, 0)))) == [1]


def test_every_kind_of_result_with_objects_is_followed_and_the_others_pass_through() -> None:
    plain = boxes(at(10, 10))
    fields = (plain.scores, plain.class_ids, plain.names)
    corners = np.array([[[10, 10], [50, 10], [50, 50], [10, 50]]], np.float32)
    grid = Grid(1, 1, 1, 1, 0, 0, (1, 1))
    oriented = OrientedBoxes(np.zeros((1, 5), np.float32), corners, *fields)
    pose = Keypoints(plain.boxes_xyxy, *fields, np.zeros((1, 17, 2), np.float32), None)
    instance = Masks(plain.boxes_xyxy, *fields, "instance", grid, np.ones(1, np.int32))
    for result in (plain, oriented, pose, instance):
        tracker = Tracker()
        for _ in range(2):
            followed = tracker.update(result)
            assert type(followed) is type(result)
            assert followed.track_ids is not None
            assert followed.track_ids.dtype == np.int32
            assert followed.track_ids.tolist() == [1]
    semantic = Masks(plain.boxes_xyxy, *fields, "semantic", grid, np.ones(1, np.int32))
    labels = Labels(plain.class_ids, plain.scores, plain.names)
    depth = Depth(np.zeros((2, 2), np.float32))
    for other in (semantic, labels, depth):
        assert Tracker().update(other) is other


def test_boxes_without_size_do_not_harm_the_tracks() -> None:
    tracker = Tracker()
    for _ in range(5):
        result = tracker.update(boxes((5, 5, 5, 5), at(100, 100)))
        assert len(set(ids(result))) == 2
    assert ids(result)[1] == 2


@pytest.mark.parametrize("seed", range(5))
def test_the_assignment_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(60):
        rows = int(rng.integers(1, 6))
        columns = int(rng.integers(rows, 7))
        cost = rng.random((rows, columns)).round(int(rng.integers(1, 4)))
        pairs = _cheapest(cost)
        best = min(
            sum(cost[row, chosen[row]] for row in range(rows))
            for chosen in itertools.permutations(range(columns), rows)
        )
        assert sorted(row for row, _ in pairs) == list(range(rows))
        assert len({column for _, column in pairs}) == rows
        assert sum(cost[pair] for pair in pairs) == pytest.approx(best)


def test_a_person_who_walks_through_a_real_video_has_one_number(data: Path) -> None:
    """The person is found as what differs from the empty room, so that no model is needed."""
    content = (data / "videos" / "one-by-one-person-detection.mp4").read_bytes()
    tracker, found, empty = Tracker(), [], None
    for picture in itertools.islice(frames(content), 0, 190):
        small = cv2.GaussianBlur(picture[::4, ::4], (0, 0), 2).astype(int)
        empty = small if empty is None else empty
        ys, xs = np.nonzero(np.abs(small - empty).max(-1) > 60)
        if len(xs) > 150:
            found += ids(tracker.update(boxes((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))))
    assert len(found) > 60
    assert set(found) == {1}
