"""Segments of EoMT, as its processor of transformers makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.families.made import FRAME, summary, wave

from saccade.call import Options
from saccade.card import Card
from saccade.errors import BadOptions
from saccade.families.eomt import Eomt

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "eomt.json").read_text())["eomt"]
SIZE = {"shortest_edge": 40, "longest_edge": 40}
PREPROCESSOR = {"image_processor_type": "EomtImageProcessor", "size": SIZE, "do_pad": True}


def family() -> Eomt:
    return Eomt(Card(name="made", task="segment", family="eomt", runtime="x", config={"preprocessor": PREPROCESSOR}))


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['subtask']} {row['shape']} {row.get('conf')}")
def test_segments_are_those_of_transformers(row: dict[str, Any]) -> None:
    queries, classes = row["shape"]
    outputs = [
        wave((1, queries, classes + 1), 0.7 + row["seed"], 4.0),
        wave((1, queries, 10, 10), 0.37 + row["seed"], 6.0),
    ]
    options = Options(
        subtask=row["subtask"],
        conf=row.get("conf"),
        mask_threshold=row.get("mask"),
        overlap_threshold=row.get("overlap"),
    )
    found = summary(family().read(outputs, FRAME, options))
    assert found == [[number, pytest.approx(score, abs=2e-5), *rest] for number, score, *rest in row["segments"]]


def test_a_segment_that_is_sure_of_none_of_its_pixels_is_left_out() -> None:
    classes = np.full((1, 2, 3), -9.0, np.float32)
    classes[0, 0, 0], classes[0, 1, 1] = 9.0, 4.0
    masks = np.full((1, 2, 10, 10), -0.2, np.float32)
    masks[0, 0, :5], masks[0, 1, 6:], masks[0, 1, :5] = 9.0, -0.1, 1.0
    found = family().read([classes, masks], FRAME, Options(conf=0.5, overlap_threshold=0.1))
    assert [crop.pixels.any() for crop in found.crops] == [True]


def test_an_unknown_subtask_is_refused() -> None:
    with pytest.raises(BadOptions, match="Subtask amodal is not supported"):
        family().read([wave((1, 2, 3), 1.0), wave((1, 2, 4, 4), 1.0)], FRAME, Options(subtask="amodal"))
