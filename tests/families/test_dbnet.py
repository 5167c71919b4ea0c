"""Text detection with the checkpoints of PP-OCR for transformers, as their processor does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from saccade.call import Options
from saccade.card import Card
from saccade.families.dbnet import DbNet
from saccade.results import FloatArray

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "segmenters.json").read_text())


def family(**facts: Any) -> DbNet:
    preprocessor = {"image_processor_type": "PPOCRV5ServerDetImageProcessor", **facts}
    return DbNet(Card(name="made", task="obb", family="dbnet", runtime="x", config={"preprocessor": preprocessor}))


def ink() -> FloatArray:
    """Bars of text, the later the surer."""
    found = np.full((320, 416), 0.05, np.float32)
    for number, bar in enumerate(GOLDEN["bars"]):
        cv2.fillPoly(found, [cv2.boxPoints(bar).round().astype(np.int32)], 0.55 + 0.06 * number)
    return found


@pytest.mark.parametrize("row", GOLDEN["texts"], ids=lambda row: f"{row['conf']}")
def test_texts_are_those_of_transformers(row: dict[str, Any]) -> None:
    prepared = family(limit_side_len=416).prepare(np.zeros((630, 840, 3), np.uint8), Options())
    assert prepared.frame.input_hw == (320, 416)
    found = family().read([ink()[None, None]], prepared.frame, Options(conf=row["conf"]))
    assert found.scores.tolist() == pytest.approx([score for score, _ in row["texts"]], abs=2e-4)
    for mine, (_, theirs) in zip(found.corners_xy, row["texts"], strict=True):
        inside = mine.clip(0, (840, 630))  # theirs end at the picture's edge
        distances = np.abs(inside[:, None] - np.array(theirs)[None]).max(axis=2).min(axis=1)
        assert distances.max() <= 4  # theirs are stretched unevenly, so that they are no rectangles any more


@pytest.mark.parametrize(
    ("hw", "limits", "expected"),
    [
        ((1000, 1500), ("max", 960), (640, 960)),
        ((1000, 1500), ("min", 736), (992, 1504)),
        ((480, 640), ("max", 960), (480, 640)),
        ((480, 640), ("min", 736), (736, 992)),
        ((480, 640), ("resize_long", 960), (704, 960)),
        ((3000, 4000), ("min", 736), (3008, 4000)),
        ((1, 3000), ("max", 960), (32, 960)),
        ((1, 3000), ("min", 736), (32, 4000)),
    ],
)
def test_pictures_get_the_size_that_transformers_gives_them(
    hw: tuple[int, int], limits: tuple[str, int], expected: tuple[int, int]
) -> None:
    made = family(limit_type=limits[0], limit_side_len=limits[1], max_side_limit=4000)
    assert made.prepare(np.zeros((*hw, 3), np.uint8), Options()).frame.input_hw == expected


def test_pictures_shrink_smoothly_as_torch_shrinks_them() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    seen = family(limit_side_len=416).prepare(picture, Options()).tensors[""][0]
    assert seen.shape == (320, 416, 3)
    assert seen.std() < 0.6 * picture.std(), "noise is averaged, not picked out"


def test_no_more_texts_come_than_asked_for_and_these_are_the_surest() -> None:
    made = family(limit_side_len=416)
    frame = made.prepare(np.zeros((630, 840, 3), np.uint8), Options()).frame
    every, two = (made.read([ink()[None, None]], frame, Options(max_det=most)) for most in (None, 2))
    assert len(every.scores) > 2
    assert every.scores.min() > 0.6, "as sure as transformers wants texts to be"
    assert two.scores.tolist() == every.scores[:2].tolist()


def test_channels_are_normalised_before_they_are_turned_round() -> None:
    pixels = family().pixels()[""]
    assert (pixels.order, pixels.mean, pixels.std) == ("BGR", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
