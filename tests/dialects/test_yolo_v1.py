"""The first Ultralytics API: its three generations, its arguments under all names, its errors."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from yolo_made import (
    BOXES,
    DEPTH,
    EVERYTHING,
    LABELS,
    NOTHING,
    ORIENTED,
    POSE,
    SEGMENT,
    SEMANTIC,
    Desk,
    answer,
    card,
    form,
    photo,
    posted,
    told,
)

from saccade import errors
from saccade.dialects.dialect import Incoming
from saccade.dialects.yolo_ask import YoloAsk
from saccade.dialects.yolo_v1 import YoloV1

PATH = "/v1/predict/yolo11n"
MATCH = {"model": "yolo11n"}
URLENCODED = {"content-type": "application/x-www-form-urlencoded"}


def call(fields: dict[str, str] | None = None, query: tuple[tuple[str, str], ...] = (), **more: Any) -> Incoming:
    more.setdefault("files", {"image": photo()})
    return form(PATH, fields, query=query, match=MATCH, **more)


def asked(incoming: Incoming, dialect: YoloV1 | None = None, desk: Desk | None = None) -> YoloAsk:
    ask = (dialect or YoloV1()).parse(incoming, desk or Desk())
    assert isinstance(ask, YoloAsk)
    return ask


def test_the_first_generation_writes_unrounded_pixels_in_the_old_envelope() -> None:
    outgoing = told(YoloV1(), call(), answer(BOXES))
    body = json.loads(outgoing.body)
    assert list(body) == ["success", "message", "data"]
    assert body["success"] is True
    assert body["message"] == "Inference complete."
    assert list(body["data"][1]) == ["name", "class", "confidence", "box"]
    assert body["data"][1]["box"]["x1"] == float(BOXES.boxes_xyxy[1, 0])
    assert body["data"][1]["confidence"] == float(BOXES.scores[1])


def test_decimals_5_gives_the_bytes_of_the_reference() -> None:
    data = msgspec.json.decode(told(YoloV1(), call({"decimals": "5"}), answer(BOXES)).body, type=dict)["data"]
    assert msgspec.json.encode(data) == (
        b'[{"name":"person","class":0,"confidence":0.92,"box":{"x1":118.0,"y1":112.0,"x2":416.0,"y2":660.0}},'
        b'{"name":"tie","class":27,"confidence":0.51235,"box":{"x1":10.12346,"y1":20.5,"x2":30.25,"y2":40.0}}]'
    )


def test_normalize_divides_by_the_image_and_then_rounds() -> None:
    data = json.loads(told(YoloV1(), call({"normalize": "True", "decimals": "5"}), answer(BOXES)).body)["data"]
    assert list(data[0]["box"].values()) == [0.19667, 0.14933, 0.69333, 0.88]
    assert list(data[1]["box"].values()) == [0.01687, 0.02733, 0.05042, 0.05333]


def test_normalize_can_be_made_the_default_of_the_first_generation() -> None:
    dialect = YoloV1(normalize=True)
    assert json.loads(told(dialect, call(), answer(BOXES)).body)["data"][0]["box"]["y2"] == pytest.approx(0.88)
    plain = json.loads(told(dialect, call({"normalize": "false"}), answer(BOXES)).body)
    assert plain["data"][0]["box"]["y2"] == 660.0


def test_nothing_found_is_an_empty_list() -> None:
    expected = b'{"success":true,"message":"Inference complete.","data":[]}'
    assert told(YoloV1(), call(), answer(NOTHING)).body == expected


def test_labels_are_one_item_unless_topk_asks_for_more() -> None:
    assert len(json.loads(told(YoloV1(), call(), answer(LABELS)).body)["data"]) == 1
    data = json.loads(told(YoloV1(), call({"topk": "3", "decimals": "5"}), answer(LABELS)).body)["data"]
    assert [item["class"] for item in data] == [2, 3, 4]
    assert data[0] == {"name": "c", "class": 2, "confidence": 0.4}


def test_segments_and_keypoints_are_columns() -> None:
    segment = json.loads(told(YoloV1(), call(), answer(SEGMENT)).body)["data"][0]
    assert list(segment) == ["name", "class", "confidence", "box", "segments"]
    assert segment["segments"]["x"] == [234.375, 234.375, 303.515625]
    pose = json.loads(told(YoloV1(), call({"decimals": "5"}), answer(POSE)).body)["data"][0]
    assert list(pose["keypoints"]) == ["x", "y", "visible"]
    assert pose["keypoints"] == {"x": [370.3125, 600.0], "y": [182.8125, 0.0], "visible": [0.99094, 0.25]}


def test_hidden_keypoints_are_zero_only_when_asked_for() -> None:
    pose = json.loads(told(YoloV1(), call({"zero_hidden_keypoints": "1"}), answer(POSE)).body)["data"][0]
    assert pose["keypoints"]["x"] == [370.3125, 0.0]
    just_seen = dataclasses.replace(POSE, visibility=np.array([[0.99094, 0.5]], np.float32))
    pose = json.loads(told(YoloV1(), call({"zero_hidden_keypoints": "1"}), answer(just_seen)).body)["data"][0]
    assert pose["keypoints"]["x"] == [370.3125, 600.0]


def test_oriented_boxes_have_four_corners() -> None:
    box = json.loads(told(YoloV1(), call({"decimals": "4"}), answer(ORIENTED)).body)["data"][0]["box"]
    assert list(box) == ["x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4"]
    assert box["x3"] == 74.2951


def test_semantic_segments_are_items_like_any_other() -> None:
    masks = msgspec.structs.replace(answer(SEGMENT))
    assert json.loads(told(YoloV1(), call(), masks).body)["data"][0]["segments"]["y"][0] == 351.5625


@pytest.mark.parametrize("words", [{"response": "l1"}, {"response": "l2"}, {"response": "hub"}, {"format": "csv"}])
def test_the_surest_object_is_the_first_whatever_the_models_own_order(words: dict[str, str]) -> None:
    turned = dataclasses.replace(BOXES, scores=np.array([0.3, 0.9], np.float32))
    body = told(YoloV1(), call(words), answer(turned)).body
    assert body.index(b"tie") < body.index(b"person")


def test_the_second_generation_is_flat_and_normalised() -> None:
    fields = {"response": "l2"}
    box = json.loads(told(YoloV1(), call(fields), answer(BOXES)).body)["data"][0]
    assert list(box) == ["class", "name", "confidence", "width", "height", "xcenter", "ycenter"]
    assert box["xcenter"] == pytest.approx((118 + 416) / 2 / 600)
    assert box["height"] == pytest.approx((660 - 112) / 750)
    segment = json.loads(told(YoloV1(), call(fields), answer(SEGMENT)).body)["data"][0]
    assert segment["segment"][:2] == pytest.approx([234.375 / 600, 351.5625 / 750])
    pose = json.loads(told(YoloV1(), call(fields), answer(POSE)).body)["data"][0]
    assert pose["keypoints"][:3] == pytest.approx([370.3125 / 600, 182.8125 / 750, 0.99094])
    oriented = json.loads(told(YoloV1(), call(fields), answer(ORIENTED)).body)["data"][0]
    assert len(oriented["obb"]) == 8
    assert set(oriented) == {"class", "name", "confidence", "obb"}


def test_the_second_generation_rounds_and_hides_only_when_asked_to() -> None:
    fields = {"response": "l2", "decimals": "3"}
    box = json.loads(told(YoloV1(), call(fields), answer(BOXES)).body)["data"][0]
    assert [box[name] for name in ("confidence", "width", "height", "xcenter", "ycenter")] == [
        *(0.92, 0.497, 0.731, 0.445, 0.515)
    ]
    pose = json.loads(told(YoloV1(), call(fields), answer(POSE)).body)["data"][0]
    assert pose["keypoints"][:3] == [0.617, 0.244, 0.991]
    hidden = json.loads(told(YoloV1(), call(fields | {"zero_hidden_keypoints": "1"}), answer(POSE)).body)["data"][0]
    assert hidden["keypoints"] == [0.617, 0.244, 0.991, 0, 0, 0.25]


@pytest.mark.parametrize(
    ("fields", "part", "query", "shape"),
    [
        ({}, "image", (), "l1"),
        ({}, "file", (), "hub"),
        ({"imgsz": "640", "conf": "0.3"}, "img", (), "hub"),
        ({"imgsz": "640", "confidence": "0.3"}, "img", (), "l1"),
        ({"imgsz": "640"}, "image", (), "l1"),
        ({}, "image", (("response", "hub"),), "hub"),
        ({}, "file", (("response", "l1"),), "l1"),
        ({}, "image", (("format", "l2"),), "l2"),
        ({}, "image", (("response", "L3"),), "hub"),
    ],
)
def test_which_generation_answers(fields: dict[str, str], part: str, query: Any, shape: str) -> None:
    assert asked(call(fields, query=query, files={part: photo()})).shape == shape


def test_the_third_generation_answers_in_the_later_envelope() -> None:
    body = json.loads(told(YoloV1(), call(files={"file": photo()}), answer(BOXES)).body)
    assert set(body) == {"images", "metadata"}
    assert body["images"][0]["results"][0]["confidence"] == 0.92


@pytest.mark.parametrize("name", ["size", "imgsz", "image_size", "img_size"])
def test_imgsz_under_all_its_names(name: str) -> None:
    assert asked(call({name: "320"})).calls[0].options.imgsz == 320


@pytest.mark.parametrize("name", ["confidence", "conf", "conf_thres", "threshold"])
def test_conf_under_all_its_names(name: str) -> None:
    assert asked(call({name: "0.5"})).calls[0].options.conf == 0.5


@pytest.mark.parametrize("name", ["iou", "iou_thres", "iou_threshold", "overlap"])
def test_iou_under_all_its_names(name: str) -> None:
    assert asked(call({name: "0.6"})).calls[0].options.iou == 0.6


@pytest.mark.parametrize("name", ["normalize", "normalized"])
@pytest.mark.parametrize("value", ["true", "True", "1", "yes", "on", "TRUE", '"true"'])
def test_normalize_under_all_its_names_and_spellings(name: str, value: str) -> None:
    assert asked(call({name: value})).arguments.normalize is True


@pytest.mark.parametrize("name", ["file", "image", "img", "images", "images[]", "images[0]"])
def test_the_file_under_all_its_names(name: str) -> None:
    assert asked(call(files={name: photo()})).calls[0].media == photo()


@pytest.mark.parametrize("name", ["url", "source", "image_url", "image"])
def test_an_address_under_all_its_names(name: str) -> None:
    made = asked(call({name: "https://example.com/a"}, files={})).calls[0]
    assert (made.media, made.media_url) == (b"", "https://example.com/a")


def test_the_documented_defaults() -> None:
    options = asked(call()).calls[0].options
    assert (options.imgsz, options.conf, options.iou) == (640, 0.25, 0.45)


def test_a_classifier_keeps_its_own_size_and_no_threshold() -> None:
    options = asked(call(), desk=Desk(card("yolo11n", "classify"))).calls[0].options
    assert (options.imgsz, options.conf, options.top_k) == (None, None, 1)


def test_form_goes_before_query_and_query_before_json() -> None:
    assert asked(call({"conf": "0.5"}, query=(("conf", "0.6"),))).calls[0].options.conf == 0.5
    picture = base64.b64encode(photo()).decode()
    incoming = posted(PATH, {"image": picture, "conf": 0.7, "iou": 0.3}, MATCH, conf="0.6")
    assert asked(incoming).calls[0].options.conf == 0.6
    assert asked(incoming).calls[0].options.iou == 0.3


def test_the_own_name_wins_over_its_alias() -> None:
    assert asked(call({"conf": "0.5", "confidence": "0.6"})).calls[0].options.conf == 0.6


@pytest.mark.parametrize(
    ("name", "low", "high", "outside"),
    [
        ("size", "32", "1280", ("31", "1281", "0", "-640", "640.5", "nan", "1e999", "many", "[640]")),
        ("confidence", "0.01", "1.0", ("0", "0.009", "1.01", "-1", "nan", "inf", "high")),
        ("iou", "0.0", "0.95", ("-0.1", "0.96", "nan")),
        ("decimals", "0", "10", ("-1", "11", "1.5")),
        ("vid_stride", "1", "30", ("0", "-1")),
        ("max_det", "1", "300", ("0", "x")),
        ("topk", "1", "5", ("0",)),
        ("bits", "8", "16", ("7", "9", "32")),
        ("classes", "0", "0,27", ("-1", "person", "[0", "1.5")),
        ("normalize", "true", "false", ("maybe", "2")),
        ("response", "l1", "hub", ("l9",)),
        ("format", "json", "coco", ("xml",)),
    ],
)
def test_every_argument_has_a_range_and_says_so(name: str, low: str, high: str, outside: tuple[str, ...]) -> None:
    for inside in (low, high):
        asked(call({name: inside}))
    for value in outside:
        with pytest.raises(errors.BadOptions, match=name):
            asked(call({name: value}))


def test_a_refused_number_names_the_allowed_range() -> None:
    with pytest.raises(errors.BadOptions, match=r"32 to 1280"):
        asked(call({"size": "4000"}))


def test_clamp_moves_numbers_into_their_range() -> None:
    options = asked(call({"size": "4000", "confidence": "0"}), YoloV1(clamp=True)).calls[0].options
    assert (options.imgsz, options.conf) == (1280, 0.01)


@pytest.mark.parametrize("value", ["0,27", "[0, 27]", "0, 27", "[0,27]"])
def test_classes_in_all_spellings(value: str) -> None:
    assert asked(call({"classes": value})).calls[0].options.classes == (0, 27)


@pytest.mark.parametrize("value", ["0," * 200_000, f"[{'0,' * 200_000}0]"])
def test_a_list_of_more_members_than_anybody_needs_is_refused_before_it_is_read(value: str) -> None:
    with pytest.raises(errors.TooLarge, match="more than 100000 values"):
        asked(call({"classes": value}))


@pytest.mark.parametrize("name", ["classes", "classes[]"])
@pytest.mark.parametrize("first", ["0", "0,5"])
def test_repeated_classes_add_up(name: str, first: str) -> None:
    wanted = (*map(int, first.split(",")), 27)
    in_query = call(query=((name, first), (name, "27")))
    other = call({"other": "27"}).body.replace(b'name="other"', f'name="{name}"'.encode())
    in_form = call({name: first})
    in_form = msgspec.structs.replace(in_form, body=other.partition(b"\r\n--")[0] + b"\r\n" + in_form.body)
    text = f"image={base64.b64encode(photo()).decode()}&{name}=27&{name}={first}".encode()
    urlencoded = msgspec.structs.replace(in_form, body=text, headers=URLENCODED)
    named_as_files = call(files={"other": b"27", name: first.encode(), "image": photo()})
    body = named_as_files.body.replace(b'name="other"', f'name="{name}"'.encode())
    named_as_files = msgspec.structs.replace(named_as_files, body=body)
    for incoming in (in_query, in_form, urlencoded, named_as_files):
        assert sorted(asked(incoming).calls[0].options.classes or ()) == sorted(wanted)


@pytest.mark.parametrize("names", [("classes[0]", "classes[1]"), ("classes[00]", "classes[12]")])
def test_classes_may_be_numbered(names: tuple[str, str]) -> None:
    """As PHP's ``http_build_query`` and ``curl``, and JavaScript's ``qs``, write a list."""
    pairs = tuple(zip(names, ("0", "27"), strict=True))
    text = "&".join((*(f"{name}={value}" for name, value in pairs), f"image={base64.b64encode(photo()).decode()}"))
    urlencoded = Incoming("POST", PATH, headers=URLENCODED, body=text.encode(), match=MATCH)
    for incoming in (call(query=pairs), call(dict(pairs)), urlencoded):
        found = asked(incoming)
        assert (found.calls[0].options.classes, found.ignored) == ((0, 27), ())


@pytest.mark.parametrize("start", ["", "data:image/jpeg;base64,"])
def test_base64_in_an_address_may_have_plain_plus_signs(start: str) -> None:
    text = base64.b64encode(photo() + b"\xfb\xef").decode()
    assert "+" in text
    assert (
        asked(call(query=(("source", start + text.replace("+", " ")),), files={})).calls[0].media
        == photo() + b"\xfb\xef"
    )
    address = "https://a.b/c d"
    assert asked(call(query=(("source", address),), files={})).calls[0].media_url == address


def test_numbers_in_quotes_from_a_shell_are_numbers() -> None:
    assert asked(call({"size": '"320"'})).calls[0].options.imgsz == 320


def test_an_address_in_quotes_from_a_shell_is_an_address() -> None:
    assert asked(call({"url": '"https://a.b/c"'}, files={})).calls[0].media_url == "https://a.b/c"


@pytest.mark.parametrize("text", [lambda raw: raw, lambda raw: f"data:image/jpeg;base64,{raw}"])
@pytest.mark.parametrize("name", ["image", "file", "source"])
def test_json_may_hold_the_picture_as_base64(name: str, text: Any) -> None:
    body = {name: text(base64.b64encode(photo()).decode()), "confidence": 0.5}
    assert asked(posted(PATH, body, MATCH)).calls[0].media == photo()


def test_a_bare_picture_is_taken_whatever_its_content_type() -> None:
    for kind in ("image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded", ""):
        incoming = Incoming("POST", PATH, headers={"content-type": kind}, body=photo(), match=MATCH)
        assert asked(incoming).calls[0].media == photo()


def test_another_kind_of_body_is_415() -> None:
    incoming = Incoming("POST", PATH, headers={"content-type": "text/csv"}, body=b"a,b", match=MATCH)
    with pytest.raises(errors.UnknownFormat) as caught:
        asked(incoming)
    assert YoloV1().refuse(caught.value, incoming).status == 415


def test_no_picture_is_refused_in_the_words_of_the_old_server() -> None:
    incoming = call({"size": "640"}, files={})
    with pytest.raises(errors.BadInput) as caught:
        asked(incoming)
    outgoing = YoloV1().refuse(caught.value, incoming)
    assert outgoing.status == 400
    assert json.loads(outgoing.body) == {
        "data": {},
        "message": "An image file or URL must be submitted.",
        "success": False,
    }


@pytest.mark.parametrize("nothing", [None, "", []])
def test_a_name_that_holds_nothing_gives_way_to_the_next(nothing: object) -> None:
    sent = {"image": nothing, "images": nothing, "url": "https://example.org/a.jpg", "classes": nothing}
    ask = asked(posted(PATH, sent, MATCH))
    assert (ask.calls[0].media_url, ask.arguments.classes) == ("https://example.org/a.jpg", None)


@pytest.mark.parametrize("name", ["image_base64", "inputs"])
def test_a_picture_under_an_unknown_name_is_refused_by_that_name(name: str) -> None:
    sent = {name: base64.b64encode(photo()).decode(), "confidence": 0.5}
    with pytest.raises(errors.BadInput, match=f"must be submitted. Not understood: '{name}'"):
        asked(posted(PATH, sent, MATCH))


def test_a_files_name_without_curls_sign_for_files_is_told_of_the_sign() -> None:
    with pytest.raises(errors.BadInput, match="when an @ stands before its name"):
        asked(call({"image": "/home/me/photo.jpg"}, files={}))


def test_a_missing_boundary_is_named() -> None:
    incoming = Incoming("POST", PATH, headers={"content-type": "multipart/form-data"}, body=call().body, match=MATCH)
    with pytest.raises(errors.BadInput, match="boundary"):
        asked(incoming)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
def test_an_empty_body_is_none_whatever_it_is_said_to_be(kind: str) -> None:
    headers = {"content-type": kind}
    with pytest.raises(errors.BadInput, match=r"^An image file or URL must be submitted\.$"):
        asked(Incoming("POST", PATH, headers=headers, match=MATCH))
    by_address = Incoming("POST", PATH, query=(("url", "https://a.b/c"),), headers=headers, match=MATCH)
    assert asked(by_address).calls[0].media_url == "https://a.b/c"


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(errors.BadInput, match="0 bytes"):
        asked(call(files={"image": b""}))


def test_a_field_in_which_a_browser_has_no_file_gives_way_to_what_was_sent() -> None:
    written = {"url": base64.b64encode(photo()).decode()}
    assert asked(call(written, files={"image": b""})).calls[0].media == photo()
    assert asked(call(files={"image": b"", "file": photo()})).calls[0].media == photo()
    assert asked(call({**written, "image": "", "url": "https://a.b/c"}, files={"image": b""})).calls[0].media_url


def test_a_file_under_another_name_is_refused_by_that_name() -> None:
    with pytest.raises(errors.BadInput, match="photo"):
        asked(call(files={"photo": photo()}))


@pytest.mark.parametrize("ref", ["yolo11n", "yolo11n.pt", "yolo11n.onnx", "YOLO11n", "YOLO11n.PT"])
def test_official_names_in_any_case_with_or_without_suffix(ref: str) -> None:
    assert asked(form(PATH, files={"image": photo()}, match={"model": ref})).calls[0].model == "yolo11n"


@pytest.mark.parametrize("ref", ["https:/hub.ultralytics.com/models/yolo11n", "ul:/owner/project/yolo11n"])
def test_an_address_of_which_the_path_has_taken_a_slash(ref: str) -> None:
    assert asked(form(PATH, files={"image": photo()}, match={"model": ref})).calls[0].model == "yolo11n"


@pytest.mark.parametrize("ref", ["nobody", "../yolo11n", "/etc/passwd", "a\\b", "http://evil/x.pt", "a/b/c/d", " "])
def test_unknown_models_and_paths_are_404(ref: str) -> None:
    incoming = form(PATH, files={"image": photo()}, match={"model": ref})
    with pytest.raises(errors.UnknownModel) as caught:
        asked(incoming)
    assert YoloV1().refuse(caught.value, incoming).status == 404


def test_a_call_that_names_no_model_means_the_only_one_or_the_default() -> None:
    nameless = form("/v1/predict", files={"image": photo()})
    assert asked(nameless, desk=Desk(card("only"))).calls[0].model == "only"
    assert asked(nameless, YoloV1(default="yolo11n")).calls[0].model == "yolo11n"
    with pytest.raises(errors.BadInput, match="No model is named"):
        asked(nameless)


def test_depth_is_refused_for_want_of_words() -> None:
    with pytest.raises(errors.WrongTask, match="/predict"):
        asked(call(), desk=Desk(card("yolo11n", "depth")))


def test_an_annotated_picture_is_answered_as_jpeg() -> None:
    for incoming in (call({"annotated": "true"}), call(headers={"accept": "image/jpeg"})):
        assert asked(incoming).calls[0].annotate
        outgoing = told(YoloV1(), incoming, answer(BOXES, annotated=b"\xff\xd8drawn"))
        assert (outgoing.body, outgoing.media_type) == (b"\xff\xd8drawn", "image/jpeg")


@pytest.mark.parametrize("name", ["confidence", "conf", "threshold"])
def test_an_argument_counts_although_its_part_has_a_files_name(name: str) -> None:
    incoming = call(files={name: b"0.99", "image": photo()})
    assert asked(incoming).calls[0].options.conf == 0.99
    assert asked(incoming).calls[0].media == photo()


def test_the_apis_own_name_for_the_picture_goes_first() -> None:
    ask = asked(call(files={"file": photo(8, 6), "image": photo(16, 6)}))
    assert (ask.calls[0].media, ask.shape) == (photo(16, 6), "l1")
    sent = {"file": "aGVsbG8=", "image": base64.b64encode(photo()).decode()}
    assert asked(posted(PATH, sent, MATCH)).calls[0].media == photo()


def test_a_part_for_the_picture_is_no_argument_and_no_argument_holds_a_picture() -> None:
    assert asked(call(files={"image": b"not a picture"})).calls[0].media == b"not a picture"
    with pytest.raises(errors.BadInput, match="source"):
        asked(call(files={"source": photo()}))
    with pytest.raises(errors.BadInput, match="The form has a file under the name 'source'"):
        asked(call(files={"source": b"P2\n2 1\n255\n0 255\n"}))  # a picture whose bytes are text
    with pytest.raises(errors.BadInput, match="conf"):
        asked(call(files={"conf": b"\xff\xfe"}))


JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"


@pytest.mark.parametrize(
    ("accept", "drawn"),
    [
        ("image/jpeg", True),
        ("Image/JPEG; charset=binary", True),
        ("image/*", True),
        ("image/jpeg;q=0.2, image/png", True),
        ("image/jpeg, application/json;q=0", True),
        ("image/jpeg, application/*;q=0.5", True),
        ("image/jpeg;q=wrong", True),
        (JAVA, False),
        ("image/jpeg;q=0, application/xml", False),
        ("image/jpeg; q=0, image/*", False),
        ("image/jpeg, application/json;q=0.1", False),
        ("image/jpeg;q=0.5, application/*;q=0.5", False),
        ("image/*, */*;q=0.8", False),
        ("image/png", False),
        ("", False),
    ],
)
def test_a_picture_is_drawn_only_for_callers_who_clearly_want_one(accept: str, drawn: bool) -> None:
    assert asked(call(headers={"accept": accept})).calls[0].annotate is drawn


def test_java_gets_json_of_a_gif_too() -> None:
    ask = asked(call(files={"file": b"GIF89a" + bytes(20)}, headers={"accept": JAVA}))
    assert (ask.calls[0].annotate, ask.calls[0].clip is not None) == (False, True)


def test_a_stream_that_the_caller_refuses_is_not_made() -> None:
    gif = {"file": b"GIF89a" + bytes(20)}
    assert not asked(call(files=gif, headers={"accept": "application/x-ndjson;q=0"})).streamed
    assert asked(call(files=gif, headers={"accept": "application/x-ndjson;q=0.1"})).streamed


def test_the_size_at_which_the_network_ran_is_a_header() -> None:
    assert ("X-Imgsz", "640x512") in told(YoloV1(), call(), answer(BOXES)).headers


def test_arguments_that_mean_nothing_are_named_in_a_header() -> None:
    incoming = call({"confidance": "0.9", "half": "1"}, query=(("a b\r\nc", "1"),))
    headers = dict(told(YoloV1(), incoming, answer(BOXES)).headers)
    assert headers["X-Ignored-Arguments"] == "confidance"
    written = {"max-det": "1", "parameters[conf]": "0.9", "a" * 65: "1", "ü": "1"}
    headers = dict(told(YoloV1(), call(written), answer(BOXES)).headers)
    assert headers["X-Ignored-Arguments"] == "max-det, parameters[conf]"
    assert "X-Ignored-Arguments" not in dict(told(YoloV1(), call({"size": "640"}), answer(BOXES)).headers)


def test_pictures_beside_the_one_that_is_looked_at_are_named_in_the_same_header() -> None:
    text = base64.b64encode(photo()).decode()
    cases = (
        (call(files={"image": photo(), "file": photo(), "photo2": photo(), "img": b""}), "file, photo2"),
        (call({"confidance": "0.9"}, files={"image": photo(), "image[]": photo(16, 6)}), "confidance, image[]"),
        (posted(PATH, {"images": [text, text]}, MATCH), "images"),
        (posted(PATH, {"images": [text]}, MATCH), None),
    )
    for incoming, names in cases:
        headers = dict(told(YoloV1(), incoming, answer(BOXES)).headers)
        assert headers.get("X-Ignored-Arguments") == names


def test_a_video_is_answered_frame_by_frame_though_the_first_generation_had_no_words_for_it() -> None:
    incoming = call(files={"image": b"GIF89a" + bytes(20)})
    body = json.loads(told(YoloV1(), incoming, answer(BOXES), answer(NOTHING)).body)
    assert [len(image["results"]) for image in body["images"]] == [2, 0]


def test_exports() -> None:
    coco = json.loads(told(YoloV1(), call({"format": "coco", "decimals": "2"}), answer(BOXES)).body)
    first = {"image_id": 0, "category_id": 0, "bbox": [118.0, 112.0, 298.0, 548.0], "score": 0.92}
    assert coco[0] == first
    lines = told(YoloV1(), call({"format": "yolo", "decimals": "5"}), answer(BOXES)).body.decode().splitlines()
    assert lines[0] == "0 0.445 0.51467 0.49667 0.73067"
    shapes = json.loads(told(YoloV1(), call({"format": "geojson"}), answer(SEGMENT)).body)
    assert (
        shapes["features"][0]["geometry"]["coordinates"][0][0]
        == shapes["features"][0]["geometry"]["coordinates"][0][-1]
    )
    table = told(YoloV1(), call({"format": "csv"}), answer(LABELS)).body.decode().splitlines()
    assert table[0].startswith("frame,class,name,confidence")
    for labels_have_no in ("coco", "yolo", "geojson"):
        with pytest.raises(errors.WrongTask):
            told(YoloV1(), call({"format": labels_have_no}), answer(LABELS))


@pytest.mark.parametrize("points", [0, 1, 2])
def test_what_has_no_outline_is_exported_as_its_box(points: int) -> None:
    """Readers of label files take a row of two points for a box, or refuse all rows."""
    (outline,) = SEGMENT.polygons
    thin = dataclasses.replace(SEGMENT, polygons=(outline[:points],))
    (row,) = told(YoloV1(), call({"format": "yolo", "decimals": "3"}), answer(thin)).body.decode().splitlines()
    assert row == "0 0.098 0.156 0.506 0.156 0.506 0.499 0.098 0.499"
    (feature,) = json.loads(told(YoloV1(), call({"format": "geojson"}), answer(thin)).body)["features"]
    corners = [[58.5, 117.0], [303.6, 117.0], [303.6, 374.0], [58.5, 374.0], [58.5, 117.0]]
    assert np.allclose(feature["geometry"]["coordinates"][0], corners, atol=1e-3)


@pytest.mark.parametrize("result", EVERYTHING, ids=lambda result: type(result).__name__)
@pytest.mark.parametrize("response", ["l1", "l2", "hub"])
def test_every_result_is_rendered_or_refused_clearly(result: Any, response: str) -> None:
    try:
        json.loads(told(YoloV1(), call({"response": response}), answer(result)).body)
    except errors.WrongTask:
        assert result is DEPTH or (result is SEMANTIC and response != "hub")


def test_spent_quotas_carry_the_four_headers_that_old_clients_index() -> None:
    error = errors.QuotaSpent("Slow down.", limit=100, retry_after_s=11.2, reset_epoch_s=1800000000.4)
    outgoing = YoloV1().refuse(error, call())
    headers = dict(outgoing.headers)
    assert outgoing.status == 429
    assert int(headers["X-RateLimit-Limit"]) == 100
    assert int(headers["X-RateLimit-Remaining"]) == 0
    assert int(headers["X-RateLimit-Reset"]) == 1800000001
    assert int(headers["Retry-After"]) == 12
    assert json.loads(outgoing.body)["message"] == "Slow down."


def test_the_routes_of_the_sdk() -> None:
    dialect, desk = YoloV1(), Desk()
    auth = dialect.describe(Incoming("POST", "/v1/auth"), desk)
    assert json.loads(auth.body)["success"] is True
    model = dialect.describe(Incoming("GET", "/v1/models/yolo11n", match=MATCH), desk)
    assert json.loads(model.body)["data"]["id"] == "yolo11n"
    assert dialect.describe(Incoming("GET", "/v1/models/nobody", match={"model": "nobody"}), desk).status == 404


def test_the_sdk_lists_models_page_by_page() -> None:
    dialect, desk = YoloV1(), Desk(*map(card, "abcde"))

    def page(**words: str) -> tuple[str, int, str | None]:
        body = dialect.describe(Incoming("GET", "/v1/models", query=tuple(words.items())), desk).body
        data = json.loads(body)["data"]
        return "".join(model["id"] for model in data["results"]), data["total"], data["lastRecordId"]

    assert page() == ("abcde", 5, None)
    assert page(limit="2") == ("ab", 5, "b")
    assert page(limit="2", last_doc_id="b", public="True") == ("cd", 5, "d")
    assert page(limit="2", last_doc_id="d") == ("e", 5, None)
    assert page(limit="5") == ("abcde", 5, None)
    with pytest.raises(errors.BadOptions, match="limit"):
        page(limit="0")
