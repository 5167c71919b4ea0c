"""YOLOX against its ONNX demonstration: same objects in the same order, scores to 5e-4, boxes to 0.02 pixels."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from yolo_models import opened, photo

from saccade.call import Options
from saccade.card import Card
from saccade.errors import UnsupportedModel
from saccade.families.yolox import YoloX
from saccade.ops.resize import Frame
from saccade.results import Boxes

CARD = Card(name="toy", task="detect", family="yolox", runtime="none", labels={0: "a", 1: "b"}, input_hw=(64, 64))
FRAME = Frame((32, 64), (64, 64))


def test_answers_are_the_demonstrations(data: Path) -> None:
    golden = json.loads((data / "golden" / "yolox" / "yolox_nano.json").read_text())
    model = opened(data / "models", "yolox_nano")
    for image, expected in golden["images"].items():
        found = model.predict(photo(data / "images" / image), Options(conf=golden["conf"], iou=golden["iou"])).result
        assert isinstance(found, Boxes)
        assert [*found.names] == [item["name"] for item in expected["results"]], image
        if expected["results"]:
            wanted = [[*item["box"].values()] for item in expected["results"]]
            np.testing.assert_allclose(found.boxes_xyxy, wanted, rtol=0, atol=0.02, err_msg=image)
            np.testing.assert_allclose(found.scores, [i["confidence"] for i in expected["results"]], atol=5e-4)


def offsets() -> np.ndarray:
    table = np.full((1, 84, 7), 0, np.float32)
    # The second cell of the second row of the grid of stride 8.
    table[0, 9] = [0.5, 0.25, np.log(2), np.log(3), 0.8, 0.9, 0.5]
    return table


def test_offsets_become_pixels_and_an_anchor_may_have_two_classes() -> None:
    found = YoloX(CARD).read([offsets()], FRAME, Options())
    np.testing.assert_allclose(found.boxes_xyxy, [[4, -2, 20, 22]] * 2, atol=1e-5)
    np.testing.assert_allclose(found.scores, [0.72, 0.4])
    assert found.names == ("a", "b")
    assert YoloX(CARD).read([offsets()], FRAME, Options(agnostic_nms=True)).names == ("a",)
    assert YoloX(CARD).read([offsets()], FRAME, Options(classes=(1,))).names == ("b",)


def test_boxes_that_the_graph_has_decoded_are_taken_as_they_are() -> None:
    table = np.zeros((1, 84, 7), np.float32)
    table[0, :, :2] = np.linspace(0, 64, 84)[:, None]
    table[0, 9] = [12, 10, 16, 24, 0.8, 0.9, 0.5]
    found = YoloX(CARD).read([table], FRAME, Options(max_det=1))
    np.testing.assert_allclose(found.boxes_xyxy, [[4, -2, 20, 22]], atol=1e-5)


def test_classes_without_names_are_numbered() -> None:
    table = offsets()
    found = YoloX(msgspec.structs.replace(CARD, labels={})).read([table], FRAME, Options())
    assert found.names == tuple(f"class{number}" for number in found.class_ids)
    assert found.names


def test_boxes_cover_their_last_pixel_when_they_are_compared() -> None:
    """More than 0.45 of two boxes is the same only then."""
    table = np.zeros((1, 84, 7), np.float32)
    table[0, :2] = [[30, 30, 10, 10, 1, 0.9, 0], [33.85, 30, 10, 10, 1, 0.8, 0]]
    found = [len(YoloX(CARD).read([table], FRAME, options).scores) for options in (Options(), Options(iou=0.5))]
    assert found == [1, 2]


def test_scores_above_one_are_refused_and_not_answered() -> None:
    table = offsets()
    table[0, 9, 4] = 2
    with pytest.raises(UnsupportedModel, match="none can be above 1"):
        YoloX(CARD).read([table], FRAME, Options())


def test_nothing_found_is_an_empty_answer() -> None:
    assert YoloX(CARD).read([offsets()], FRAME, Options(conf=0.99)).boxes_xyxy.shape == (0, 4)


def test_another_table_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="84"):
        YoloX(CARD).read([np.zeros((1, 85, 7), np.float32)], FRAME, Options())


@pytest.mark.parametrize("hw", [(1, 1), (1, 3000), (3000, 1), (33, 47)])
def test_any_image_size_is_answered(data: Path, hw: tuple[int, int]) -> None:
    answer = opened(data / "models", "yolox_nano").predict(np.zeros((*hw, 3), np.uint8))
    assert answer.image_hw == hw
