"""The Platform API: its fields, its metadata, depth and semantic pictures, its errors; and bytes that mean nothing."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yolo_made import (
    BOXES,
    DEPTH,
    EVERYTHING,
    LABELS,
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

from saccade import errors, media
from saccade.card import Json
from saccade.dialects.dialect import Dialect, Incoming
from saccade.dialects.hub import Hub
from saccade.dialects.platform import Platform
from saccade.dialects.yolo_v1 import YoloV1
from saccade.engine.cache import key_of
from saccade.results import Depth

MATCH = {"owner": "some-body", "project": "some-project", "model": "yolo11n"}
PATH = "/api/models/some-body/some-project/yolo11n/predict"


def call(fields: dict[str, str] | None = None, files: dict[str, bytes] | None = None, **more: Any) -> Incoming:
    more.setdefault("match", MATCH)
    return form(PATH, fields, {"file": photo()} if files is None else files, **more)


def test_keys_stand_in_the_order_of_insertion() -> None:
    body = json.loads(told(Platform(), call(), answer(BOXES)).body)
    assert list(body) == ["images", "metadata"]
    assert list(body["images"][0]) == ["results", "shape", "speed"]
    assert list(body["images"][0]["results"][0]) == ["name", "class", "confidence", "box"]
    assert list(body["images"][0]["speed"]) == ["preprocess", "inference", "postprocess"]
    facts = body["metadata"]
    assert {"imageCount", "functionTimeAlive", "functionTimeCall", "version", "model", "task", "classNames"} == set(
        facts
    )
    assert (facts["task"], facts["classNames"]) == ("detect", ["person", "tie"])
    assert all(isinstance(value, str) for value in facts["version"].values())


def test_the_documented_defaults() -> None:
    options = Platform().parse(call(), Desk()).calls[0].options
    assert (options.conf, options.iou, options.imgsz) == (0.25, 0.7, None)


@pytest.mark.parametrize("name", ["best (1)", "my model", "modèle", "a+b, c=d", "team/best (1)", "हिन्दी"])
def test_a_model_is_found_by_any_name_that_a_file_may_have(name: str) -> None:
    for match in ({"model": name}, {**MATCH, "model": name}):
        if name.count("/") + len(match) <= 3:
            assert Platform().parse(call(match=match), Desk(card(name))).calls[0].model == name


def test_a_model_is_found_however_its_accents_are_written() -> None:
    assert (
        Platform().parse(call(match={"model": "mode\u0300le"}), Desk(card("mod\u00e8le"))).calls[0].model
        == "mod\u00e8le"
    )


@pytest.mark.parametrize(
    "name", ["../best", "best/../../x", "/etc/passwd", "~/best", "a\\b", "a\nb", "_hidden", ".best", "team/best@.."]
)
def test_no_model_has_a_name_that_leads_elsewhere(name: str) -> None:
    with pytest.raises(errors.UnknownModel, match="no model's name"):
        Platform().parse(call(match={"model": name}), Desk(card(name)))


def test_decimals_and_normalize() -> None:
    body = json.loads(told(Platform(), call({"decimals": "2", "normalize": "true"}), answer(POSE)).body)
    item = body["images"][0]["results"][0]
    assert item["box"] == {"x1": 0.2, "y1": 0.15, "x2": 0.69, "y2": 0.88}
    assert item["keypoints"]["x"] == [0.62, 1.0]
    assert item["keypoints"]["visible"] == [0.99, 0.25]


def test_the_middle_between_two_last_digits_is_rounded_to_the_side_of_the_reference() -> None:
    found = replace(POSE, keypoints_xy=np.full_like(POSE.keypoints_xy, 210))
    body = json.loads(told(Platform(), call({"decimals": "1", "normalize": "true"}), answer(found)).body)
    assert body["images"][0]["results"][0]["keypoints"]["x"] == [0.3, 0.3]


def test_decimals_0_writes_whole_floats() -> None:
    body = told(Platform(), call({"decimals": "0"}), answer(BOXES)).body
    assert b'"x1":10.0' in body


def test_labels_are_five() -> None:
    assert len(json.loads(told(Platform(), call(), answer(LABELS)).body)["images"][0]["results"]) == 5


def test_source_may_be_an_address_or_base64_of_any_length() -> None:
    raw = photo() + bytes(9000)
    ask = Platform().parse(call({"source": base64.b64encode(raw).decode()}, files={}), Desk())
    assert ask.calls[0].media == raw
    ask = Platform().parse(call({"source": "https://example.com/x"}, files={}), Desk())
    assert ask.calls[0].media_url == "https://example.com/x"
    encoded = Incoming(
        "POST",
        PATH,
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=b"source=" + base64.b64encode(raw) + b"&conf=0.5",
        match=MATCH,
    )
    call_made = Platform().parse(encoded, Desk()).calls[0]
    assert (call_made.media, call_made.options.conf) == (raw, 0.5)
    address = msgspec.structs.replace(encoded, body=b"source=+https%3A%2F%2Fexample.com%2Fa b.jpg%0A")
    assert Platform().parse(address, Desk()).calls[0].media_url == "https://example.com/a b.jpg"


def test_vid_stride() -> None:
    ask = Platform().parse(call({"vid_stride": "3", "track": "true"}, files={"file": b"GIF89a" + bytes(9)}), Desk())
    clip = ask.calls[0].clip
    assert clip is not None
    assert (clip.stride, clip.track) == (3, True)


def test_tracking_ids_are_shown() -> None:
    tracked = type(BOXES)(
        BOXES.boxes_xyxy, BOXES.scores, BOXES.class_ids, BOXES.names, track_ids=np.array([7, 9], np.int32)
    )
    item = json.loads(told(Platform(), call(), answer(tracked)).body)["images"][0]["results"][1]
    assert list(item) == ["name", "class", "confidence", "box", "track_id"]
    assert item["track_id"] == 9


def test_tracking_ids_are_in_every_export_that_can_hold_them() -> None:
    tracked = replace(BOXES, track_ids=np.array([7, 9], np.int32))

    def exported(form: str) -> bytes:
        return told(Platform(), call({"format": form}), answer(tracked)).body

    assert [entry["track_id"] for entry in json.loads(exported("coco"))] == [7, 9]
    assert [one["properties"]["track_id"] for one in json.loads(exported("geojson"))["features"]] == [7, 9]
    assert [line.rpartition(b",")[2] for line in exported("csv").splitlines()[1:]] == [b"7", b"9"]


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_depth_is_a_grey_picture_from_nothing_to_the_farthest(bits: int) -> None:
    desk = Desk(card("yolo11n", "depth"))
    body = json.loads(told(Platform(), call({"bits": str(bits)}), answer(DEPTH, (2, 2)), desk=desk).body)
    depth = body["images"][0]["depth"]
    assert {key: depth[key] for key in ("shape", "encoding", "min", "max", "bits")} == {
        "shape": [2, 2],
        "encoding": "png",
        "min": 1.0,
        "max": 5.0,
        "bits": bits,
    }
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(depth["data"]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
    # As the Platform's documentation reads it, and its command does.
    read = pixels * depth["max"] / (255.0 if bits == 8 else 65535.0)
    assert np.abs(read - DEPTH.depth).max() <= 0.5 * 5.0 / (2**bits - 1) + 1e-4
    assert pixels[1, 1] == (255 if bits == 8 else 65535)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_where_no_depth_is_known_its_picture_is_black(bits: int) -> None:
    desk, holes = Desk(card("yolo11n", "depth")), Depth(np.array([[np.nan, np.inf, 0, -1, 1e-9, 2]], np.float32))
    body = json.loads(told(Platform(), call({"bits": str(bits)}), answer(holes, (1, 6)), desk=desk).body)
    depth = body["images"][0]["depth"]
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(depth["data"]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert (pixels > 0).tolist() == [[False, False, False, False, True, True]]
    assert (depth["min"], depth["max"]) == (pytest.approx(1e-9), 2.0)


@pytest.mark.parametrize("value", [0.0, -3.0, np.nan])
def test_a_picture_without_any_depth_is_black(value: float) -> None:
    nothing = answer(Depth(np.full((2, 3), value, np.float32)), (2, 3))
    body = json.loads(told(Platform(), call(), nothing, desk=Desk(card("yolo11n", "depth"))).body)
    depth = body["images"][0]["depth"]
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(depth["data"]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert (pixels.tolist(), depth["min"], depth["max"]) == ([[0] * 3] * 2, 0.0, 0.0)


SEMANTICS: list[dict[str, Json]] = [
    {"config": {"architectures": ["SegformerForSemanticSegmentation"]}},
    {"metadata": {"task": "semantic"}},
]
"""How a checkpoint of transformers, and an export of ultralytics, tell what they are."""


def semantic_desk() -> Desk:
    return Desk(card("yolo11n", "segment", config={"config": {"architectures": ["SegformerForSemanticSegmentation"]}}))


@pytest.mark.parametrize("config", SEMANTICS)
def test_semantic_models_answer_a_picture_of_class_ids(config: dict[str, Json]) -> None:
    desk = Desk(card("yolo11n", "segment", config=config))
    ask = Platform().parse(call(), desk)
    assert ask.calls[0].options.mask_form == "rle"
    body = json.loads(told(Platform(), call(), answer(SEMANTIC, (2, 4)), desk=desk).body)
    image = body["images"][0]
    assert image["results"] == [
        {"name": "person", "class": 0, "pixel_ratio": 0.5},
        {"name": "tie", "class": 27, "pixel_ratio": 0.5},
    ]
    raw = np.frombuffer(base64.b64decode(image["semantic_mask"]["data"]), np.uint8)
    assert cv2.imdecode(raw, cv2.IMREAD_UNCHANGED).tolist() == [[0, 0, 27, 27], [0, 0, 27, 27]]
    assert body["metadata"]["task"] == "semantic"


def test_the_other_dialects_ask_semantic_models_for_outlines() -> None:
    incoming = form("/v1/predict/yolo11n", files={"image": photo()}, match={"model": "yolo11n"})
    assert YoloV1().parse(incoming, semantic_desk()).calls[0].options.mask_form == "polygon"


@pytest.mark.parametrize("family", ["semantic", "yolo_maps"])
def test_a_sidecar_or_the_catalogue_says_by_the_family_that_a_model_is_semantic(family: str) -> None:
    desk = Desk(msgspec.structs.replace(card("yolo11n", "segment"), family=family))
    ask = Platform().parse(call(), desk)
    assert (ask.calls[0].options.mask_form, ask.task) == ("rle", "semantic")
    depth = Desk(msgspec.structs.replace(card("yolo11n", "depth"), family=family))
    assert Platform().parse(call(), depth).task == "depth"


@pytest.mark.parametrize("dialect", [Platform(), Hub(), YoloV1()], ids=lambda dialect: dialect.name)
def test_semantic_maps_are_drawn_with_their_holes(dialect: Dialect) -> None:
    words = {"model": "yolo11n", "annotated": "true", "format": "coco"}
    incoming = form("/", words, {"file": photo()}, match={"model": "yolo11n"})
    assert dialect.parse(incoming, semantic_desk()).calls[0].options.mask_form == "rle"


@pytest.mark.parametrize("form", ["coco", "yolo", "geojson", "csv"])
def test_an_export_of_a_semantic_model_is_made_of_outlines(form: str) -> None:
    ask = Platform().parse(call({"format": form}), semantic_desk())
    assert ask.calls[0].options.mask_form == "polygon"
    assert Platform().render(ask, [answer(SEGMENT)]).status == 200


@pytest.mark.parametrize("dialect", [Platform(), Hub(), YoloV1()], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("response", ["l1", "l2", "hub", "platform"])
def test_what_is_computed_is_for_the_answer_that_was_asked_for(dialect: Dialect, response: str) -> None:
    incoming = form("/", {"model": "yolo11n", "response": response}, {"file": photo()}, match={"model": "yolo11n"})
    form_of_masks = dialect.parse(incoming, semantic_desk()).calls[0].options.mask_form
    assert form_of_masks == ("rle" if response == "platform" else "polygon")
    depth = Desk(card("yolo11n", "depth"))
    if response == "platform":
        assert dialect.parse(incoming, depth).calls[0].model == "yolo11n"
    else:
        with pytest.raises(errors.WrongTask, match="/predict"):
            dialect.parse(incoming, depth)


@pytest.mark.parametrize("result", EVERYTHING, ids=lambda result: type(result).__name__)
def test_every_result_is_rendered(result: Any) -> None:
    json.loads(told(Platform(), call(), answer(result, (2, 4) if result is SEMANTIC else (750, 600))).body)


@pytest.mark.parametrize(
    "match",
    [
        {"model": "yolo11n"},
        {"owner": "somebody", "project": "thing", "model": "yolo11n"},
    ],
)
def test_the_model_in_the_path(match: dict[str, str]) -> None:
    assert Platform().parse(call(match=match), Desk()).calls[0].model == "yolo11n"


def test_a_model_registered_under_its_whole_path_goes_first() -> None:
    desk = Desk(card("yolo11n"), card("some-body/some-project/yolo11n"))
    assert Platform().parse(call(), desk).calls[0].model == "some-body/some-project/yolo11n"


def test_a_dedicated_endpoint_needs_no_name() -> None:
    incoming = form("/predict", files={"file": photo()})
    assert Platform(default="yolo11n").parse(incoming, Desk()).calls[0].model == "yolo11n"
    with pytest.raises(errors.BadInput, match="model"):
        Platform().parse(incoming, Desk())


def test_errors_are_one_key() -> None:
    outgoing = Platform().refuse(errors.UnknownModel("no"), call())
    assert (outgoing.status, outgoing.body) == (404, b'{"error":"no"}')


def test_a_spent_quota_says_until_when_as_a_date() -> None:
    error = errors.QuotaSpent("x", limit=100, retry_after_s=11.2, reset_epoch_s=1800000000.0)
    outgoing = Platform().refuse(error, call())
    headers = dict(outgoing.headers)
    assert headers["X-RateLimit-Reset"] == "2027-01-15T08:00:00.000Z"
    assert headers["Retry-After"] == "12"
    assert json.loads(outgoing.body) == {
        "error": "Rate limit exceeded",
        "retryAfter": 12,
        "resetAt": "2027-01-15T08:00:00.000Z",
    }


def test_the_listings() -> None:
    listed = json.loads(Platform().describe(Incoming("GET", "/api/models"), Desk()).body)["models"]
    assert [model["id"] for model in listed] == ["yolo11n", "AbCdEfGhIjKlMnOpQrSt"]
    shown = Platform().describe(Incoming("GET", "/api/models/yolo11n", match={"model": "yolo11n"}), Desk())
    assert json.loads(shown.body)["model"]["task"] == "detect"
    clip = Platform().describe(
        Incoming("GET", "/api/models/clip", match={"model": "clip"}), Desk(card("clip", "zero-shot-classify"))
    )
    assert json.loads(clip.body)["model"]["task"] == "classify"  # the SDK knows no other word for it


@pytest.mark.parametrize("path", ["/api/models/yolo11n/predict", "/api/models/me/yolo11n/predict"])
def test_reading_where_pictures_are_sent_is_405_and_lists_no_models(path: str) -> None:
    outgoing = Platform().describe(Incoming("GET", path, match={"owner": "yolo11n", "project": "predict"}), Desk())
    assert (outgoing.status, dict(outgoing.headers)["allow"]) == (405, "POST")
    assert list(json.loads(outgoing.body)) == ["error"]


@pytest.mark.parametrize(("licence", "told"), [("MIT", "MIT"), ("OpenRAIL++", "Other"), (None, "Other")])
def test_a_licence_for_which_the_sdk_has_no_word_is_another(licence: str | None, told: str) -> None:
    asked = Incoming("GET", "/api/models/yolo11n", match={"model": "yolo11n"})
    shown = Platform().describe(asked, Desk(card("yolo11n", licence=licence)))
    assert json.loads(shown.body)["model"]["license"] == told


def test_the_apis_share_cached_answers_where_they_ask_the_same() -> None:
    """They differ in how many labels they want, which means nothing to a detector."""
    incoming = form("/", {"model": "yolo11n"}, {"file": photo()}, match={"model": "yolo11n"})
    keys = {key_of(card("yolo11n"), dialect.parse(incoming, Desk()).calls[0], "auto") for dialect in (Hub(), YoloV1())}
    assert len(keys) == 1
    projects = Platform().describe(Incoming("GET", "/api/projects/somebody", match={"owner": "somebody"}), Desk())
    assert json.loads(projects.body)["total"] == 1
    missing = Platform().describe(Incoming("GET", "/api/models/nobody", match={"model": "nobody"}), Desk())
    assert missing.status == 404


DIALECTS: tuple[Dialect, ...] = (YoloV1(), Hub(), Platform())
KINDS = st.sampled_from(
    (
        "multipart/form-data; boundary=cut",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "application/json",
        "image/jpeg",
        "text/plain",
        "",
    )
)
SCRAPS = st.sampled_from(
    (
        b'--cut\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n',
        b'--cut\r\nContent-Disposition: form-data; name="conf"\r\n\r\n',
        b"\r\n--cut--\r\n",
        b'{"image":"',
        b'{"conf":[[[[',
        b"}",
        b"classes=[[[&source=%ff",
        b"&conf=1e400&imgsz=99999999999999999999",
        b"GIF89a",
        b"\xff\xd8\xff",
        b"\x00\x00\x00\x18ftypmp42",
    )
)
NAMES = st.sampled_from(("conf", "imgsz", "classes", "model", "source", "format", "normalize", "candidate_labels"))


@settings(max_examples=300, deadline=None)
@given(
    kind=KINDS,
    body=st.lists(st.one_of(SCRAPS, st.binary(max_size=40)), max_size=6).map(b"".join),
    query=st.lists(st.tuples(NAMES, st.text(max_size=12)), max_size=4),
    model=st.text(max_size=20),
)
def test_whatever_the_bytes_are_nothing_but_a_call_error_is_raised(
    kind: str, body: bytes, query: list[tuple[str, str]], model: str
) -> None:
    incoming = Incoming(
        "POST", "/", query=tuple(query), headers={"content-type": kind}, body=body, match={"model": model or "yolo11n"}
    )
    for dialect in DIALECTS:
        dialect.claims(incoming)
        try:
            dialect.parse(incoming, Desk())
        except errors.CallError as error:
            json.loads(dialect.refuse(error, incoming).body)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(("data", "found"), [(b"FLV\x01\x05", "a Flash video"), (b"OggS\0", "an Ogg"), (b"no", "text")])
def test_what_is_neither_image_nor_video_is_told_the_formats_of_both(dialect: Dialect, data: bytes, found: str) -> None:
    with pytest.raises(errors.BadInput) as caught:
        media.decode(data)
    refused = dialect.refuse(caught.value, posted("/predict", {})).body.decode()
    assert all(word in refused for word in (found, "JPEG, PNG", "and of videos MP4, MOV")), refused
    assert "MP4" not in dialect.refuse(errors.BadInput("the JPEG image is truncated"), posted("/", {})).body.decode()


@pytest.mark.parametrize("value", [None, True, [], {}, [1], {"a": 1}, 5, "", "x", [[0]], ["a"], 1e300])
@pytest.mark.parametrize("name", ["conf", "imgsz", "classes", "model", "image", "normalize", "format", "url"])
def test_json_values_of_any_type_raise_nothing_but_call_errors(name: str, value: object) -> None:
    body = {"image": base64.b64encode(photo()).decode(), name: value}
    for dialect in DIALECTS:
        try:
            dialect.parse(posted("/", body, {"model": "yolo11n"}), Desk())
        except errors.CallError as error:
            json.loads(dialect.refuse(error, posted("/", body)).body)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_long_text_of_labels_is_read_also_before_the_picture(dialect: Dialect) -> None:
    labels = [f"a thing of kind {number}" for number in range(1000)]
    body = {"candidate_labels": ",".join(labels), "image": base64.b64encode(photo()).decode()}
    (call,) = dialect.parse(posted("/", body | {"model": "yolo11n"}, {"model": "yolo11n"}), Desk()).calls
    assert call.options.candidate_labels == tuple(labels)
