"""The geometry of the letterbox, there and back, against the numbers of the reference."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.ops.resize import Frame, boxes_to_image, framed, letterbox, points_to_image, rotated_to_image

CASES = [
    # image (h, w), side, size of the scaled image (w, h), borders top bottom left right, for square and for rectangle
    ((750, 600), 640, (512, 640), (0, 0, 64, 64), (0, 0, 0, 0)),
    ((427, 640), 640, (640, 427), (106, 107, 0, 0), (10, 11, 0, 0)),
    ((1080, 810), 640, (480, 640), (0, 0, 80, 80), (0, 0, 0, 0)),
    ((720, 1280), 640, (640, 360), (140, 140, 0, 0), (12, 12, 0, 0)),
    ((333, 500), 640, (640, 426), (107, 107, 0, 0), (11, 11, 0, 0)),
    ((100, 3000), 640, (640, 21), (309, 310, 0, 0), (5, 6, 0, 0)),
    ((1, 3000), 640, (640, 1), (319, 320, 0, 0), (15, 16, 0, 0)),
    ((853, 1280), 320, (320, 213), (53, 54, 0, 0), (5, 6, 0, 0)),
    ((480, 641), 640, (640, 479), (80, 81, 0, 0), (0, 1, 0, 0)),
]


@pytest.mark.parametrize(("image_hw", "side", "scaled", "square", "rectangle"), CASES)
def test_the_image_lies_where_the_reference_lays_it(image_hw, side, scaled, square, rectangle) -> None:
    image = np.full((*image_hw, 3), 7, np.uint8)
    for stride, (top, bottom, left, right) in ((None, square), (32, rectangle)):
        canvas, frame = letterbox(image, (side, side), stride)
        width, height = scaled
        assert canvas.shape == (top + height + bottom, left + width + right, 3)
        inside = (canvas == 7).all(axis=2)
        assert inside.sum() == width * height
        assert inside[top : top + height, left : left + width].all()
        assert (canvas[~inside] == 114).all()
        assert (frame.pad_x, frame.pad_y) == (left, top)
        assert frame.input_hw == canvas.shape[:2]


def test_an_image_of_the_inputs_size_is_not_touched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    canvas, frame = letterbox(image, (64, 64))
    assert (canvas == image).all()
    assert frame == Frame((64, 64), (64, 64))


@pytest.mark.parametrize(
    ("input_hw", "image_hw", "expected"),
    [
        ((640, 640), (750, 600), [42.1875, 58.59375, 276.5625, 468.75]),
        ((640, 512), (750, 600), [117.1875, 58.59375, 351.5625, 468.75]),
        ((640, 640), (427, 640), [100, 0, 300, 294]),
        ((640, 640), (333, 500), [78.125, 0, 234.375, 229.03522]),
    ],
)
def test_boxes_come_back_as_in_the_reference(input_hw, image_hw, expected) -> None:
    boxes = boxes_to_image(np.array([[100, 50, 300, 400]], np.float32), framed(image_hw, input_hw))
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes[0], expected, atol=1e-5)


def test_rotated_boxes_may_leave_the_image() -> None:
    boxes = rotated_to_image(np.array([[100, 50, 300, 400, 0.5]], np.float32), framed((333, 500), (640, 640)))
    np.testing.assert_allclose(boxes[0], [78.125, -44.55634, 234.375, 312.67606, 0.5], atol=1e-5)


def test_points_outside_are_moved_onto_the_image() -> None:
    points = points_to_image(np.array([[316, 156], [900, -5]], np.float32), framed((750, 600), (640, 512)))
    np.testing.assert_allclose(points, [[370.3125, 182.8125], [600, 0]])


def test_nothing_comes_back_as_nothing() -> None:
    assert boxes_to_image(np.zeros((0, 4), np.float32), framed((750, 600), (640, 640))).shape == (0, 4)
