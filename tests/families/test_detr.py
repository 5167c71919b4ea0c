"""Detections of DETR, YOLOS, Conditional DETR, Deformable DETR and RT-DETR, as transformers makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.families.made import FRAME, GOLDEN, card, wave

from saccade.call import Options
from saccade.errors import TooLarge
from saccade.families.detr import Detr
from saccade.families.rtdetr import RtDetr

FAMILIES = {"Detr": Detr, "Yolos": Detr, "ConditionalDetr": RtDetr, "DeformableDetr": RtDetr, "RTDetr": RtDetr}


def outputs(queries: int, classes: int) -> list[np.ndarray[Any, Any]]:
    return [wave((1, queries, classes), 0.9, 3.0), np.abs(wave((1, queries, 4), 0.3, 0.4))]


@pytest.mark.parametrize("row", GOLDEN["detect"], ids=lambda row: f"{row['kind']} {row['shape']} {row['conf']}")
def test_detections_are_those_of_transformers_in_its_order(row: dict[str, Any]) -> None:
    queries, classes = row["shape"]
    family = FAMILIES[row["kind"]](card("detect", "detr", row["kind"], classes))
    found = family.read(outputs(queries, classes), FRAME, Options(conf=row["conf"]))
    assert found.class_ids.tolist() == [entry[0] for entry in row["found"]]
    assert found.scores.tolist() == pytest.approx([entry[1] for entry in row["found"]], abs=2e-6)
    boxes = np.array([entry[2] for entry in row["found"]]).reshape(-1, 4)
    assert np.allclose(found.boxes_xyxy, boxes, atol=2e-3)


@pytest.mark.parametrize("family", [Detr, RtDetr])
@pytest.mark.parametrize("classes", [3, 9])
def test_graphs_may_give_their_boxes_first(family: type[Detr | RtDetr], classes: int) -> None:
    made = family(card("detect", "detr", "RTDetr", classes))
    logits, boxes = outputs(30, classes)
    expected = made.read([logits, boxes], FRAME, Options(conf=0.1))
    assert len(expected.scores)
    found = made.read([boxes, logits], FRAME, Options(conf=0.1))
    assert np.array_equal(found.boxes_xyxy, expected.boxes_xyxy)
    assert found.names == expected.names
    with pytest.raises(ValueError, match="no boxes"):
        made.read([logits, logits], FRAME, Options())


def test_as_many_classes_as_a_box_has_numbers_are_no_boxes() -> None:
    """Three classes, and none of them."""
    logits, boxes = np.zeros((1, 1, 4), np.float32), np.array([[[0.5, 0.5, 0.2, 0.2]]], np.float32)
    logits[0, 0, 2] = 9.0
    found = Detr(card("detect", "detr", "Detr", 3)).read([logits, boxes], FRAME, Options())
    assert found.class_ids.tolist() == [2]
    height, width = FRAME.image_hw
    assert found.boxes_xyxy[0] == pytest.approx([0.4 * width, 0.4 * height, 0.6 * width, 0.6 * height])


def test_the_threshold_is_strict_and_a_half_by_default() -> None:
    logits = np.log(np.array([[[0.5, 0.5], [0.5001, 0.4999]]], np.float32))
    found = Detr(card("detect", "detr", "Detr", 1)).read([logits, np.zeros((1, 2, 4), np.float32)], FRAME, Options())
    assert len(found.scores) == 1
    several = RtDetr(card("detect", "rtdetr", "RTDetr", 2))
    logits = np.array([[[0.0, -9.0], [-9.0, 1e-3]]], np.float32)
    assert several.read([logits, np.zeros((1, 2, 4), np.float32)], FRAME, Options()).class_ids.tolist() == [1]


def test_the_strongest_are_kept_in_the_order_of_the_queries() -> None:
    family = Detr(card("detect", "detr", "Detr", 8))
    everything = family.read(outputs(30, 9), FRAME, Options(conf=0.0))
    some = family.read(outputs(30, 9), FRAME, Options(conf=0.0, max_det=5))
    best = np.sort(np.argsort(-everything.scores)[:5])
    assert some.scores.tolist() == everything.scores[best].tolist()


def test_only_wanted_classes_are_answered() -> None:
    family = RtDetr(card("detect", "rtdetr", "RTDetr", 9))
    found = family.read(outputs(30, 9), FRAME, Options(conf=0.1, classes=(3,)))
    assert set(found.class_ids.tolist()) == {3}


def test_boxes_may_reach_over_the_picture() -> None:
    logits = np.array([[[9.0, 0.0]]], np.float32)
    found = Detr(card("detect", "detr", "Detr", 1)).read(
        [logits, np.array([[[0.0, 0.5, 0.5, 2.0]]], np.float32)], FRAME, Options()
    )
    assert found.boxes_xyxy[0].tolist() == pytest.approx([-8.25, -22.5, 8.25, 67.5])
    assert found.names == ("class 0",)


@pytest.mark.parametrize("patch", [16, [16, 16]])
def test_a_ribbon_of_which_no_patch_is_left_is_refused(patch: object) -> None:
    ribbon = np.zeros((3000, 1, 3), np.uint8)
    with pytest.raises(TooLarge, match=r"1x3000 is so long and narrow .* 1x1328, and its patches have 16 pixels"):
        Detr(card("detect", "detr", "Yolos", 2, patch_size=patch)).prepare(ribbon, Options())
    whole = Detr(card("detect", "detr", "Yolos", 2, patch_size=patch)).prepare(ribbon.repeat(40, axis=1), Options())
    assert whole.frame.input_hw == (1328, 16)
    assert Detr(card("detect", "detr", "Detr", 2)).prepare(ribbon, Options()).frame.input_hw == (1333, 1)
