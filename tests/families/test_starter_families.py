"""Geometry of the families of the starter pack: from made outputs to pixels of the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saccade.call import Options
from saccade.card import Card
from saccade.families.dbnet import DbNet
from saccade.families.movenet import MoveNet
from saccade.families.picodet import PicoDet


def card(family: str, task: Any, **facts: Any) -> Card:
    return Card(name="m", task=task, family=family, runtime="openvino", **facts)


def test_picodet_is_told_both_scales_and_keeps_boxes_inside_the_image() -> None:
    family = PicoDet(card("picodet", "detect", labels={0: "person", 2: "car"}, input_hw=(416, 416)))
    prepared = family.prepare(np.zeros((208, 832, 3), np.uint8), Options())
    assert prepared.tensors["scale_factor"].tolist() == [[2.0, 0.5]]
    cars = [[2, 0.9, -3, 4, 900, 100], [2, 0.95, 10, 4, 820, 99]]
    rows = np.array([[0, 0.5, 3, 4, 5, 8], *cars, [-1, 0.99, 0, 0, 0, 0]], np.float32)
    result = family.read([rows, np.array([4])], prepared.frame, Options())
    assert result.boxes_xyxy.tolist() == [[10, 4, 820, 99], [0, 4, 832, 100], [3, 4, 5, 8]]
    assert result.names == ("car", "car", "person")
    found = family.read([rows, np.array([4])], prepared.frame, Options(iou=0.5))
    assert found.scores.tolist() == pytest.approx([0.95, 0.5])


def test_picodets_classes_suppress_one_another_where_that_is_asked_for() -> None:
    family = PicoDet(card("picodet", "detect", labels={0: "person", 1: "bicycle", 2: "car"}, input_hw=(416, 416)))
    prepared = family.prepare(np.zeros((416, 416, 3), np.uint8), Options())
    rows = np.array([[0, 0.9, 0, 0, 100, 100], [1, 0.8, 0, 0, 100, 65], [2, 0.7, 0, 0, 100, 55]], np.float32)
    every, apart = (family.read([rows], prepared.frame, Options(agnostic_nms=apart)) for apart in (None, True))
    assert every.names == ("person", "bicycle", "car")
    assert apart.names == ("person", "car"), "more than six tenths of the bicycle's and the person's box are the same"


@pytest.mark.parametrize(
    ("hw", "input_hw"),
    [((480, 640), (256, 320)), ((640, 480), (320, 256)), ((100, 1), (320, 32)), ((33, 33), (320, 320))],
)
def test_movenet_pads_to_multiples_of_32_at_the_right_and_the_bottom(
    hw: tuple[int, int], input_hw: tuple[int, int]
) -> None:
    family = MoveNet(card("movenet", "pose", labels={0: "person"}, input_hw=(320, 320)))
    prepared = family.prepare(np.full((*hw, 3), 255, np.uint8), Options())
    assert prepared.frame.input_hw == input_hw
    tensor = prepared.tensors[""]
    height, width = round(hw[0] * prepared.frame.gain_y), round(hw[1] * prepared.frame.gain_x)
    assert (tensor[0, :height, :width] == 255).all()
    assert (tensor[0, height:] == 0).all()
    assert (tensor[0, :, width:] == 0).all()


def test_movenet_sees_320_pixels_where_its_graph_takes_any_number() -> None:
    family = MoveNet(card("movenet", "pose", labels={0: "person"}, dynamic=True))
    assert family.prepare(np.zeros((480, 640, 3), np.uint8), Options()).frame.input_hw == (256, 320)
    assert family.prepare(np.zeros((480, 640, 3), np.uint8), Options(imgsz=500)).frame.input_hw == (384, 512)


def test_movenets_fractions_of_the_padded_input_become_pixels_of_the_image() -> None:
    family = MoveNet(card("movenet", "pose", labels={0: "person"}, input_hw=(320, 320)))
    prepared = family.prepare(np.zeros((480, 640, 3), np.uint8), Options())
    row = np.zeros((1, 6, 56), np.float32)
    row[0, 0, :51] = np.tile([120 / 256, 80 / 320, 0.7], 17)
    row[0, 0, 51:] = 60 / 256, 40 / 320, 240 / 256, 160 / 320, 0.8
    result = family.read([row], prepared.frame, Options())
    assert result.boxes_xyxy.tolist() == [[80, 120, 320, 480]]
    assert result.keypoints_xy[0, 5].tolist() == [160, 240]
    assert result.visibility is not None
    assert result.visibility[0, 5] == np.float32(0.7)


def test_movenets_persons_end_at_the_pictures_edge() -> None:
    family = MoveNet(card("movenet", "pose", labels={0: "person"}, input_hw=(320, 320)))
    prepared = family.prepare(np.zeros((480, 640, 3), np.uint8), Options())
    row = np.zeros((1, 6, 56), np.float32)
    row[0, 0, :51] = np.tile([1.1, 1.1, 0.7], 17)
    row[0, 0, 51:] = -0.1, -0.1, 1.1, 1.1, 0.8
    result = family.read([row], prepared.frame, Options())
    assert result.boxes_xyxy.tolist() == [[0, 0, 640, 480]]
    assert result.keypoints_xy[0, 5].tolist() == [640, 480]


@pytest.mark.parametrize(
    ("hw", "input_hw"),
    [((1000, 1500), (992, 1504)), ((480, 640), (736, 992)), ((3000, 4000), (1504, 2016)), ((1, 3000), (32, 2016))],
)
def test_dbnet_enlarges_small_pictures_and_limits_large_ones(hw: tuple[int, int], input_hw: tuple[int, int]) -> None:
    family = DbNet(card("dbnet", "obb", labels={0: "text"}))
    height, width = family.prepare(np.zeros((*hw, 3), np.uint8), Options()).frame.input_hw
    assert abs(height - input_hw[0]) <= 32
    assert abs(width - input_hw[1]) <= 32
    assert height % 32 == width % 32 == 0
    smaller = family.prepare(np.zeros((*hw, 3), np.uint8), Options(imgsz=640)).frame.input_hw
    assert max(smaller) == 640


def test_dbnet_grows_a_line_by_its_area_through_its_perimeter() -> None:
    family = DbNet(card("dbnet", "obb", labels={0: "text"}))
    prepared = family.prepare(np.zeros((1472, 1472, 3), np.uint8), Options(imgsz=736))
    ink = np.zeros((1, 1, 736, 736), np.float32)
    ink[0, 0, 100:120, 200:400] = 0.9
    result = family.read([ink], prepared.frame, Options())
    x, y, width, height, angle = result.boxes_xywhr[0].tolist()
    # The dilated bar is 200 wide and 20 high between pixel centres; it grows by 1.6 * 200 * 20 / 440 on each side.
    assert (x, y, angle) == pytest.approx((598, 218, 0), abs=3)
    assert (width, height) == pytest.approx((2 * (200 + 2 * 14.5), 2 * (20 + 2 * 14.5)), abs=4)
    begin, _, end, _ = result.corners_xy[0].tolist()
    assert begin < end
    assert result.scores[0] == pytest.approx(0.9, abs=0.1)


def test_dbnet_angles_lie_between_minus_and_plus_a_right_angle_and_follow_the_longer_side() -> None:
    family = DbNet(card("dbnet", "obb", labels={0: "text"}))
    prepared = family.prepare(np.zeros((736, 736, 3), np.uint8), Options())
    ink = np.zeros((1, 1, 736, 736), np.float32)
    ink[0, 0, 100:500, 300:330] = 0.9
    boxes = family.read([ink], prepared.frame, Options()).boxes_xywhr
    assert boxes[0, 2] > boxes[0, 3]
    assert boxes[0, 4] == pytest.approx(np.pi / 2)
