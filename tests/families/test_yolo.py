"""YOLO by itself: layouts, options, odd images, and answers made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from yolo_models import opened, photo

from saccade.call import Options
from saccade.card import Card
from saccade.errors import BadOptions, UnsupportedModel
from saccade.families.yolo import Yolo
from saccade.model import Model
from saccade.ops.grids import levels_of
from saccade.ops.resize import framed
from saccade.results import Boxes, Keypoints, Labels, Masks, OrientedBoxes, Result
from saccade.runtimes.session import Compute

LABELS = {0: "cat", 1: "dog", 2: "cow"}
SIDE = 64
ANCHORS = 84
"""Of a 64 × 64 input: 8² + 4² + 2²."""
FRAME = framed((50, 100), (SIDE, SIDE))

DETECTIONS = [
    # centre x, y, width, height, scores of cat, dog, cow
    [20, 30, 10, 8, 0.9, 0.1, 0.2],
    [21, 30, 10, 8, 0.8, 0.1, 0.2],
    [20, 30, 10, 8, 0.1, 0.1, 0.7],
    [50, 40, 12, 12, 0.1, 0.3, 0.1],
    [5, 5, 10, 10, 0.25, 0.2, 0.2],
]
"""The second is suppressed, the last is not above 0.25."""


def card(task: str = "detect", **facts: Any) -> Card:
    given = {"labels": LABELS, "input_hw": (SIDE, SIDE), **facts}
    return Card(name="toy", task=task, family="yolo", runtime="none", **given)  # type: ignore[arg-type]


def raw(rows: list[list[float]] = DETECTIONS, extra: int = 0) -> np.ndarray:
    """The rows as columns among anchors that found nothing."""
    table = np.zeros((1, 4 + len(LABELS) + extra, ANCHORS), np.float32)
    table[0, :, 10 : 10 + len(rows)] = np.array(rows, np.float32).T
    return table


def finished(result: Boxes) -> np.ndarray:
    """The answer on the image as rows of a model without suppression, on the input, best first, filled up."""
    table = np.zeros((1, 300, 6), np.float32)
    count = len(result.scores)
    gain = np.array([FRAME.gain_x, FRAME.gain_y] * 2)
    pad = np.array([FRAME.pad_x, FRAME.pad_y] * 2)
    table[0, :count, :4] = result.boxes_xyxy * gain + pad
    table[0, :count, 4] = result.scores
    table[0, :count, 5] = result.class_ids
    return table


def boxes(result: Result) -> Boxes:
    assert isinstance(result, Boxes)
    return result


def test_raw_anchors_become_boxes_best_first() -> None:
    result = boxes(Yolo(card()).read([raw()], FRAME, Options()))
    assert result.names == ("cat", "cow", "dog")
    np.testing.assert_allclose(result.scores, [0.9, 0.7, 0.3])
    # 64 / 100 pixels of input a pixel of image, 16 rows of grey above.
    np.testing.assert_allclose(result.boxes_xyxy[0], np.array([15, 10, 25, 18]) / 0.64, rtol=1e-6)


def test_finished_rows_give_the_same_as_raw_anchors() -> None:
    family = Yolo(card())
    wanted = boxes(family.read([raw()], FRAME, Options()))
    found = boxes(family.read([finished(wanted)], FRAME, Options()))
    np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=1e-5)
    assert found.scores.tolist() == wanted.scores.tolist()
    assert found.names == wanted.names


def test_finished_rows_are_not_suppressed_again() -> None:
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, :2] = [[10, 30, 20, 40, 0.9, 1], [10, 30, 20, 40, 0.8, 1]]
    assert len(boxes(Yolo(card()).read([rows], FRAME, Options(iou=0.1))).scores) == 2


@pytest.mark.parametrize("labels", [LABELS, {0: "cat"}])
def test_classic_anchors_multiply_objectness_and_class(labels) -> None:
    table = np.zeros((1, 3 * ANCHORS, 5 + len(labels)), np.float32)
    table[0, 7, :6] = [32, 32, 10, 10, 0.8, 0.9]
    table[0, 8, :6] = [10, 32, 10, 10, 0.2, 1.0]
    table[0, 9, :6] = [50, 32, 10, 10, 0.4, 0.5]
    result = boxes(Yolo(card(labels=labels)).read([table], FRAME, Options()))
    np.testing.assert_allclose(result.scores, [0.72], rtol=1e-6)
    assert result.names == ("cat",)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_tables_with_a_row_for_each_place_are_told_from_finished_rows(classes: int) -> None:
    family = Yolo(card(labels={number: LABELS[number] for number in range(classes)}))
    table = np.zeros((1, ANCHORS, 4 + classes), np.float32)
    table[0, 7] = [20, 30, 10, 8, *[0.1] * (classes - 1), 0.9]
    expected = boxes(family.read([table.transpose(0, 2, 1)], FRAME, Options()))
    assert expected.names == (LABELS[classes - 1],)
    turned = boxes(family.read([table], FRAME, Options()))
    # As the yolov6 repository exports them: an objectness, always one, in front of the classes.
    objects = boxes(family.read([np.insert(table, 4, 1, axis=2)], FRAME, Options()))
    rows = boxes(family.read([finished(expected)[:, :ANCHORS]], FRAME, Options()))
    for found in (turned, objects, rows):
        np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, rtol=1e-5)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
        assert found.names == expected.names


@pytest.mark.parametrize(
    ("form", "file"),
    [(form, "toy_float32.tflite") for form in ("raw", "rows", "classic")] + [("raw", "m.onnx"), ("classic", "m.xml")],
)
def test_exports_whose_boxes_are_parts_of_the_input_give_the_same(form: str, file: str) -> None:
    in_pixels = boxes(Yolo(card()).read([raw()], FRAME, Options()))
    table = raw()
    if form == "rows":
        table = finished(in_pixels)
    if form == "classic":
        table = np.zeros((1, 3 * ANCHORS, 8), np.float32)
        table[0, : len(DETECTIONS), [0, 1, 2, 3, 5, 6, 7]] = np.array(DETECTIONS, np.float32).T
        table[0, : len(DETECTIONS), 4] = 1
    family = Yolo(card(files=(file,)))
    for parts in (False, True):
        given = table.copy()
        if parts:
            given[:, :4] /= SIDE if form == "raw" else 1
            given[:, :, :4] /= 1 if form == "raw" else SIDE
        found = boxes(family.read([given], FRAME, Options()))
        np.testing.assert_allclose(found.boxes_xyxy, in_pixels.boxes_xyxy, rtol=1e-5)
        assert found.names == in_pixels.names


def test_keypoints_of_tflite_exports_are_parts_too() -> None:
    facts = {"labels": {0: "person"}, "keypoint_shape": (2, 3), "input_hw": (SIDE, 2 * SIDE)}
    frame = framed((50, 100), (SIDE, 2 * SIDE))
    table = np.zeros((1, 4 + 1 + 6, 2 * ANCHORS), np.float32)
    table[0, :, 3] = [32, 32, 20, 20, 0.9, 32, 32, 0.8, 60, 20, 0.1]
    wanted = Yolo(card("pose", **facts)).read([table], frame, Options())
    table[0, [0, 2, 5, 8]] /= 2 * SIDE
    table[0, [1, 3, 6, 9]] /= SIDE
    found = Yolo(card("pose", files=("toy.tflite",), **facts)).read([table], frame, Options())
    assert isinstance(wanted, Keypoints)
    assert isinstance(found, Keypoints)
    np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, rtol=1e-5)
    np.testing.assert_allclose(found.keypoints_xy, wanted.keypoints_xy, rtol=1e-5)
    np.testing.assert_allclose(found.visibility, wanted.visibility)


def test_a_table_that_fits_no_layout_is_refused_with_its_size() -> None:
    with pytest.raises(UnsupportedModel, match=r"11 × 84 .* 3 classes"):
        Yolo(card()).read([np.zeros((1, 11, ANCHORS), np.float32)], FRAME, Options())


def test_keypoints_that_do_not_fit_are_told() -> None:
    with pytest.raises(UnsupportedModel, match=r"1 classes and 17 keypoints of 3 numbers.* keypoint_shape\."):
        Yolo(card("pose", labels={0: "hand"})).read([np.zeros((1, 68, ANCHORS), np.float32)], FRAME, Options())


def test_classes_without_names_are_numbered() -> None:
    result = boxes(Yolo(card(labels={})).read([raw()], FRAME, Options()))
    assert result.names == ("class0", "class2", "class1")


def test_options_choose_among_detections() -> None:
    family = Yolo(card())

    def names(**options: Any) -> tuple[str, ...]:
        return boxes(family.read([raw()], FRAME, Options(**options))).names

    assert names(conf=0.5) == ("cat", "cow")
    assert names(conf=0.2) == ("cat", "cow", "dog", "cat")
    assert names(iou=0.95) == ("cat", "cat", "cow", "dog")
    assert names(agnostic_nms=True) == ("cat", "dog")
    assert names(classes=(1, 2)) == ("cow", "dog")
    assert names(classes=()) == ()
    assert names(max_det=1) == ("cat",)
    assert names(max_det=0) == ()


def test_a_graph_of_fixed_size_ignores_the_size_asked_for() -> None:
    image = np.zeros((50, 100, 3), np.uint8)
    assert Yolo(card()).prepare(image, Options(imgsz=320)).frame.input_hw == (SIDE, SIDE)


@pytest.mark.parametrize(("asked", "ran"), [(33, 64), (100, 128), (641, 672), (1000, 1024), (640, 640)])
def test_a_dynamic_graph_runs_at_the_next_multiple_of_its_stride(asked, ran) -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    prepared = Yolo(card(dynamic=True)).prepare(image, Options(imgsz=asked))
    assert prepared.frame.input_hw == (ran, ran)
    assert prepared.tensors[""].shape == (1, ran, ran, 3)


def test_a_dynamic_graph_gets_the_smallest_rectangle() -> None:
    image = np.zeros((427, 640, 3), np.uint8)
    assert Yolo(card(dynamic=True, input_hw=(640, 640))).prepare(image, Options()).frame.input_hw == (448, 640)


@pytest.mark.parametrize("hw", [(300, 200), (200, 301), (224, 224), (40, 37), (1, 50), (1, 3000), (3000, 1)])
def test_classifiers_see_the_middle_of_the_image(hw) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    pixels = Yolo(card("classify", input_hw=(224, 224))).prepare(image, Options()).tensors[""]
    assert pixels.shape == (1, 224, 224, 3)
    shorter = min(hw)
    new_h, new_w = (int(224 * side / shorter) for side in hw)
    large = Image.fromarray(image).resize((new_w, new_h), Image.Resampling.BILINEAR)
    left, top = round((new_w - 224) / 2), round((new_h - 224) / 2)
    expected = np.asarray(large.crop((left, top, left + 224, top + 224)))
    # Of very long images only the middle is computed, which rounds differently here and there.
    assert np.abs(pixels[0].astype(int) - expected).max() <= (1 if new_h * new_w > 16_000_000 else 0)


def test_classifiers_of_other_shapes_see_the_whole_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    pixels = Yolo(card("classify", input_hw=(128, 64))).prepare(image, Options()).tensors[""]
    assert (pixels[0] == np.asarray(Image.fromarray(image).resize((64, 128), Image.Resampling.BILINEAR))).all()


def test_labels_are_the_best_first() -> None:
    scores = np.array([[0.1, 0.05, 0.4, 0.2, 0.15, 0.07, 0.03]], np.float32)
    family = Yolo(card("classify", labels={}))
    found = family.read([scores], FRAME, Options())
    assert isinstance(found, Labels)
    assert found.class_ids.tolist() == [2, 3, 4, 0, 5]
    two = Yolo(card("classify", labels={0: "yes", 1: "no"})).read([np.array([[0.3, 0.7]])], FRAME, Options())
    assert two.names == ("no", "yes")
    assert family.read([scores], FRAME, Options(top_k=1, conf=0.9)).class_ids.tolist() == [2]


def test_classifiers_that_end_in_a_softmax_are_given_no_other_function() -> None:
    family = Yolo(card("classify", labels={0: "yes", 1: "no"}))
    scores = [np.array([[0.25, 0.75]], np.float32)]
    for chosen in ("softmax", "none"):
        assert family.read(scores, FRAME, Options(activation=chosen)).scores.tolist() == [0.75, 0.25]
    with pytest.raises(BadOptions, match="sigmoid cannot be applied"):
        family.read(scores, FRAME, Options(activation="sigmoid"))


def test_classifiers_that_end_in_logits_are_given_a_softmax() -> None:
    family = Yolo(card("classify", labels={0: "yes", 1: "no"}))
    for logits in ([1.0, 3.0], [-3.0, -1.0], [0.0, 2.0]):
        found = family.read([np.array([logits], np.float32)], FRAME, Options())
        np.testing.assert_allclose(found.scores, [0.880797, 0.119203], rtol=1e-5)
        assert found.names == ("no", "yes")


@pytest.mark.parametrize("number", [1.2, 210])
def test_scores_above_one_are_refused_and_not_answered(number: float) -> None:
    table = raw()
    table[0, 5, 30] = number  # an angle or a keypoint where a class was looked for
    with pytest.raises(UnsupportedModel, match=rf"a score of {number}.*keypoint_shape into a 'toy\.toml' beside it"):
        Yolo(card()).read([table], FRAME, Options())
    table[0, 5, 30] = 1.004  # rounded
    assert boxes(Yolo(card()).read([table], FRAME, Options())).names[0] == "dog"


def test_classifiers_of_the_yolov5_repository_answer_with_logits() -> None:
    classic = card("classify", config={"metadata": {"names": "{0: 'a', 1: 'b'}", "stride": "32"}})
    family = Yolo(classic)
    found = family.read([np.array([[1.0, 3.0, 0.0]], np.float32)], FRAME, Options())
    np.testing.assert_allclose(found.scores.sum(), 1, rtol=1e-6)
    raw = family.read([np.array([[1.0, 3.0, 0.0]], np.float32)], FRAME, Options(activation="none"))
    assert raw.scores.tolist() == [3.0, 1.0, 0.0]
    several = family.read([np.array([[1.0, 3.0, 0.0]], np.float32)], FRAME, Options(activation="sigmoid"))
    np.testing.assert_allclose(several.scores, 1 / (1 + np.exp([-3.0, -1.0, 0.0])), rtol=1e-6)
    assert family.pixels()[""].mean == (0.485, 0.456, 0.406)
    assert family.prepare(np.zeros((50, 90, 3), np.uint8), Options()).tensors[""].shape == (1, SIDE, SIDE, 3)


def test_keypoints_come_back_onto_the_image() -> None:
    pose = card("pose", labels={0: "person"}, keypoint_shape=(2, 3))
    table = np.zeros((1, 4 + 1 + 6, ANCHORS), np.float32)
    table[0, :, 3] = [32, 32, 20, 20, 0.9, 32, 32, 0.8, 90, 2, 0.1]
    found = Yolo(pose).read([table], FRAME, Options())
    assert isinstance(found, Keypoints)
    np.testing.assert_allclose(found.keypoints_xy[0], [[50, 25], [100, 0]], rtol=1e-6)
    np.testing.assert_allclose(found.visibility, [[0.8, 0.1]])


def test_keypoints_of_two_numbers_have_no_visibility() -> None:
    pose = card("pose", labels={0: "person"}, keypoint_shape=(3, 2))
    rows = np.zeros((1, 300, 6 + 6), np.float32)
    rows[0, 0] = [10, 20, 30, 40, 0.9, 0, 1, 20, 2, 30, 3, 40]
    found = Yolo(pose).read([rows], FRAME, Options())
    assert found.visibility is None
    assert found.keypoints_xy.shape == (1, 3, 2)


def test_oriented_boxes_of_both_layouts_agree() -> None:
    family = Yolo(card("obb"))
    table = np.zeros((1, 4 + 3 + 1, ANCHORS), np.float32)
    table[0, :, 3] = [32, 32, 20, 10, 0.1, 0.9, 0.1, 0.5]
    rows = np.zeros((1, 300, 7), np.float32)
    rows[0, 0] = [32, 32, 20, 10, 0.9, 1, 0.5]
    one, other = family.read([table], FRAME, Options()), family.read([rows], FRAME, Options())
    assert isinstance(one, OrientedBoxes)
    assert isinstance(other, OrientedBoxes)
    np.testing.assert_allclose(one.boxes_xywhr, [[50, 25, 31.25, 15.625, 0.5]], rtol=1e-5)
    np.testing.assert_allclose(one.corners_xy, other.corners_xy)
    assert one.names == other.names == ("dog",)


def prototypes() -> np.ndarray:
    """The first is high in the left half, the second nowhere."""
    maps = np.full((1, 32, SIDE // 4, SIDE // 4), -1, np.float32)
    maps[0, 0, :, :8] = 1
    return maps


@pytest.mark.parametrize("retina", [False, True])
def test_instances_without_a_pixel_are_left_out(retina) -> None:
    def coefficients(which: int) -> list[float]:
        return [float(place == which) for place in range(32)]

    rows = [
        [20, 30, 20, 10, 0.9, 0, 0, *coefficients(0)],
        [50, 30, 20, 10, 0.8, 0, 0, *coefficients(1)],
        [30, 40, 20, 10, 0, 0.7, 0, *coefficients(0)],
    ]
    found = Yolo(card("segment")).read([raw(rows, 32), prototypes()], FRAME, Options(retina_masks=retina))
    assert isinstance(found, Masks)
    assert found.names == ("cat", "dog")
    assert len(found.boxes_xyxy) == len(found.crops) == len(found.areas) == 2
    assert [int(crop.pixels.sum()) for crop in found.crops] == found.areas.tolist()
    if retina:
        assert (found.grid.height, found.grid.width) == (50, 100)
        assert found.areas[0] == np.prod(np.diff(np.ceil(found.boxes_xyxy[0]).reshape(2, 2), axis=0))
    else:
        assert (found.grid.height, found.grid.width) == (SIDE, SIDE)
        assert found.areas[0] == 20 * 10


def test_masks_that_would_fill_the_memory_are_refused() -> None:
    huge = framed((7000, 9000), (SIDE, SIDE))
    rows = [[32, 32, 64, 64, 0.9, 0, 0, *[1.0] * 32]] * 70
    with pytest.raises(BadOptions, match=r"70 masks .* retina_masks"):
        Yolo(card("segment")).read([raw(rows[:70], 32), prototypes()], huge, Options(iou=1, retina_masks=True))
    few = Yolo(card("segment")).read([raw(rows[:1], 32), prototypes()], huge, Options(retina_masks=True))
    assert isinstance(few, Masks)


def test_segments_are_instances_and_no_other_subtask() -> None:
    outputs = [raw([[20, 30, 20, 10, 0.9, 0, 0, *[1.0] * 32]], 32), prototypes()]
    found = Yolo(card("segment")).read(outputs, FRAME, Options(subtask="instance"))
    assert isinstance(found, Masks)
    assert found.kind == "instance"
    for subtask in ("panoptic", "semantic"):
        with pytest.raises(BadOptions, match=f"Subtask {subtask} is not supported for model 'toy'"):
            Yolo(card("segment")).read(outputs, FRAME, Options(subtask=subtask))


def test_segments_without_prototypes_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="prototypes"):
        Yolo(card("segment")).read([raw([[1] * 39], 32)], FRAME, Options())


MODELS = ["yolo11n", "yolov8n-seg-dynamic", "yolo26n", "yolo11n-pose", "yolov8n-obb_pothole", "yolo11n-cls"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("hw", [(1, 1), (1, 3000), (3000, 1), (33, 47)])
def test_any_image_size_is_answered(data: Path, name: str, hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    answer = opened(data / "models", name).predict(image, Options(conf=0.001))
    assert answer.image_hw == hw
    if isinstance(answer.result, Boxes | Masks | Keypoints):
        found = answer.result.boxes_xyxy
        assert ((found >= 0) & (found <= [hw[1], hw[0]] * 2)).all()


@pytest.mark.parametrize("name", [name for name in MODELS if "cls" not in name])
@pytest.mark.parametrize("form", ["polygon", "png", "rle"])
def test_an_empty_answer_has_its_shapes(data: Path, name: str, form: Any) -> None:
    image = np.full((120, 160, 3), 114, np.uint8)
    result = opened(data / "models", name).predict(image, Options(conf=1.0, mask_form=form)).result
    assert result.scores.shape == result.class_ids.shape == (0,)  # type: ignore[union-attr]
    match result:
        case OrientedBoxes():
            assert result.corners_xy.shape == (0, 4, 2)
        case Keypoints():
            assert result.keypoints_xy.shape == (0, 17, 2)
        case Boxes() | Masks():
            assert result.boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize("name", ["yolo11n", "yolov8n-seg-dynamic"])
def test_a_batch_answers_as_singles_do(data: Path, name: str) -> None:
    model = opened(data / "models", name)
    assert model.session.batchable
    images = [photo(path) for path in sorted((data / "images" / "coco").glob("*.jpg"))]
    images = [image for image in images if image.shape == (480, 640, 3)][:3]
    assert len(images) == 3
    prepared = [model.prepare(image) for image in images]
    outputs = model.run({"": np.concatenate([one.tensors[""] for one in prepared])})
    for place, (image, one) in enumerate(zip(images, prepared, strict=True)):
        together = model.read([output[place : place + 1] for output in outputs], one.frame)
        alone = model.predict(image).result
        assert isinstance(together, Boxes | Masks)
        assert isinstance(alone, Boxes | Masks)
        assert together.names == alone.names
        np.testing.assert_allclose(together.scores, alone.scores, atol=1e-4)
        np.testing.assert_allclose(together.boxes_xyxy, alone.boxes_xyxy, atol=0.01)


HEADED = ["yolov8n", "yolo11n", "yolov8n-seg-dynamic", "yolo11n-seg", "yolo11n-pose", "yolov8n-obb_pothole", "yolo26n"]


@pytest.mark.parametrize("name", HEADED)
def test_a_head_is_read_before_the_graph_finishes_it_and_says_the_same(
    data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = opened(data / "models", name)
    with monkeypatch.context() as patch:
        patch.setattr(Yolo, "grids", lambda _: None)
        whole = Model(early.card, Compute(precision="f32", threads=2, lone=False, shapes=0))
    grids = Yolo(early.card).grids()
    assert grids is not None
    found = 0
    for path in sorted((data / "images" / "coco").glob("*.jpg"))[:4]:
        prepared = early.prepare(photo(path))
        outputs = early.run(prepared.tensors)
        assert len(levels_of(outputs, grids)) == 3
        options = Options(conf=0.1)
        got, expected = (
            early.read(outputs, prepared.frame, options),
            whole.read(whole.run(prepared.tensors), prepared.frame, options),
        )
        found += len(expected.scores)  # type: ignore[union-attr]
        for field in ("class_ids", "scores", "boxes_xyxy", "boxes_xywhr", "keypoints_xy", "visibility", "areas"):
            if hasattr(expected, field):
                tolerance = 2 if field == "areas" else 2e-3
                np.testing.assert_allclose(getattr(got, field), getattr(expected, field), rtol=1e-4, atol=tolerance)
    whole.close()
    assert found > 0


@pytest.mark.parametrize("name", ["yolov8n", "yolo11n-seg", "yolo11n-pose"])
def test_automatic_precision_finds_the_same_objects(data: Path, name: str) -> None:
    """Scores move by up to 0.05 in bfloat16, so that only objects well above the threshold are sure to be found."""
    exact, fast = opened(data / "models", name), opened(data / "models", name, "auto")
    wanted = found = 0
    for path in sorted((data / "images" / "coco").glob("*.jpg"))[:8]:
        sure, all_of = exact.predict(photo(path), Options(conf=0.4)).result, fast.predict(photo(path)).result
        assert isinstance(sure, Boxes | Masks | Keypoints)
        assert isinstance(all_of, Boxes | Masks | Keypoints)
        for box, class_id, score in zip(sure.boxes_xyxy, sure.class_ids, sure.scores, strict=True):
            near = np.abs(all_of.boxes_xyxy - box).max(axis=1, initial=0) < 0.1 * (box[2:] - box[:2]).max() + 3
            near &= (all_of.class_ids == class_id) & (np.abs(all_of.scores - score) < 0.1)
            found += bool(near.any())
            wanted += 1
    assert wanted > 10
    assert found >= 0.95 * wanted
