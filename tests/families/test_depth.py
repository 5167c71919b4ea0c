from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tests.families.made import card, wave

from saccade.call import Options
from saccade.families.depth import DepthEstimator
from saccade.ops.resize import Frame

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "eomt.json").read_text())["bicubic"]


def test_depth_is_brought_to_the_picture_as_torch_does() -> None:
    family = DepthEstimator(card("depth", "depth", "DPT", 0))
    found = family.read([wave((1, 6, 9), 0.31)], Frame((13, 20), (384, 384)), Options())
    assert found.depth.dtype == np.float32
    assert np.allclose(found.depth, GOLDEN, atol=2e-4)


def test_any_picture_becomes_bytes_for_the_network() -> None:
    family = DepthEstimator(card("depth", "depth", "GLPN", 0))
    for hw in ((1, 1), (480, 640), (31, 700)):
        prepared = family.prepare(np.zeros((*hw, 3), np.uint8), Options())
        assert all(side % 32 == 0 for side in prepared.frame.input_hw)


def test_depth_of_tips_is_brought_to_the_picture_bilinearly_as_its_processor_does() -> None:
    family = DepthEstimator(card("depth", "depth", "Tipsv2Dpt", 0))
    found = family.read([np.array([[[0, 4]]], np.float32)], Frame((1, 4), (1, 2)), Options())
    assert found.depth.tolist() == [[0, 1, 3, 4]]
