"""Class ids and depth of a picture as ultralytics 8.4.190 with ONNX Runtime 1.31.1 answers them from the same graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade.call import Options
from saccade.card import Card, Task
from saccade.errors import BadOptions, UnsupportedModel
from saccade.families.family import Prepared
from saccade.families.yolo_maps import YoloMaps
from saccade.results import Depth, Masks

ROWS = json.loads((Path(__file__).parent.parent / "golden" / "yolo_maps.json").read_text())["rows"]
"""Of graphs of 64×64 whose depth is the mean of red, green and blue (0 … 1), and whose class is 18.99 times that.

"logits" are red, green and blue; those of a single class are the mean less a half.
"""


def family(task: Task, **facts: Any) -> YoloMaps:
    facts = {"input_hw": (64, 64), "labels": {number: f"c{number}" for number in range(19)}, **facts}
    return YoloMaps(Card(name="yolo26n", task=task, family="yolo_maps", runtime="simulated", **facts))


def picture(height: int, width: int) -> NDArray[np.uint8]:
    y, x, channel = np.mgrid[:height, :width, :3]
    return ((x * 7 + y * 5 + channel * 40 + (x * y) // 3) % 256).astype(np.uint8)


def mean(prepared: Prepared) -> NDArray[np.float32]:
    return (prepared.tensors[""].astype(np.float32) / 255).mean(3, dtype=np.float32)


def classes(found: Masks, row: dict[str, Any]) -> NDArray[np.int32]:
    """(height, width), -1 being none."""
    ids = np.full(row["image_hw"], -1, np.int32)
    for crop, number in zip(found.crops, found.class_ids, strict=True):
        height, width = crop.pixels.shape
        ids[crop.y : crop.y + height, crop.x : crop.x + width][crop.pixels > 0] = number
    return ids


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "{}x{}".format(*row["image_hw"]))
def test_each_pixel_has_the_class_that_the_reference_gives_it(row: dict[str, Any]) -> None:
    semantic = family("segment")
    prepared = semantic.prepare(picture(*row["image_hw"]), Options())
    found = semantic.read([(mean(prepared) * np.float32(18.99)).astype(np.uint8)], prepared.frame, Options())
    assert isinstance(found, Masks)
    assert classes(found, row).tolist() == row["semantic"]
    assert (found.kind, set(found.scores.tolist())) == ("semantic", {1.0})
    assert found.names == tuple(f"c{number}" for number in found.class_ids)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "{}x{}".format(*row["image_hw"]))
@pytest.mark.parametrize("kind", ["single", "single_logits"])
def test_a_single_class_is_there_or_not(row: dict[str, Any], kind: str) -> None:
    semantic = family("segment", labels={0: "road"})
    prepared = semantic.prepare(picture(*row["image_hw"]), Options())
    logits = mean(prepared) - np.float32(0.5)
    output = logits[None] if kind == "single_logits" else (logits > 0).astype(np.uint8)
    found = semantic.read([output], prepared.frame, Options())
    assert isinstance(found, Masks)
    assert (classes(found, row) + 1).tolist() == row[kind]
    assert (found.names, found.class_ids.tolist()) == (("road",), [0])
    nothing = semantic.read([np.zeros_like(output)], prepared.frame, Options())
    assert isinstance(nothing, Masks)
    assert nothing.names == ()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "{}x{}".format(*row["image_hw"]))
@pytest.mark.parametrize("labels", [{0: "a", 1: "b", 2: "c"}, {}])
def test_logits_are_compared_on_the_image(row: dict[str, Any], labels: dict[int, str]) -> None:
    semantic = family("segment", labels=labels)
    prepared = semantic.prepare(picture(*row["image_hw"]), Options())
    logits = (prepared.tensors[""].astype(np.float32) / 255).transpose(0, 3, 1, 2)
    found = semantic.read([logits], prepared.frame, Options())
    assert isinstance(found, Masks)
    assert classes(found, row).tolist() == row["logits"]
    assert found.names == tuple(labels.get(number, f"LABEL_{number}") for number in found.class_ids.tolist())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "{}x{}".format(*row["image_hw"]))
def test_depth_is_that_of_the_reference(row: dict[str, Any]) -> None:
    depth = family("depth")
    prepared = depth.prepare(picture(*row["image_hw"]), Options())
    found = depth.read([mean(prepared)[None]], prepared.frame, Options())
    assert isinstance(found, Depth)
    assert found.depth.dtype == np.float32
    assert np.allclose(found.depth, row["depth"], atol=2e-5)


def test_a_graph_of_free_size_runs_as_large_as_is_asked_for() -> None:
    wide = np.zeros((100, 200, 3), np.uint8)
    sizes = {
        task: family(task, input_hw=None, dynamic=True).prepare(wide, Options(imgsz=320)).frame.input_hw
        for task in ("segment", "depth")
    }
    assert sizes == {"segment": (160, 320), "depth": (320, 320)}


def test_what_is_no_map_of_the_input_is_refused() -> None:
    semantic = family("segment")
    prepared = semantic.prepare(picture(11, 17), Options())
    with pytest.raises(UnsupportedModel, match="1 × 21 × 64 × 64 numbers for a picture of 64 × 64"):
        semantic.read([np.zeros((1, 21, 64, 64), np.float32)], prepared.frame, Options())
    with pytest.raises(UnsupportedModel, match="1 × 64 × 64 × 19 numbers for a picture of 64 × 64"):
        semantic.read([np.zeros((1, 64, 64, 19), np.float32)], prepared.frame, Options())
    with pytest.raises(UnsupportedModel, match="1 × 19 × 64 × 64 numbers for a picture of 64 × 64"):
        family("depth").read([np.zeros((1, 19, 64, 64), np.float32)], prepared.frame, Options())


def test_other_subtasks_than_semantic_are_refused() -> None:
    semantic = family("segment")
    prepared = semantic.prepare(picture(11, 17), Options())
    with pytest.raises(BadOptions, match="Subtask panoptic is not supported"):
        semantic.read([np.zeros((1, 64, 64), np.uint8)], prepared.frame, Options(subtask="panoptic"))
