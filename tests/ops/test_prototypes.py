"""Instance masks by parts against enlarging every mask as a whole, which is what the reference does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from saccade.ops.maps import bilinear
from saccade.ops.prototypes import crops_on_image, crops_on_input, interpolated
from saccade.ops.resize import boxes_to_image, framed
from saccade.results import Crop


def made(seed: int, count: int, hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients, smooth prototypes at a quarter of the input, and boxes that reach over its edges."""
    dice = np.random.default_rng(seed)
    prototypes = dice.standard_normal((32, hw[0] // 4, hw[1] // 4)).astype(np.float32)
    prototypes = np.stack([cv2.GaussianBlur(plane, (0, 0), 2) for plane in prototypes])
    centres = dice.uniform(0, 1, (count, 2)) * (hw[1], hw[0])
    sizes = np.exp(dice.uniform(0, 6, (count, 2)))
    boxes = np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1).astype(np.float32)
    return dice.standard_normal((count, 32)).astype(np.float32), prototypes, boxes


@pytest.mark.parametrize("hw", [(20, 31), (5, 6)])
def test_a_part_of_an_enlarged_plane_is_that_of_the_whole_up_to_its_edges(hw) -> None:
    plane = np.random.default_rng(0).standard_normal((7, 9)).astype(np.float32)
    whole = bilinear(plane, hw)
    for rows, columns in (((0, hw[0]), (0, hw[1])), ((2, 4), (1, 5)), ((0, 1), (hw[1] - 1, hw[1]))):
        part = interpolated(plane, hw, rows, columns)
        np.testing.assert_allclose(part, whole[slice(*rows), slice(*columns)], atol=1e-5)


def cut_by_box(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    rows, columns = np.arange(mask.shape[0])[:, None], np.arange(mask.shape[1])[None]
    left, top, right, bottom = box
    return mask & (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)


def painted(crop: Crop, hw: tuple[int, int]) -> np.ndarray:
    canvas = np.zeros(hw, bool)
    tall, wide = crop.pixels.shape
    assert set(np.unique(crop.pixels)) <= {0, 1}
    canvas[crop.y : crop.y + tall, crop.x : crop.x + wide] = crop.pixels
    return canvas


@pytest.mark.parametrize("hw", [(640, 640), (448, 640), (64, 32)])
def test_parts_on_the_input_are_the_whole_pixel_by_pixel(hw) -> None:
    coefficients, prototypes, boxes = made(0, 40, hw)
    crops = crops_on_input(coefficients, prototypes, boxes, hw)
    for crop, weights, box in zip(crops, coefficients, boxes, strict=True):
        logits = (weights @ prototypes.reshape(32, -1)).reshape(prototypes.shape[1:])
        full = cv2.resize(logits, (hw[1], hw[0]), interpolation=cv2.INTER_LINEAR)
        assert (painted(crop, hw) == cut_by_box(full > 0, box)).all()


def test_inputs_that_are_no_multiple_of_the_prototypes_are_enlarged_as_a_whole() -> None:
    coefficients, prototypes, boxes = made(1, 10, (64, 64))
    for crop, weights, box in zip(
        crops_on_input(coefficients, prototypes, boxes, (70, 70)), coefficients, boxes, strict=True
    ):
        logits = (weights @ prototypes.reshape(32, -1)).reshape(prototypes.shape[1:])
        full = cv2.resize(logits, (70, 70), interpolation=cv2.INTER_LINEAR)
        assert (painted(crop, (70, 70)) == cut_by_box(full > 0, box)).all()


@pytest.mark.parametrize("image_hw", [(480, 640), (427, 640), (1080, 1920), (333, 500), (33, 12)])
def test_parts_on_the_image_are_the_whole(image_hw) -> None:
    hw = (640, 640)
    coefficients, prototypes, boxes = made(2, 12, hw)
    frame = framed(image_hw, hw)
    on_image = boxes_to_image(boxes, frame)
    new_h, new_w = round(image_hw[0] * frame.gain_y), round(image_hw[1] * frame.gain_x)
    for crop, weights, box in zip(
        crops_on_image(coefficients, prototypes, on_image, frame), coefficients, on_image, strict=True
    ):
        logits = (weights @ prototypes.reshape(32, -1)).reshape(prototypes.shape[1:])
        # Enlarged to the input at once, which is a factor of 4: every border is whole there.
        full = cv2.resize(logits, (640, 640), interpolation=cv2.INTER_LINEAR)
        top, left = int(frame.pad_y), int(frame.pad_x)
        full = full[top : top + new_h, left : left + new_w]
        full = cv2.resize(full, (image_hw[1], image_hw[0]), interpolation=cv2.INTER_LINEAR)
        expected = cut_by_box(full > 0, box)
        union = (painted(crop, image_hw) | expected).sum()
        differing = (painted(crop, image_hw) != expected).sum()
        assert differing <= 0.02 * union + 4


def test_boxes_outside_have_empty_masks() -> None:
    coefficients, prototypes, _ = made(3, 2, (64, 64))
    boxes = np.array([[-50, -50, -10, -10], [30, 30, 30, 40]], np.float32)
    assert [crop.pixels.size for crop in crops_on_input(coefficients, prototypes, boxes, (64, 64))] == [0, 0]
