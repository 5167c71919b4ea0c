"""Pictures are prepared as transformers prepares them: sizes exact, values to five digits.

``golden/imageprocessor.json`` holds what the processors of transformers answered for a picture made of numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade import imageprocessor
from saccade.card import Pixels
from saccade.errors import TooLarge, UnsupportedModel
from saccade.results import ByteArray

GOLDEN = json.loads((Path(__file__).parent / "golden" / "imageprocessor.json").read_text())["rows"]


def picture(height: int, width: int) -> ByteArray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([(x * 7 + y * 3) % 256, (x * x // 5 + y) % 256, (x + y * y // 3) % 256], -1).astype(np.uint8)


def normalised(processor: imageprocessor.ImageProcessor, image_rgb: ByteArray) -> np.ndarray[Any, Any]:
    """What the graph sees: (3, h, w)."""
    pixels = processor.pixels()[""]
    prepared, _ = processor(image_rgb)
    values = prepared[""][0].astype(np.float64)
    if pixels.order == "BGR":
        values = values[..., ::-1]
    return np.transpose((values * pixels.scale - pixels.mean) / pixels.std, (2, 0, 1))


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['kind']} {row['config']} {row['image']}")
def test_a_picture_comes_out_as_transformers_makes_it(row: dict[str, Any]) -> None:
    config = {**row["config"], "image_processor_type": f"{row['kind']}ImageProcessor"}
    processor = imageprocessor.of(config)
    values = normalised(processor, picture(*row["image"]))
    assert list(values.shape) == row["shape"]
    _, high, wide = values.shape
    assert processor.prepared_hw(tuple(row["image"])) == (high, wide)
    found = [values[0, 0, 0], values[1, high // 2, wide // 3], values[2, -1, -1], values[0, high // 5, wide // 2]]
    assert found == pytest.approx(row["values"], abs=2e-5)
    assert values.mean() == pytest.approx(row["mean"], abs=2e-5)
    assert values.std() == pytest.approx(row["spread"], abs=2e-5)


def test_all_known_kinds_have_golden_values() -> None:
    assert {row["kind"] for row in GOLDEN} >= set(imageprocessor.KINDS) - {"RfDetr", "PPOCRV5ServerDet", "ChineseCLIP"}


@pytest.mark.parametrize(
    ("hw", "expected"),
    [((480, 640), (800, 1066)), ((640, 480), (1066, 800)), ((1080, 1920), (750, 1333)), ((427, 640), (800, 1199))],
)
def test_the_aspect_is_kept_with_the_rounding_of_detr(hw: tuple[int, int], expected: tuple[int, int]) -> None:
    processor = imageprocessor.of({"image_processor_type": "DetrImageProcessor", "do_pad": True})
    prepared, frame = processor(np.zeros((*hw, 3), np.uint8))
    assert prepared[""].shape == (1, *expected, 3)
    assert frame.image_hw == hw
    assert frame.input_hw == expected


@pytest.mark.parametrize(
    ("facts", "hw", "expected"),
    [
        ({"input_size": [3, 224, 224], "crop_pct": 0.95}, (300, 300), (235, 235)),
        ({"input_size": [3, 64, 64], "crop_pct": 1.0, "crop_mode": "border"}, (99, 151), (42, 64)),
        ({}, (300, 300), (256, 256)),
    ],
)
def test_timm_rounds_the_size_down_and_what_keeps_the_aspect_to_the_nearest(
    facts: dict[str, Any], hw: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert imageprocessor.of({"pretrained_cfg": facts}).target(hw) == expected


@pytest.mark.parametrize(("hw", "expected"), [((217, 499), (176, 368)), ((438, 361), (272, 240))])
def test_patches_are_as_many_as_transformers_finds_room_for(hw: tuple[int, int], expected: tuple[int, int]) -> None:
    assert imageprocessor.of({"image_processor_type": "Siglip2ImageProcessor"}).target(hw) == expected


@pytest.mark.parametrize("written", ["ViTFeatureExtractor", "ViTImageProcessorFast", "ViTImageProcessorPil"])
def test_old_and_new_names_of_a_processor_mean_the_same(written: str) -> None:
    for key in ("image_processor_type", "feature_extractor_type"):
        assert imageprocessor.of({key: written}, "Detr").kind == "ViT"


def test_a_processor_that_names_no_class_takes_that_of_its_architecture() -> None:
    assert imageprocessor.of({"size": 224}, "ConvNext").facts["size"] == {"shortest_edge": 224}


def test_an_unknown_processor_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="GrenadineImageProcessor"):
        imageprocessor.of({"image_processor_type": "GrenadineImageProcessor"})


@pytest.mark.parametrize(
    ("kind", "facts", "words"),
    [
        ("Eomt", {"do_split_image": True}, "cuts a picture into several"),
        ("DPT", {"do_pad": True}, "pads with the mean colour"),
        ("Sapiens2", {"do_pad": True}, "pads its pictures"),
        ("MaskFormer", {"pad_size": {"height": 800, "width": 800}, "do_pad": False}, "pads with the mean colour"),
        ("Mask2Former", {"pad_size": {"height": 800, "width": 800}}, "pads with the mean colour"),
        ("RfDetr", {"pad_size": {"height": 800, "width": 800}}, "pads with the mean colour"),
        ("PPLCNet", {"resample": 3}, "otherwise than bilinearly"),
    ],
)
def test_what_would_make_other_pixels_here_is_refused(kind: str, facts: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        imageprocessor.of({"image_processor_type": f"{kind}ImageProcessor", **facts})


def test_perceivers_that_crop_nothing_see_all_of_the_picture() -> None:
    half = np.zeros((300, 600, 3), np.uint8)
    half[:, :150] = 255
    config = {"image_processor_type": "PerceiverImageProcessor"}
    for crops, white in ((True, 0.0), (False, 0.25)):
        seen = imageprocessor.of({**config, "do_center_crop": crops})(half)[0][""]
        assert seen.mean() / 255 == pytest.approx(white, abs=0.01)


def test_choices_that_a_processor_does_not_know_change_nothing() -> None:
    flips = imageprocessor.of({"image_processor_type": "MobileViTImageProcessor", "do_normalize": True})
    assert flips.pixels()[""] == Pixels(order="BGR", scale=1 / 255)
    levit = imageprocessor.of({"image_processor_type": "LevitImageProcessor", "size": {"height": 192, "width": 160}})
    assert levit.target((300, 500)) == (192, 160)


@pytest.mark.parametrize("choice", ["do_flip_channel_order", "rescale_offset", "include_top"])
def test_what_only_another_class_knows_changes_no_colours(choice: str) -> None:
    config = {"image_processor_type": "ViTImageProcessor"}
    assert imageprocessor.of({**config, choice: True}).pixels() == imageprocessor.of(config).pixels()


@pytest.mark.parametrize("size", [{"size": 64, "max_size": 100}, {"size": {"shortest_edge": 64, "longest_edge": 100}}])
def test_the_longest_side_counts_where_the_class_knows_it(size: dict[str, Any]) -> None:
    for kind, expected in (("TextNet", (64, 320)), ("Levit", (73, 365)), ("Detr", (20, 100)), ("RfDetr", (20, 100))):
        config = {"image_processor_type": f"{kind}ImageProcessor", **size}
        assert imageprocessor.of(config).target((100, 500)) == expected


def test_the_configuration_says_what_one_number_means() -> None:
    for written, expected in ((None, (64, 64)), (True, (64, 64)), (False, (64, 128))):
        config = {"image_processor_type": "ViTImageProcessor", "size": 64, "default_to_square": written}
        assert imageprocessor.of(config).target((100, 200)) == expected
    detr = {"image_processor_type": "DetrImageProcessor", "size": 64, "default_to_square": True}
    assert imageprocessor.of(detr).target((100, 200)) == (64, 128)
    clip = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 336}, "use_square_size": True}
    assert imageprocessor.of(clip).target((100, 200)) == (224, 224)


@pytest.mark.parametrize("written", [150, [150, 150], {"height": 150, "width": 150}])
def test_a_size_to_pad_to_is_a_number_a_pair_or_an_object(written: object) -> None:
    config = {"image_processor_type": "DetrImageProcessor", "size": {"height": 90, "width": 120}, "pad_size": written}
    assert imageprocessor.of(config).prepared_hw((30, 40)) == (150, 150)


def test_a_pair_of_sizes_is_the_height_and_the_width() -> None:
    for written in ([100, 200], {"height": 100, "width": 200}):
        processor = imageprocessor.of({"image_processor_type": "ViTImageProcessor", "size": written})
        assert processor.target((300, 500)) == (100, 200)


def test_a_size_to_pad_to_says_nothing_where_nothing_is_padded() -> None:
    for written in (False, None):
        config = {"image_processor_type": "ViTImageProcessor", "pad_size": {"height": 800, "width": 800}}
        assert imageprocessor.of({**config, "do_pad": written}).padding is None


@pytest.mark.parametrize(
    ("kind", "switch"),
    [
        ("ViT", "do_resize"),
        ("CLIP", "do_center_crop"),
        ("ConvNext", "do_rescale"),
        ("Detr", "do_normalize"),
        ("EfficientNet", "include_top"),
        ("MobileViT", "do_flip_channel_order"),
    ],
)
def test_a_switch_that_is_null_is_off(kind: str, switch: str) -> None:
    def seen(config: dict[str, Any]) -> np.ndarray[Any, Any]:
        return normalised(imageprocessor.of({"image_processor_type": f"{kind}ImageProcessor", **config}), picture(5, 7))

    assert np.array_equal(seen({switch: None}), seen({switch: False}))
    assert not np.array_equal(seen({switch: None}), seen({}))


@pytest.mark.parametrize("kind", ["PPLCNet", "PPOCRV5ServerDet"])
@pytest.mark.parametrize("written", [False, None])
def test_processors_that_always_turn_the_channels_round_ignore_the_switch(kind: str, written: bool | None) -> None:
    config = {"image_processor_type": f"{kind}ImageProcessor"}
    assert (
        imageprocessor.of({**config, "do_flip_channel_order": written}).pixels() == imageprocessor.of(config).pixels()
    )


def test_a_clear_colour_is_laid_on_white_where_pictures_are_converted_to_rgb() -> None:
    for kind, facts, expected in (
        ("CLIP", {}, True),
        ("CLIP", {"do_convert_rgb": None}, False),
        ("ViT", {}, False),
        ("ViT", {"do_convert_rgb": True}, True),
    ):
        assert imageprocessor.of({"image_processor_type": f"{kind}ImageProcessor", **facts}).do_convert_rgb is expected


def test_detrs_that_take_one_size_are_told_what_of_it_is_the_picture() -> None:
    config = {
        "image_processor_type": "ConditionalDetrImageProcessor",
        "size": {"max_height": 48, "max_width": 48},
        "pad_size": {"height": 48, "width": 64},
    }
    tensors, frame = imageprocessor.of(config)(np.full((20, 40, 3), 200, np.uint8))
    pixels, mask = tensors[""][0], tensors["pixel_mask"][0]
    assert (pixels.shape, mask.shape, frame.input_hw) == ((48, 64, 3), (48, 64), (48, 64))
    assert mask[:24, :48].all()
    assert mask.sum() == 24 * 48
    assert (pixels[mask == 1] == 200).all()
    assert {tuple(pixel) for pixel in pixels[mask == 0].tolist()} == {(124, 116, 104)}, "the mean colour"
    assert [*imageprocessor.of({**config, "do_pad": False})(np.zeros((20, 40, 3), np.uint8))[0]] == [""]
    for side in (40, 50):  # as 80 by 40, and 100 by 50
        with pytest.raises(TooLarge, match="pads pictures to 64x48"):
            imageprocessor.of({**config, "size": {"shortest_edge": side}})(np.zeros((20, 40, 3), np.uint8))


def test_a_model_of_grey_pictures_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="1 channels; only colour"):
        imageprocessor.of({"pretrained_cfg": {"input_size": [1, 28, 28]}})
    with pytest.raises(UnsupportedModel, match="4 channels; only colour"):
        imageprocessor.of({"image_mean": [0.5, 0.5, 0.5, 0.5]})


def test_one_pixel_and_extreme_ribbons_come_through() -> None:
    for kind in ("ViT", "ConvNext", "Detr", "Mask2Former", "Yolos", "GLPN", "PoolFormer"):
        processor = imageprocessor.of({"image_processor_type": f"{kind}ImageProcessor"})
        for hw in ((1, 1), (1, 3000), (3000, 1)):
            prepared, _ = processor(np.zeros((*hw, 3), np.uint8))
            assert min(prepared[""].shape) >= 1
    exact = imageprocessor.of({"image_processor_type": "GLPNImageProcessor"})
    assert exact(np.zeros((1, 3000, 3), np.uint8))[0][""].shape == (1, 32, 2976, 3)
    patches = {"size": {"height": 518, "width": 518}, "keep_aspect_ratio": True, "ensure_multiple_of": 14}
    processor = imageprocessor.of({"image_processor_type": "DPTImageProcessor", **patches})
    assert processor(np.zeros((1, 600, 3), np.uint8))[0][""].shape == (1, 14, 518, 3)


def test_a_ribbon_of_which_everything_is_kept_is_refused_before_it_is_enlarged() -> None:
    config = {"image_processor_type": "MobileNetV2ImageProcessor", "size": {"shortest_edge": 513}}
    processor = imageprocessor.of({**config, "do_center_crop": False})
    for hw in ((1, 5000), (5000, 1), (1, 64_000_000), (800, 80_000), (1300, 49_000)):
        with pytest.raises(TooLarge, match="long and narrow"):
            processor.resized(np.broadcast_to(np.uint8(0), (*hw, 3)))
    assert processor(np.zeros((20, 300, 3), np.uint8))[0][""].shape == (1, 513, 7695, 3)
    assert processor.target((1500, 40_000)) == (513, 13_680)
    for hw in ((1500, 40_000), (4000, 6000)):
        assert processor.resized(np.zeros((*hw, 3), np.uint8)).shape[:2] == processor.target(hw)
    exact = imageprocessor.of({"image_processor_type": "GLPNImageProcessor"})
    assert exact.resized(np.zeros((3200, 3200, 3), np.uint8)).shape == (3200, 3200, 3), "as large as it is"
    squashed = imageprocessor.of({"image_processor_type": "SegformerImageProcessor", "size": 3000})
    assert squashed(np.zeros((1, 50, 3), np.uint8))[0][""].shape == (1, 3000, 3000, 3)


@pytest.mark.parametrize("hw", [(480, 640), (641, 333), (97, 101)])
def test_without_a_configuration_pictures_have_the_size_that_the_graph_takes(hw: tuple[int, int]) -> None:
    def came_out(config: dict[str, Any] | None, kind: str, input_hw: tuple[int, int]) -> tuple[int, ...]:
        return imageprocessor.of(config, kind, input_hw)(np.zeros((*hw, 3), np.uint8))[0][""].shape[1:3]

    assert came_out(None, "ViT", (299, 300)) == (299, 300)
    assert came_out({}, "Detr", (320, 320)) == (320, 320)
    assert came_out({"size": 64}, "ViT", (299, 300)) == (64, 64)


@pytest.mark.parametrize(
    "config",
    [
        {"size": {"height": "wide", "width": 224}},
        {"size": {"shortest_edge": [224]}},
        {"resample": "bicubic"},
        {"image_std": "none"},
        {"image_std": [0, 0, 0]},
        {"image_mean": [None, 1, 2]},
        {"rescale_factor": "1/255"},
        {"rescale_factor": 0},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": "0.9"},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"side": 224}},
        {"image_processor_type": "GLPNImageProcessor", "size_divisor": 0},
        {"image_processor_type": "DPTImageProcessor", "size": {"shortest_edge": 384}},
        {"pretrained_cfg": {"input_size": [3, 224]}},
        {"pretrained_cfg": {"crop_pct": "most"}},
    ],
    ids=str,
)
def test_senseless_values_are_told_when_the_model_is_opened(config: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel, match=r"preprocessor_config\.json cannot be used"):
        imageprocessor.of(config)
