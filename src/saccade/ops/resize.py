"""Geometry from an image to the network's input and back."""

from __future__ import annotations

from dataclasses import dataclass


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
