"""Segments of OneFormer, as its processor of transformers makes them, and how it is told what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.families.made import FRAME, card, summary, wave

from saccade.call import Options
from saccade.errors import BadOptions
from saccade.families.oneformer import SUBTASKS, OneFormer
from saccade.ops import antialias

ROWS = json.loads((Path(__file__).parent.parent / "golden" / "segmenters.json").read_text())["rows"]


def family() -> OneFormer:
    return OneFormer(card("segment", "oneformer", "OneFormer", 5, architectures=["MadeUp"], model_type="made-up"))


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row["family"] == "oneformer"],
    ids=lambda row: f"{row['subtask']} {row['seed']} {row['shape']} {row['grid']} {row.get('conf')}",
)
def test_segments_are_those_of_transformers(row: dict[str, Any]) -> None:
    queries, classes = row["shape"]
    outputs = [
        wave((1, queries, classes + 1), 0.7 + row["seed"], 4.0),
        wave((1, queries, *row["grid"]), 0.37 + row["seed"], 6.0),
    ]
    options = Options(
        subtask=row["subtask"],
        conf=row.get("conf"),
        mask_threshold=row.get("mask"),
        overlap_threshold=row.get("overlap"),
    )
    found = family().read(outputs, FRAME, options)
    assert found.kind == row["subtask"]
    assert summary(found) == [
        [number, pytest.approx(score, abs=2e-5), *rest] for number, score, *rest in row["segments"]
    ]


@pytest.mark.parametrize("hw", [(6, 16), (22, 4), (6, 4)])
def test_planes_that_shrink_on_either_side_are_smoothed(hw: tuple[int, int]) -> None:
    plane = wave((11, 8), 0.37)
    assert np.array_equal(family().enlarged(plane, hw), antialias.plane(plane, hw))


@pytest.mark.parametrize("subtask", [None, "panoptic", "instance", "semantic"])
def test_the_graph_is_told_the_subtask(subtask: str | None) -> None:
    prepared = family().prepare(np.zeros((60, 90, 3), np.uint8), Options(subtask=subtask))
    assert prepared.tensors["subtask"].tolist() == [[SUBTASKS.index(subtask or "panoptic")]]


def test_an_unknown_subtask_is_refused_before_anything_is_run() -> None:
    with pytest.raises(BadOptions, match=r"Subtask amodal is not supported for model <class 'transformers\.models"):
        family().prepare(np.zeros((60, 90, 3), np.uint8), Options(subtask="amodal"))
