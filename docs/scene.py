"""Draws the street of the documentation's pictures: no photo, so nobody's rights; detectors find things in it.

python docs/scene.py FILE
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

WIDTH, HEIGHT = 1280, 853
SCALE = 2
"""Drawn larger, then made smaller, so that edges are smooth."""

Point = tuple[float, float]


def main() -> None:
    scene().save(Path(sys.argv[1]), quality=90)


def scene() -> Image.Image:
    """A street with a stop sign, a traffic light and a clock."""
    picture = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE))
    pen = ImageDraw.Draw(picture)
    sky(pen)
    houses(pen)
    street(pen)
    traffic_light(pen, 930, 150, 1.0)
    clock(pen, 640, 215, 92)
    stop_sign(pen, 250, 300, 135)
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(0.6))


def at(*points: Point) -> list[Point]:
    return [(x * SCALE, y * SCALE) for x, y in points]


def sky(pen: ImageDraw.ImageDraw) -> None:
    for row in range(HEIGHT * SCALE):
        share = row / HEIGHT / SCALE
        pen.line([(0, row), (WIDTH * SCALE, row)], fill=(int(120 + 110 * share), int(175 + 60 * share), 240))


def houses(pen: ImageDraw.ImageDraw) -> None:
    for x, top, colour in ((-20, 250, "#b08d6e"), (170, 180, "#c9b79c"), (480, 60, "#9a8478"), (800, 210, "#b9a48a"),
                           (1030, 130, "#a58f7d")):  # fmt: skip
        right = x + (320 if x == 480 else 260)
        pen.rectangle(at((x, top), (right, 640)), fill=colour, outline="#6b5a4d", width=4)
        for row in range(int(top) + (270 if x == 480 else 40), 560, 95):
            for column in range(int(x) + 30, int(right) - 50, 75):
                pen.rectangle(at((column, row), (column + 42, row + 58)), fill="#4c6478", outline="#e8e0d4", width=6)


def street(pen: ImageDraw.ImageDraw) -> None:
    pen.rectangle(at((0, 600), (WIDTH, 670)), fill="#a9a6a0")
    pen.rectangle(at((0, 662), (WIDTH, 674)), fill="#c9c6c0")
    pen.rectangle(at((0, 674), (WIDTH, HEIGHT)), fill="#55585c")
    for x in range(20, WIDTH, 190):
        pen.polygon(at((x, 770), (x + 105, 770), (x + 95, 782), (x - 12, 782)), fill="#e9e6dc")


def stop_sign(pen: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
    pen.rectangle(at((x - 7, y + size * 0.9), (x + 7, 660)), fill="#8b8f92")
    pen.polygon(at(*octagon(x, y, size)), fill="white")
    pen.polygon(at(*octagon(x, y, size * 0.93)), fill="#b71c26")
    letters(pen, "STOP", x, y, size * 0.64)


def octagon(x: float, y: float, size: float) -> list[Point]:
    turns = [math.pi / 8 + math.pi / 4 * corner for corner in range(8)]
    return [(x + size * math.cos(turn), y + size * math.sin(turn)) for turn in turns]


def letters(pen: ImageDraw.ImageDraw, text: str, x: float, y: float, size: float, fill: str = "white") -> None:
    font = ImageFont.load_default(size * SCALE)
    pen.text((x * SCALE, y * SCALE), text, fill=fill, font=font, anchor="mm", stroke_width=3 * SCALE, stroke_fill=fill)


def traffic_light(pen: ImageDraw.ImageDraw, x: float, y: float, scale: float) -> None:
    pen.rectangle(at((x - 8, y + 240 * scale), (x + 8, 660)), fill="#3c4043")
    pen.rounded_rectangle(at((x - 48 * scale, y), (x + 48 * scale, y + 250 * scale)), 22 * SCALE, fill="#1d2022")
    for place, colour in enumerate(("#ff3b30", "#5a4a12", "#123d1c")):
        middle = y + (45 + 80 * place) * scale
        pen.ellipse(at((x - 32 * scale, middle - 32 * scale), (x + 32 * scale, middle + 32 * scale)), fill=colour)
        pen.arc(at((x - 38 * scale, middle - 40 * scale), (x + 38 * scale, middle + 34 * scale)), 190, 350,
                fill="#4a4e52", width=9 * SCALE)  # fmt: skip


def clock(pen: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
    pen.ellipse(at((x - size - 12, y - size - 12), (x + size + 12, y + size + 12)), fill="#3b322c")
    pen.ellipse(at((x - size, y - size), (x + size, y + size)), fill="#f7f3e8")
    for hour, name in enumerate("XII I II III IV V VI VII VIII IX X XI".split()):
        turn = math.tau * hour / 12 - math.pi / 2
        letters_small(pen, name, x + size * 0.8 * math.cos(turn), y + size * 0.8 * math.sin(turn), size * 0.2)
    for turn, length, width in ((math.tau * 10.15 / 12, 0.5, 8), (math.tau * 9 / 60, 0.72, 5)):
        tip = (x + size * length * math.sin(turn), y - size * length * math.cos(turn))
        pen.line(at((x, y), tip), fill="#211c18", width=width * SCALE)


def letters_small(pen: ImageDraw.ImageDraw, text: str, x: float, y: float, size: float) -> None:
    pen.text((x * SCALE, y * SCALE), text, fill="#211c18", font=ImageFont.load_default(size * SCALE), anchor="mm")


if __name__ == "__main__":
    main()
