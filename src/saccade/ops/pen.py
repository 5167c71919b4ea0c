"""Lines, shapes and lettering on a picture, as thick and as large as the picture asks for."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

from saccade.results import ByteArray, FloatArray

Colour: TypeAlias = tuple[int, int, int]

WHITE: Final[Colour] = (255, 255, 255)
INK: Final[Colour] = (20, 20, 24)

FRACTION_BITS: Final = 4
"""OpenCV takes coordinates as integers; with these many bits after the point, lines lie where the numbers say."""

FARTHEST: Final = 70_000
"""Pixels from the origin; no picture that can be drawn is longer, and numbers beyond all bounds stay drawable."""
BAND_PIXELS: Final = 1 << 15
"""What is mixed at once: the numbers in between take eight times the room of the pixels, and should fit the cache."""

GOLDEN_TURN: Final = 0.61803398875
TONES: Final = ((0.95, 0.82), (1.0, 0.62), (0.72, 1.0))
"""Brightness and saturation that alternate, so that neighbouring ids differ in more than hue."""

DARKEST: Final = 0.13
"""Colours of less luminance than this (deep blues) are mixed with white: they would vanish in shadows."""


@lru_cache(maxsize=4096)
def colour(index: int) -> Colour:
    """A colour for a class or track id: bright enough for dark photos, and far from those of the ids next to it."""
    hue = (0.58 + index * GOLDEN_TURN) % 1.0
    value, saturation = TONES[index % len(TONES)]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    pure = (round(red * 255), round(green * 255), round(blue * 255))
    return next(shade for shade in (lighter(pure, part / 10) for part in range(11)) if _luminance(shade) > DARKEST)


def lighter(ink: Colour, part: float) -> Colour:
    """The colour mixed with white: 0 leaves it, 1 is white."""
    red, green, blue = (round(value + (255 - value) * part) for value in ink)
    return red, green, blue


def ink_on(background: Colour) -> Colour:
    """Dark or white, whichever is easier to read on this background."""
    return INK if _luminance(background) > 0.2 else WHITE


def _luminance(ink: Colour) -> float:
    """Relative luminance, 0 to 1 (WCAG 2)."""
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in (value / 255 for value in ink)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@dataclass
class Pen:
    """Draws on ``canvas`` (h, w, 3) in place; line width and letters grow with the picture."""

    canvas: ByteArray
    taken: list[tuple[int, int, int, int]] = field(default_factory=list)

    @property
    def line(self) -> int:
        return max(1, round(float(min(self.canvas.shape[:2])) / 280))

    @property
    def letters(self) -> int:
        """Height of the letters' line in pixels."""
        return int(np.clip(min(self.canvas.shape[:2]) / 34, 11, 72))

    def path(self, points_xy: FloatArray, ink: Colour, *, closed: bool = True, width: int | None = None) -> None:
        """A smooth line through (k, 2) points, with a thin dark edge that keeps it visible on any background."""
        if len(points_xy) < 2:
            return
        points = [_fixed(points_xy).reshape(-1, 1, 2)]
        width = self.line if width is None else width
        edge = max(1, width // 3)
        shade: Colour = (ink[0] // 4, ink[1] // 4, ink[2] // 4)
        for line, hue in ((width + 2 * edge, shade), (width, ink)):
            cv2.polylines(self.canvas, points, closed, hue, line, cv2.LINE_AA, FRACTION_BITS)

    def dot(self, x: float, y: float, radius: int, ink: Colour) -> None:
        """A filled circle with a dark edge."""
        at = _fixed(np.array([x, y], np.float32))
        centre = (int(at[0]), int(at[1]))
        for size, hue in ((radius + max(1, radius // 3), INK), (radius, ink)):
            cv2.circle(self.canvas, centre, size << FRACTION_BITS, hue, -1, cv2.LINE_AA, FRACTION_BITS)

    def tint(self, cover: FloatArray, left: int, top: int, ink: Colour, strength: float) -> None:
        """Mixes a colour into the rectangle at (left, top), as much as ``cover`` (h, w) in 0..1 says."""
        height, width = cover.shape
        rows = max(1, BAND_PIXELS // max(1, width))
        for start in range(0, height, rows):
            band = cover[start : start + rows]
            part = self.canvas[top + start : top + start + len(band), left : left + width]
            weight = (band * strength)[:, :, None]
            part[:] = np.rint(part * (1 - weight) + np.array(ink, np.float32) * weight).astype(np.uint8)

    def tag(self, text: str, x: float, y: float, ink: Colour) -> None:
        """A label whose lower left corner is (x, y); it moves down or up where another label is in the way."""
        height, width = self.canvas.shape[:2]
        x, y = (float(value) for value in np.nan_to_num([x, y]).clip(-width - height, width + height))
        pad = max(2, self.letters // 5)
        glyphs = _written(text, self.letters)
        box_h, box_w = glyphs.shape[0] + pad, glyphs.shape[1] + 2 * pad
        left = int(np.clip(x - self.line / 2, 0, max(0, width - box_w)))
        tops = [round(y) - box_h, *(round(y) + step * box_h for step in (0, 1, -2, 2, -3))]
        inside = [int(np.clip(top, 0, max(0, height - box_h))) for top in tops]
        top = next((top for top in inside if not self._overlaps(left, top, box_w, box_h)), inside[0])
        self.taken.append((left, top, left + box_w, top + box_h))
        self.canvas[top : top + box_h, left : left + box_w] = ink
        self.write(text, left + pad, top + pad // 2, ink_on(ink))

    def write(self, text: str, left: int, top: int, ink: Colour) -> None:
        """Letters alone, their line's upper left corner at (left, top); what leaves the picture is cut off."""
        height, width = self.canvas.shape[:2]
        glyphs = _written(text, self.letters)[: max(0, height - top), : max(0, width - left)]
        if glyphs.size:
            self.tint(glyphs, left, top, ink, 1.0)

    def measure(self, text: str) -> tuple[int, int]:
        """(height, width) of the letters."""
        height, width = _written(text, self.letters).shape
        return height, width

    def _overlaps(self, left: int, top: int, width: int, height: int) -> bool:
        return any(
            left < other_right and other_left < left + width and top < other_bottom and other_top < top + height
            for other_left, other_top, other_right, other_bottom in self.taken
        )


def _fixed(points: FloatArray) -> NDArray[np.int32]:
    """Fixed-point coordinates; pixel centres are whole numbers to OpenCV and halves to us."""
    limited = np.clip(np.nan_to_num(points) - 0.5, -FARTHEST, FARTHEST)
    fixed: NDArray[np.int32] = np.rint(limited * (1 << FRACTION_BITS)).astype(np.int32)
    return fixed


@lru_cache(maxsize=1024)
def _written(text: str, size: int) -> FloatArray:
    """The coverage (h, w) in 0..1 of a line of text; every text of one size has the same height."""
    font = _font(size)
    ascent, descent = font.getmetrics()
    mask, (left, top) = font.getmask2(text, mode="L")
    width, height = mask.size
    ink = np.array(mask, np.float32).reshape(height, width) / 255
    line = np.zeros((ascent + descent, max(1, width + max(left, 0))), np.float32)
    top = min(max(top, 0), line.shape[0])
    ink = ink[: line.shape[0] - top]
    line[top : top + len(ink), max(left, 0) : max(left, 0) + width] = ink
    return line


@lru_cache(maxsize=16)
def _font(size: int) -> Any:
    return ImageFont.load_default(round(size * 0.82))
