"""Pictures with results on them: in the right place, in colours that differ, and no crash at the picture's edge."""

from __future__ import annotations

import dataclasses
import tracemalloc
from itertools import pairwise

import cv2
import numpy as np
import pytest

from saccade.errors import TooLarge
from saccade.media import decode
from saccade.ops.draw import LEFT, MIDDLE, RIGHT, draw, jpeg
from saccade.ops.masks import rendered
from saccade.ops.pen import Pen, colour, ink_on
from saccade.results import (
    Boxes,
    ByteArray,
    Crop,
    Depth,
    Grid,
    Keypoints,
    Labels,
    MaskForm,
    MaskKind,
    Masks,
    OrientedBoxes,
    Result,
)

GREY = np.full((240, 320, 3), 128, np.uint8)


def floats(*values: object) -> np.ndarray:
    return np.array(values, np.float32)


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def boxes(*rows: tuple[float, float, float, float], track_ids: np.ndarray | None = None) -> Boxes:
    count = len(rows)
    return Boxes(
        boxes_xyxy=np.array(rows, np.float32).reshape(-1, 4),
        scores=np.linspace(0.9, 0.4, count).astype(np.float32),
        class_ids=np.arange(count, dtype=np.int32),
        names=tuple(f"thing {index}" for index in range(count)),
        track_ids=track_ids,
    )


def disc(form: MaskForm) -> Masks:
    """A disc of radius 20 on an 80 x 60 grid, four times smaller than the picture."""
    y, x = np.mgrid[:60, :80]
    whole = (((x - 40) ** 2 + (y - 30) ** 2) < 400).astype(np.uint8)
    grid = Grid(60, 80, 0.25, 0.25, 0.0, 0.0, (240, 320))
    crop = Crop(20, 10, np.ascontiguousarray(whole[10:51, 20:61]))
    masks = Masks(
        boxes_xyxy=floats([80, 40, 244, 204]),
        scores=floats(0.8),
        class_ids=ids(2),
        names=("disc",),
        kind="semantic",
        grid=grid,
        areas=ids(int(whole.sum())),
        crops=(crop,),
    )
    return rendered(masks, form)


def empty_results() -> list[Result]:
    none, four = np.zeros(0, np.float32), np.zeros((0, 4), np.float32)
    no_ids = np.zeros(0, np.int32)
    return [
        Boxes(four, none, no_ids, ()),
        OrientedBoxes(np.zeros((0, 5), np.float32), np.zeros((0, 4, 2), np.float32), none, no_ids, ()),
        Keypoints(four, none, no_ids, (), np.zeros((0, 17, 2), np.float32), None),
        Masks(four, none, no_ids, (), "instance", Grid(1, 1, 1, 1, 0, 0, (1, 1)), no_ids),
        Labels(no_ids, none, ()),
    ]


def changed(before: ByteArray, after: ByteArray) -> np.ndarray:
    return (before != after).any(-1)


@pytest.mark.parametrize("result", empty_results(), ids=lambda result: type(result).__name__)
def test_a_result_without_objects_leaves_the_picture_as_it_is(result: Result) -> None:
    np.testing.assert_array_equal(draw(GREY, result), GREY)


def test_a_box_is_drawn_on_its_four_sides_in_the_colour_of_its_class() -> None:
    picture = draw(GREY, boxes((100, 100, 200, 180)))
    for x, y in ((100, 140), (199, 140), (150, 179), (190, 100)):
        assert np.abs(picture[y, x].astype(int) - colour(0)).max() < 60, (x, y)
    assert not changed(GREY, picture)[115:170, 115:190].any()
    assert changed(GREY, picture)[80:100, 100:160].any(), "the label is above the box"


@pytest.mark.parametrize("shape", [(60, 40_000, 3), (40_000, 60, 3)])
def test_what_lies_far_along_a_strip_is_drawn_where_it_lies(shape: tuple[int, int, int]) -> None:
    far = 39_900
    box = (far, 10, far + 60, 40) if shape[1] > far else (10, far, 40, far + 60)
    picture = np.full(shape, 128, np.uint8)
    rows, columns = np.nonzero((draw(picture, boxes(box)) != picture).any(-1))
    assert (rows if shape[0] > far else columns).min() > far - 100


def test_many_large_segments_take_little_more_memory_than_the_picture() -> None:
    side, count = 1500, 12
    grid = Grid(side // 10, side // 10, 0.1, 0.1, 0.0, 0.0, (side, side))
    crops = tuple(Crop(0, 0, np.ones((side // 10, side // 10), np.uint8)) for _ in range(count))
    whole = np.tile(np.array([0, 0, side, side], np.float32), (count, 1))
    scores, ids = np.ones(count, np.float32), np.arange(count, dtype=np.int32)
    masks = Masks(whole, scores, ids, ("a",) * count, "panoptic", grid, areas=ids, crops=crops)
    picture = np.zeros((side, side, 3), np.uint8)
    tracemalloc.start()
    draw(picture, masks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * picture.nbytes


def test_the_picture_that_came_in_is_not_touched() -> None:
    before = GREY.copy()
    before.flags.writeable = False
    assert draw(before, boxes((10, 10, 50, 50))) is not before


def test_labels_do_not_cover_each_other() -> None:
    pen = Pen(GREY.copy())
    for _ in range(4):
        pen.tag("the same place", 100, 100, colour(3))
    assert len(pen.taken) == 4
    tops = sorted(top for _, top, _, _ in pen.taken)
    heights = [bottom - top for _, top, _, bottom in pen.taken]
    assert all(second - first >= heights[0] for first, second in pairwise(tops))


def test_tracks_have_colours_of_their_own() -> None:
    rows = [(20, 60, 100, 200), (180, 60, 260, 200)]
    one = draw(GREY, boxes(*rows, track_ids=ids(7, 7)))
    assert np.abs(one[130, 20].astype(int) - one[130, 180]).max() == 0
    assert np.abs(one[130, 20].astype(int) - colour(7)).max() < 60


@pytest.mark.parametrize("form", ["crop", "polygon", "png", "rle"])
def test_a_mask_tints_its_segment_in_every_form(form: MaskForm) -> None:
    touched = changed(GREY, draw(GREY, disc(form)))
    y, x = np.mgrid[:240, :320]
    distance = np.hypot(x - 162, y - 122)
    assert touched[distance < 70].all()
    assert not touched[distance > 95].any()


def test_a_mask_made_on_a_coarse_grid_has_a_smooth_edge() -> None:
    picture = draw(GREY, disc("crop"))
    solid = (picture[:, :, 2] != 128).astype(np.uint8)
    contours, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=len)
    length, area = cv2.arcLength(outline, True), cv2.contourArea(outline)
    assert 4 * np.pi * area / length**2 > 0.85, "a circle has 1.0, stairs of four pixels 0.62"


def test_a_skeleton_joins_what_is_visible_and_nothing_else() -> None:
    points = np.zeros((1, 17, 2), np.float32)
    points[0, 5], points[0, 7], points[0, 9] = (60, 120), (160, 120), (260, 120)
    seen = np.zeros((1, 17), np.float32)
    seen[0, [5, 7]] = 1.0
    result = Keypoints(
        boxes_xyxy=floats([40, 60, 300, 200]),
        scores=floats(0.9),
        class_ids=ids(0),
        names=("person",),
        keypoints_xy=points,
        visibility=seen,
    )
    touched = changed(GREY, draw(GREY, result))
    assert touched[120, 60:160].all()
    assert not touched[120, 175:290].any()


def pose(points: np.ndarray, visibility: np.ndarray | None) -> Keypoints:
    return Keypoints(floats([5, 5, 315, 235]), floats(0.9), ids(0), ("person",), points[None], visibility)


def test_a_skeleton_tells_the_left_side_from_the_right_and_both_from_the_middle() -> None:
    points = np.zeros((17, 2), np.float32)
    points[[5, 7]], points[[6, 8]], points[[0, 2]] = (
        ((60, 80), (160, 80)),
        ((60, 120), (160, 120)),
        ((60, 160), (160, 160)),
    )
    seen = np.zeros((1, 17), np.float32)
    seen[0, [0, 2, 5, 6, 7, 8]] = 1
    picture = draw(GREY, pose(points, seen))
    assert [tuple(picture[row, 110].tolist()) for row in (80, 120, 160)] == [LEFT, RIGHT, MIDDLE]


@pytest.mark.parametrize(("visibility", "is_drawn"), [(0.6, True), (0.4, False), (None, True)])
def test_a_point_is_drawn_where_it_is_rather_visible_than_not(visibility: float | None, is_drawn: bool) -> None:
    """At the picture's edge, too: without visibilities only what lies at the origin is missing."""
    points = np.array([[0, 120], [0, 0], [0, 0]], np.float32)
    seen = None if visibility is None else floats([visibility, 0, 0])
    touched = changed(GREY, draw(GREY, pose(points, seen)))
    assert touched[120, 0] == is_drawn
    assert not touched[0, 0]


def test_a_label_says_what_the_box_holds() -> None:
    cat, dog = (draw(GREY, dataclasses.replace(boxes((100, 100, 200, 180)), names=(name,))) for name in ("cat", "dog"))
    assert (cat[:100] != dog[:100]).any()
    letters = (cat[88:98, 103:115] != colour(0)).any(-1)
    assert 0.1 < letters.mean() < 0.9
    assert (cat[100:] == dog[100:]).all()


@pytest.mark.parametrize(("kind", "is_boxed"), [("instance", True), ("panoptic", False)])
def test_instances_have_boxes_and_other_segments_their_label_in_their_midst(kind: MaskKind, is_boxed: bool) -> None:
    grid = Grid(240, 320, 1.0, 1.0, 0.0, 0.0, (240, 320))
    triangle = np.triu(np.ones((200, 200), np.uint8))
    found = Masks(
        floats([100, 20, 300, 220]), floats(0.9), ids(4), ("sky",), kind, grid, ids(1), crops=(Crop(100, 20, triangle),)
    )
    picture = draw(GREY, found)
    assert changed(GREY, picture)[219, 150:250].any() == is_boxed
    labelled = (picture[40:120, 200:280] == colour(4)).all(-1)
    assert labelled.any() != is_boxed


def test_segments_of_one_class_differ_from_their_neighbours() -> None:
    grid = Grid(240, 320, 1.0, 1.0, 0.0, 0.0, (240, 320))
    crops = tuple(Crop(x, 60, np.ones((100, 60), np.uint8)) for x in (40, 100, 160))
    many = ("sheep",) * 3
    sheep = Masks(
        np.zeros((3, 4), np.float32), floats(1, 1, 1), ids(4, 4, 4), many, "panoptic", grid, ids(1, 1, 1), crops=crops
    )
    picture = draw(GREY, sheep)
    assert len({tuple(picture[150, x].tolist()) for x in (70, 130, 190)}) == 3


def test_an_oriented_box_is_drawn_through_its_corners() -> None:
    corners = np.array([[[160, 60], [220, 120], [160, 180], [100, 120]]], np.float32)
    result = OrientedBoxes(floats([160, 120, 85, 85, 0.78]), corners, floats(0.9), ids(1), ("ship",))
    touched = changed(GREY, draw(GREY, result))
    assert touched[90, 190]
    assert touched[150, 130]
    assert not touched[120, 120:200].any()
    assert touched[52, 165:180].all(), "the label is above the topmost corner"


def test_of_boxes_that_cross_the_surest_is_on_top() -> None:
    found = boxes((60, 100, 200, 180), (100, 100, 260, 180))
    for order in ([0, 1], [1, 0]):
        turned = Boxes(found.boxes_xyxy[order], found.scores[order], found.class_ids[order], ("a", "b"))
        picture = draw(GREY, turned)
        assert np.abs(picture[179, 150].astype(int) - colour(0)).max() < 60


def test_labels_stand_in_a_panel_in_the_corner() -> None:
    result = Labels(ids(1, 2), floats(0.8, 0.1), ("tabby cat", "lynx"))
    touched = changed(GREY, draw(GREY, result))
    assert touched[:40, :60].any()
    assert not touched[120:].any()


def test_the_panel_lists_the_five_best_labels_and_stays_on_a_tall_picture() -> None:
    def shown(count: int) -> np.ndarray:
        names = tuple(f"a rather long name {number}" for number in range(count))
        tall = np.full((320, 120, 3), 128, np.uint8)
        return draw(tall, Labels(np.arange(count, dtype=np.int32), np.full(count, 0.1, np.float32), names))

    assert (shown(4) != shown(5)).any()
    assert (shown(5) == shown(9)).all()
    assert (shown(5)[:, -1] == 128).all(), "a margin is left on the right"


def test_depth_covers_the_picture_and_tells_near_from_far() -> None:
    depth = np.tile(np.linspace(0, 5, 80, dtype=np.float32), (60, 1))
    depth[0, 0], depth[0, 1] = np.nan, 1e6
    picture = draw(GREY, Depth(depth))
    assert picture.shape == GREY.shape
    (red, _, blue), (most_red, _, least_blue) = picture[100, 10].tolist(), picture[100, 310].tolist()
    assert blue > red
    assert most_red > 200 > 100 > least_blue


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3000, 3), (3000, 1, 3), (7, 9, 3)])
def test_the_smallest_pictures_and_the_wildest_numbers_do_not_crash(shape: tuple[int, int, int]) -> None:
    picture = np.zeros(shape, np.uint8)
    wild = boxes((-1e9, -5, 1e9, 5), (0, 0, 0, 0), (float("nan"), 1, 2, float("inf")))
    assert draw(picture, wild).shape == shape
    assert (
        draw(picture, Labels(ids(1), floats(0.5), ("a very long name that will not fit anywhere at all",))).shape
        == shape
    )
    assert draw(picture, Depth(np.full((2, 2), np.nan, np.float32))).shape == shape
    assert draw(picture, Boxes(floats([0, 0, 1, 1]), floats(0.5), ids(0), ("",))).shape == shape


def test_neighbouring_ids_have_colours_that_are_easy_to_tell_apart() -> None:
    palette = np.array([colour(index) for index in range(80)], np.float32)
    lab = cv2.cvtColor((palette / 255)[None], cv2.COLOR_RGB2LAB)[0]
    assert min(np.linalg.norm(lab[i] - lab[i + 1]) for i in range(79)) > 40
    assert len({tuple(row) for row in palette.tolist()}) == 80
    assert ink_on((255, 240, 80)) != ink_on((60, 20, 160))


def test_a_jpeg_of_the_picture_can_be_read_again() -> None:
    picture = draw(GREY, boxes((100, 100, 200, 180)))
    again = decode(jpeg(picture, 95))
    assert again.format == "JPEG"
    assert np.abs(again.rgb.astype(int) - picture).mean() < 2
    assert len(jpeg(picture, 30)) < len(jpeg(picture, 95))


@pytest.mark.parametrize(("shape", "size"), [((1, 65501, 3), "65501x1"), ((65501, 1, 3), "1x65501")])
def test_what_no_jpeg_can_hold_is_refused_with_its_size(shape: tuple[int, int, int], size: str) -> None:
    with pytest.raises(TooLarge, match=f"{size}.*at most 65500 pixels"):
        jpeg(np.zeros(shape, np.uint8))
    assert decode(jpeg(np.zeros((1, 65500, 3), np.uint8))).rgb.shape == (1, 65500, 3)
