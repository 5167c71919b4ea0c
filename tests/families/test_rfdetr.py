"""Pictures and instances of RF-DETR, as its processor of transformers makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.families.made import FRAME, summary, wave
from tests.test_imageprocessor import picture

from saccade.call import Options
from saccade.card import Card, Task
from saccade.errors import BadOptions
from saccade.families.rfdetr import RfDetr
from saccade.results import Boxes, Masks

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "segmenters.json").read_text())


def family(task: Task = "segment", **facts: Any) -> RfDetr:
    preprocessor = {"image_processor_type": "RfDetrImageProcessor", **facts}
    config = {"preprocessor": preprocessor, "config": {"architectures": ["MadeUp"], "model_type": "made-up"}}
    return RfDetr(Card(name="made", task=task, family="rfdetr", runtime="x", config=config))


def instances(outputs: list[np.ndarray[Any, Any]], options: Options) -> Masks:
    found = family().read(outputs, FRAME, options)
    assert isinstance(found, Masks)
    return found


@pytest.mark.parametrize("row", GOLDEN["pictures"], ids=lambda row: f"{row['config']} {row['image']}")
def test_a_picture_comes_out_as_transformers_makes_it(row: dict[str, Any]) -> None:
    prepared = family(**row["config"]).prepare(picture(*row["image"]), Options())
    values = prepared.tensors[""][0].astype(np.float64)
    assert list(values.shape) == row["shape"]
    _, high, wide = values.shape
    found = [values[0, 0, 0], values[1, high // 2, wide // 3], values[2, -1, -1], values[0, high // 5, wide // 2]]
    assert found == pytest.approx(row["values"], abs=2e-5)
    assert values.mean() == pytest.approx(row["mean"], abs=2e-5)
    assert values.std() == pytest.approx(row["spread"], abs=2e-5)


@pytest.mark.parametrize(
    "row",
    [row for row in GOLDEN["rows"] if row["family"] == "rfdetr"],
    ids=lambda row: f"{row['seed']} {row['shape']} {row['grid']} {row['conf']}",
)
def test_instances_are_those_of_transformers(row: dict[str, Any]) -> None:
    outputs = [
        wave((1, *row["shape"]), 0.7 + row["seed"], 4.0),
        wave((1, row["shape"][0], *row["grid"]), 0.37 + row["seed"], 6.0),
    ]
    found = instances(outputs, Options(conf=row["conf"], mask_threshold=row["mask"]))
    assert found.kind == "instance"
    assert summary(found) == [
        [number, pytest.approx(score, abs=2e-5), *rest] for number, score, *rest in row["segments"]
    ]


def test_an_instance_that_gets_no_pixel_is_left_out() -> None:
    logits = np.array([[[8.0, -8.0], [6.0, -8.0]]], np.float32)
    masks = np.full((1, 2, 4, 4), 9.0, np.float32)
    assert instances([logits, masks], Options()).areas.tolist() == [45 * 33]


def test_boxes_come_best_first() -> None:
    logits = np.array([[[0.5, -8.0], [4.0, -8.0]]], np.float32)
    boxes = np.array([[[0.5, 0.5, 1.0, 1.0], [0.25, 0.25, 0.5, 0.5]]], np.float32)
    found = family("detect").read([logits, boxes], FRAME, Options())
    assert isinstance(found, Boxes)
    assert found.boxes_xyxy.tolist() == [[0, 0, 16.5, 22.5], [0, 0, 33, 45]]


@pytest.mark.parametrize("subtask", ["panoptic", "semantic"])
def test_other_subtasks_are_refused_in_the_words_of_transformers(subtask: str) -> None:
    logits, masks = np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 4, 4), np.float32)
    with pytest.raises(BadOptions, match=rf"Subtask {subtask} is not supported for model <class 'transformers\.models"):
        instances([logits, masks], Options(subtask=subtask))
