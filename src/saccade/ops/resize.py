"""Geometry from an image to the network's input and back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from saccade.results import ByteArray, FloatArray

Size = tuple[int, int]

PADDING = 114
"""The grey that YOLO models saw around their training images."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How one image was laid into the network's input.

    Input x = image x * ``gain_x`` + ``pad_x``, the same for y. Sizes are (height, width).
    """

    image_hw: tuple[int, int]
    input_hw: tuple[int, int]
    gain_x: float = 1.0
    gain_y: float = 1.0
    pad_x: float = 0.0
    pad_y: float = 0.0


def letterbox(image_rgb: ByteArray, input_hw: Size, stride: int | None = None) -> tuple[ByteArray, Frame]:
    """The image scaled to fit ``input_hw`` and centred on grey (height, width, 3), and its Frame.

    With a ``stride`` only as much grey is left as makes both sides multiples of it (the "minimum rectangle").
    """
    image_hw = (image_rgb.shape[0], image_rgb.shape[1])
    new_h, new_w = fitted(image_hw, input_hw)
    spare_h, spare_w = input_hw[0] - new_h, input_hw[1] - new_w
    if stride is not None:
        spare_h, spare_w = spare_h % stride, spare_w % stride
    # Of an odd number of spare pixels the larger half lies below and to the right.
    top, left = round(spare_h / 2 - 0.1), round(spare_w / 2 - 0.1)
    canvas = np.empty((new_h + spare_h, new_w + spare_w, 3), np.uint8)
    canvas[:top] = canvas[top + new_h :] = PADDING
    canvas[:, :left] = canvas[:, left + new_w :] = PADDING
    inside = canvas[top : top + new_h, left : left + new_w]
    if (new_h, new_w) == image_hw:
        inside[:] = image_rgb
    else:
        cv2.resize(image_rgb, (new_w, new_h), dst=inside, interpolation=cv2.INTER_LINEAR)
    return canvas, framed(image_hw, (canvas.shape[0], canvas.shape[1]))


def framed(image_hw: Size, input_hw: Size) -> Frame:
    """The Frame of an image that was fitted into the middle of an input of this size.

    The gains are those of the whole pixels that the image covers, so that they differ a little between the axes.
    """
    new_h, new_w = fitted(image_hw, input_hw)
    return Frame(
        image_hw=image_hw,
        input_hw=input_hw,
        gain_x=new_w / image_hw[1],
        gain_y=new_h / image_hw[0],
        pad_x=round((input_hw[1] - new_w) / 2 - 0.1),
        pad_y=round((input_hw[0] - new_h) / 2 - 0.1),
    )


def fitted(image_hw: Size, input_hw: Size) -> Size:
    """The largest (height, width) of the image's shape inside the input's, in whole pixels and never 0."""
    gain = min(input_hw[0] / image_hw[0], input_hw[1] / image_hw[1])
    return max(round(image_hw[0] * gain), 1), max(round(image_hw[1] * gain), 1)


def rounded_up(size: int, stride: int) -> int:
    """The next multiple of the stride, at least one."""
    return max(-(-size // stride), 1) * stride


def points_to_image(points_xy: FloatArray, frame: Frame) -> FloatArray:
    """Points (..., 2) of the input as points of the image, moved onto it where they lie outside."""
    height, width = frame.image_hw
    gain = np.array((frame.gain_x, frame.gain_y), np.float32)
    pad = np.array((frame.pad_x, frame.pad_y), np.float32)
    edge = np.array((width, height), np.float32)
    points: FloatArray = np.clip((points_xy - pad) / gain, np.float32(0), edge)
    return points


def boxes_to_image(boxes_xyxy: FloatArray, frame: Frame) -> FloatArray:
    """Boxes (n, 4) of the input as boxes of the image, cut off at its edges."""
    return points_to_image(boxes_xyxy.reshape(-1, 2, 2), frame).reshape(-1, 4)


def rotated_to_image(boxes_xywhr: FloatArray, frame: Frame) -> FloatArray:
    """Rotated boxes (n, 5) of the input as those of the image; they may reach over its edges."""
    pad = np.array((frame.pad_x, frame.pad_y, 0, 0, 0), np.float32)
    gain = np.array((frame.gain_x, frame.gain_y, frame.gain_x, frame.gain_y, 1), np.float32)
    boxes: FloatArray = (boxes_xywhr - pad) / gain
    return boxes
