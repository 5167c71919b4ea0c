"""Panoptic, instance and semantic segments of MaskFormer, Mask2Former and DETR, as transformers makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.families.made import FRAME, GOLDEN, card, summary, wave

from saccade.call import Options
from saccade.errors import BadOptions
from saccade.families.maskformer import MaskFormer


def outputs(row: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    queries, classes = row["shape"]
    return [
        wave((1, queries, classes + 1), 0.7 + row["seed"], 4.0),
        wave((1, queries, 11, 8), 0.37 + row["seed"], 6.0),
    ]


def family(kind: str, classes: int) -> MaskFormer:
    return MaskFormer(card("segment", "maskformer", kind, classes, architectures=["MadeUp"], model_type="made-up"))


@pytest.mark.parametrize(
    "row", GOLDEN["maskformer"], ids=lambda row: f"{row['kind']} {row['subtask']} {row['shape']} {row.get('conf')}"
)
def test_segments_are_those_of_transformers(row: dict[str, Any]) -> None:
    options = Options(
        subtask=row["subtask"],
        conf=row.get("conf"),
        mask_threshold=row.get("mask"),
        overlap_threshold=row.get("overlap"),
    )
    found = family(row["kind"], row["shape"][1]).read(outputs(row), FRAME, options)
    expected = [
        [number, pytest.approx(score, abs=2e-5), area, places] for number, score, area, places in row["segments"]
    ]
    assert summary(found) == expected
    assert found.kind == row["subtask"]


def test_the_defaults_are_those_of_the_pipeline() -> None:
    row = next(row for row in GOLDEN["maskformer"] if row["kind"] == "MaskFormer" and row["subtask"] == "panoptic")
    assert (row["conf"], row["mask"], row["overlap"]) == (0.9, 0.5, 0.5)
    found = family(row["kind"], row["shape"][1]).read(outputs(row), FRAME, Options())
    assert [entry[0] for entry in summary(found)] == [entry[0] for entry in row["segments"]]


def test_a_later_instance_paints_over_an_earlier_one() -> None:
    classes = np.full((1, 2, 3), -9.0, np.float32)
    classes[0, 0, 0] = classes[0, 1, 1] = 9.0
    masks = np.full((1, 2, 4, 4), 9.0, np.float32)
    found = family("MaskFormer", 2).read([classes, masks], FRAME, Options(subtask="instance", conf=0.5))
    assert found.areas.tolist() == [0, 45 * 33]


@pytest.mark.parametrize(("begin", "kept"), [(3, 2), (2, 1)])
def test_without_other_wishes_more_than_half_of_what_is_likely_of_a_segment_has_to_remain(
    begin: int, kept: int
) -> None:
    classes = np.full((1, 2, 3), -9.0, np.float32)
    classes[0, 0, 0] = classes[0, 1, 1] = 9.0
    masks = np.full((1, 2, *FRAME.image_hw), -9.0, np.float32)
    masks[0, 0], masks[0, 0, :5], masks[0, 1, begin:9] = -12.0, 5.0, 9.0
    masks[0, 0, 20:30], masks[0, 1, 20:30] = -0.2, 9.0
    assert len(family("MaskFormer", 2).read([classes, masks], FRAME, Options()).scores) == kept
    unsure = np.log(np.array([[[0.89, 0.11, 1e-9], [0.09, 0.91, 1e-9]]], np.float32))
    assert family("MaskFormer", 2).read([unsure, masks], FRAME, Options()).class_ids.tolist() == [1]


def test_an_instance_without_a_pixel_is_left_out_whatever_the_threshold() -> None:
    classes = np.full((1, 2, 3), -9.0, np.float32)
    classes[0, 0, 0] = classes[0, 1, 1] = 9.0
    masks = np.stack([np.full((4, 4), 9.0, np.float32), np.full((4, 4), -9.0, np.float32)])[None]
    found = family("MaskFormer", 2).read([classes, masks], FRAME, Options(subtask="instance", conf=0.0))
    assert found.class_ids.tolist() == [0]


@pytest.mark.parametrize(("overlap", "kept"), [(0.75, 2), (0.8, 2), (0.801, 1)])
def test_the_share_that_a_segment_keeps_is_compared_in_double_precision(overlap: float, kept: int) -> None:
    """4/5 in single precision, as torch divides, is more than 0.8 in double precision, in which Python compares."""
    classes = np.full((1, 2, 3), -9.0, np.float32)
    classes[0, 0, 0] = classes[0, 1, 1] = 9.0
    masks = np.full((1, 2, *FRAME.image_hw), -9.0, np.float32)
    masks[0, 0], masks[0, 0, :5], masks[0, 1, 4:9] = -12.0, 5.0, 9.0
    found = family("MaskFormer", 2).read([classes, masks], FRAME, Options(overlap_threshold=overlap))
    assert len(found.scores) == kept


def test_a_picture_without_segments_has_an_empty_answer() -> None:
    nothing = [np.zeros((1, 3, 4), np.float32), np.zeros((1, 3, 4, 4), np.float32)]
    found = family("Mask2Former", 3).read(nothing, FRAME, Options())
    assert found.crops == ()
    assert found.boxes_xyxy.shape == (0, 4)


def test_an_unknown_subtask_is_refused_in_the_words_of_transformers() -> None:
    with pytest.raises(
        BadOptions, match=r"Subtask amodal is not supported for model <class 'transformers\.models\.made_up"
    ):
        family("MaskFormer", 5).read(outputs(GOLDEN["maskformer"][0]), FRAME, Options(subtask="amodal"))
