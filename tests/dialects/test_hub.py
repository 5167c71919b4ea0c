"""The HUB API: its five tasks byte for byte, its metadata, what it refuses."""

from __future__ import annotations

import asyncio
import base64
import json
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from yolo_made import BOXES, LABELS, NOTHING, ORIENTED, POSE, SEGMENT, Desk, answer, card, form, photo, posted, told

from saccade import errors
from saccade.call import Answer
from saccade.card import Card
from saccade.dialects.dialect import Dialect, Incoming
from saccade.dialects.hub import Hub
from saccade.dialects.platform import Platform
from saccade.dialects.yolo_v1 import YoloV1

ID = "AbCdEfGhIjKlMnOpQrSt"
KEY = "57ee9a" * 7
FORM = {"model": f"https://hub.ultralytics.com/models/{ID}", "imgsz": "640", "conf": "0.25", "iou": "0.45"}


def call(fields: dict[str, str] | None = None, files: dict[str, bytes] | None = None, **more: Any) -> Incoming:
    return form("/", FORM if fields is None else fields, {"file": photo()} if files is None else files, **more)


def image(*answers: Answer) -> Any:
    return json.loads(told(Hub(), call(), *answers).body)["images"][0]


def test_detection_byte_for_byte() -> None:
    outgoing = told(Hub(), call(), answer(BOXES))
    assert outgoing.body.startswith(
        b'{"images":[{"results":[{"box":{"x1":118.0,"x2":416.0,"y1":112.0,"y2":660.0},"class":0,"confidence":0.92,'
        b'"name":"person"},{"box":{"x1":10.12346,"x2":30.25,"y1":20.5,"y2":40.0},"class":27,"confidence":0.51235,'
        b'"name":"tie"}],"shape":[750,600],"speed":{"inference":200.8,"postprocess":0.8,"preprocess":2.8}}],'
        b'"metadata":{"functionTimeAlive":'
    )


def test_the_other_tasks() -> None:
    assert image(answer(SEGMENT))["results"][0]["segments"] == {
        "x": [234.375, 234.375, 303.51562],
        "y": [351.5625, 373.82812, 373.82812],
    }
    pose = image(answer(POSE))["results"][0]["keypoints"]
    assert list(pose) == ["visible", "x", "y"]
    assert pose["visible"] == [0.99094, 0.25]
    assert list(image(answer(ORIENTED))["results"][0]["box"]) == ["x1", "x2", "x3", "x4", "y1", "y2", "y3", "y4"]
    assert [item["class"] for item in image(answer(LABELS))["results"]] == [2, 3, 4, 0, 5]
    assert image(answer(NOTHING))["results"] == []


def test_one_label_in_the_strict_form() -> None:
    body = json.loads(told(Hub(topk=1), call(), answer(LABELS)).body)
    assert body["images"][0]["results"] == [{"class": 2, "confidence": 0.4, "name": "c"}]


class Version(msgspec.Struct, forbid_unknown_fields=True):
    python: str
    torch: str
    torchvision: str
    ultralytics: str


class Metadata(msgspec.Struct, forbid_unknown_fields=True):
    functionTimeAlive: float
    functionTimeCall: float
    imageCount: int
    model: str
    version: Version


class Typed(msgspec.Struct, forbid_unknown_fields=True):
    images: list[dict[str, Any]]
    metadata: Metadata


def test_a_strictly_typed_client_can_read_it() -> None:
    typed = msgspec.json.decode(told(Hub(), call(), answer(BOXES)).body, type=Typed, strict=True)
    assert typed.metadata.imageCount == 1
    assert typed.metadata.model == ID
    assert typed.metadata.functionTimeAlive > 12


class Replaced(Desk):
    """A dedicated endpoint: whatever a caller names, it is this model."""

    def card(self, ref: str) -> Card:
        return card("yolo26n")


@pytest.mark.parametrize("dialect", [Hub(), Platform(), YoloV1()], ids=lambda dialect: dialect.name)
def test_an_answer_names_the_model_that_gave_it_though_the_caller_named_another(dialect: Dialect) -> None:
    outgoing = told(dialect, call(match={"model": ID}), answer(BOXES), desk=Replaced())
    assert json.loads(outgoing.body)["metadata"]["model"] == "yolo26n"


def test_a_text_far_longer_than_any_address_is_not_looked_into() -> None:
    """A key would be looked for at each of its letters, and nothing else be done meanwhile."""
    address = f"https://hub.ultralytics.com/models/{ID}?tab="
    assert Hub().parse(call({"model": address + "a" * 4000}), Desk()).calls
    for text in (address + "a" * 5000, "a" * 2_000_000):
        with pytest.raises(errors.UnknownModel, match="no model's name"):
            Hub().parse(call({"model": text}), Desk())


@pytest.mark.parametrize(
    "ref",
    [
        f"https://hub.ultralytics.com/models/{ID}",
        f"https://hub.ultralytics.com/models/{ID}?tab=deploy",
        f"https://hub.ultralytics.com/models/{ID}/#deploy",
        f"http://hub.ultralytics.com/models/{ID}?api_key=verysecret",
        ID,
        f"ul://somebody/project/{ID}",
        f'"{ID}"',
        f"{KEY}_{ID}",
    ],
)
def test_the_model_in_all_spellings_and_never_its_query(ref: str) -> None:
    incoming = call({"model": ref})
    assert Hub().parse(incoming, Desk()).calls[0].model == ID
    body = told(Hub(), incoming, answer(BOXES)).body
    assert b"verysecret" not in body
    assert KEY.encode() not in body


def test_a_key_before_an_unknown_models_id_is_not_told() -> None:
    with pytest.raises(errors.UnknownModel) as found:
        Hub().parse(call({"model": f"{KEY}_unknown"}), Desk())
    assert KEY not in found.value.message


def test_a_key_behind_what_is_no_models_name_is_not_told() -> None:
    with pytest.raises(errors.UnknownModel, match="no model's name") as found:
        Hub().parse(call({"model": "_best?api_key=verysecret"}), Desk())
    assert "verysecret" not in found.value.message


@pytest.mark.parametrize("ref", ["yolo11n.pt", "YOLO11n", "somebody/project/yolo11n"])
def test_an_answer_calls_the_model_as_the_caller_did(ref: str) -> None:
    body = json.loads(told(Hub(), call({"model": ref}), answer(BOXES)).body)
    assert body["metadata"]["model"] == ref


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("https://huggingface.co/owner/vit/tree/main", "owner/vit"),
        ("https://hf.co/owner/vit/tree/v1", "owner/vit@v1"),
        ("hf://owner/vit", "owner/vit"),
        ("owner/vit/", "owner/vit"),
    ],
)
def test_the_address_of_a_page_of_the_hugging_face_hub(ref: str, name: str) -> None:
    assert Hub().parse(call({"model": ref}), Desk(card(name), card("other"))).calls[0].model == name


def test_the_model_may_come_in_a_part_with_a_files_name() -> None:
    files = {"model": ID.encode(), "conf": b"0.5", "file": photo()}
    (made,) = Hub().parse(call({}, files), Desk()).calls
    assert (made.model, made.options.conf, made.media) == (ID, 0.5, photo())


def test_an_official_name() -> None:
    assert Hub().parse(call({"model": "YOLO11n.pt"}), Desk()).calls[0].model == "yolo11n"


def test_no_model_is_refused_where_there_are_several_and_not_needed_where_there_is_one() -> None:
    with pytest.raises(errors.BadInput, match="model"):
        Hub().parse(call({}), Desk())
    assert Hub().parse(call({}), Desk(card("only"))).calls[0].model == "only"


def test_a_default_is_for_calls_that_name_no_model() -> None:
    assert Hub(default="yolo11n").parse(call({}), Desk()).calls[0].model == "yolo11n"
    assert Hub(default="yolo11n").parse(call(), Desk()).calls[0].model == ID


def test_no_file_is_refused() -> None:
    with pytest.raises(errors.BadInput, match="file"):
        Hub().parse(call(files={}), Desk())


def test_errors_say_the_same_under_both_words() -> None:
    outgoing = Hub().refuse(errors.BadInput("no"), call())
    assert (outgoing.status, json.loads(outgoing.body)) == (400, {"error": "no", "message": "no"})
    busy = Hub().refuse(errors.StillLoading("soon", retry_after_s=0.2), call())
    assert (busy.status, dict(busy.headers)["Retry-After"]) == (503, "1")
    assert Hub().refuse(errors.NoKey("key"), call()).status == 401
    assert Hub().refuse(errors.Forbidden("key"), call()).status == 403
    assert Hub().refuse(errors.TooLarge("big"), call()).status == 413
    assert Hub().refuse(errors.DeadlinePassed("late"), call()).status == 504


def test_what_it_claims_on_the_shared_path() -> None:
    claims = Hub().claims
    assert claims(call())
    assert claims(posted("/", {"image": "aaaa", "model": "m"}))
    assert not claims(posted("/", {"inputs": "aaaa", "parameters": {"threshold": 0.5}}))
    assert not claims(posted("/", {"instances": [{"image": "aaaa"}], "parameters": {"threshold": 0.5}}))
    assert not claims(call(files={"inputs": photo()}))
    bare = call(files={"inputs": photo()}).body.replace(b'"inputs"', b"inputs")  # as .NET writes it
    assert not claims(typed(bare, "multipart/form-data; boundary=x"))
    assert claims(
        typed(bare.replace(b" name=inputs", b" name=file; filename=inputs"), "multipart/form-data; boundary=x")
    )
    assert not claims(Incoming("POST", "/", headers={"content-type": "image/jpeg"}, body=photo()))
    assert claims(Incoming("POST", "/", headers={"content-type": "image/jpeg", "x-api-key": "k"}, body=photo()))
    for unread in ("application/json", "application/x-www-form-urlencoded"):
        assert claims(Incoming("POST", "/", headers={"content-type": unread, "x-api-key": "k"}))
        assert not claims(Incoming("POST", "/", headers={"content-type": unread}))


@pytest.mark.parametrize("dialect", [Hub(), Platform()])
def test_a_query_in_its_words_claims_what_has_no_other_words(dialect: Dialect) -> None:
    path = dialect.routes[0].path
    for name in (
        "file",
        "image",
        "source",
        "confidence",
        "size",
        "iou",
        "normalize",
        "classes[]",
        "annotated",
        "format",
    ):
        for body in (b"", photo()):
            assert dialect.claims(Incoming("POST", path, query=((name, "1"),), body=body)), name
    for name in ("threshold", "top_k", "candidate_labels", "candidate_labels[]", "subtask", "inputs"):
        assert not dialect.claims(Incoming("POST", path, query=((name, "1"),), body=photo())), name
    assert not dialect.claims(Incoming("POST", path, query=(("model", ""), ("file", "")), body=photo()))
    inputs = json.dumps({"inputs": "aaaa"}).encode()
    assert not dialect.claims(Incoming("POST", path, query=(("file", "https://a.b/c"),), body=inputs))


def test_an_address_in_the_query_needs_neither_body_nor_key() -> None:
    incoming = Incoming("POST", "/", query=(("file", "https://a.b/c"),))
    assert Hub().claims(incoming)
    assert Hub(default=ID).parse(incoming, Desk()).calls[0].media_url == "https://a.b/c"


TYPES = ("application/json", "application/x-www-form-urlencoded", "text/plain", "image/jpeg", None)


def typed(body: bytes, kind: str | None, **headers: str) -> Incoming:
    return Incoming("POST", "/", headers=headers | ({} if kind is None else {"content-type": kind}), body=body)


@pytest.mark.parametrize("kind", [*TYPES, "multipart/form-data; boundary=x"])
def test_json_is_judged_by_its_words_whatever_it_is_said_to_be(kind: str | None) -> None:
    text = base64.b64encode(photo()).decode()
    ours = json.dumps({"model": ID, "image": text, "confidence": 0.5}).encode()
    assert Hub().claims(typed(ours, kind))
    (made,) = Hub().parse(typed(ours, kind), Desk()).calls
    assert (made.model, made.media, made.options.conf) == (ID, photo(), 0.5)
    for theirs in (
        {"image": text, "parameters": {"threshold": 0.5}},
        {"image": text, "options": {"wait_for_model": True}},
        {"parameters": {"threshold": 0.3, "note": "x" * 5000}, "inputs": text},
        {"model": "m", "image": "x" * 5000, "inputs": text},
    ):
        assert not Hub().claims(typed(json.dumps(theirs).encode(), kind)), theirs


def test_a_photo_is_judged_by_the_header_of_the_key_whatever_it_is_said_to_be() -> None:
    for kind in TYPES:
        assert not Hub().claims(typed(photo(), kind))
        assert Hub().claims(typed(photo(), kind, **{"x-api-key": "k"}))


def test_damaged_json_is_for_whose_words_it_begins_with() -> None:
    assert Hub().claims(typed(b'{"model":"m","image":', "application/json"))
    assert not Hub().claims(typed(b'{"inputs":"aaaa","model":', "application/json"))
    assert not Hub().claims(typed(b'["model"]', "application/json", **{"x-api-key": "k"}))


@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-www-form-urlencoded", "image/jpeg", "multipart/mixed"]
)
def test_a_form_under_another_content_type_is_named_for_what_it_is(kind: str) -> None:
    """``requests.post(url, files=..., headers={"Content-Type": "application/json"})``."""
    with pytest.raises(errors.BadInput, match=r"is a multipart form, but its Content-Type is '.*'. Leave"):
        Hub().parse(typed(call().body, kind, **{"x-api-key": "k"}), Desk())


@pytest.mark.parametrize("sent", [[255, 216, 255], {"type": "Buffer", "data": [255, 216, 255]}])
def test_bytes_that_became_numbers_in_json_are_named_for_what_they_are(sent: object) -> None:
    with pytest.raises(errors.BadInput, match="a list of numbers was given"):
        Hub().parse(posted("/", {"model": ID, "file": sent}), Desk())


def test_a_url_encoded_form_is_for_whose_words_it_has() -> None:
    kind = "application/x-www-form-urlencoded"
    assert Hub().claims(typed(b"threshold=0.5&image=aaaa", kind))
    assert not Hub().claims(typed(b"threshold=0.5&inputs=aaaa", kind))
    assert not Hub().claims(typed(b"inputs=aaaa&model=m", kind, **{"x-api-key": "k"}))


def test_a_form_whose_part_inputs_comes_late_is_not_claimed() -> None:
    assert not Hub().claims(form("/", {"note": "x" * 5000, "inputs": "aaaa"}))


GIF = b"GIF89a" + bytes(20)


def test_a_gif_is_a_video_with_an_entry_per_frame() -> None:
    incoming = call(files={"file": GIF})
    clip = Hub().parse(incoming, Desk()).calls[0].clip
    assert clip is not None
    assert clip.stride == 1
    body = json.loads(told(Hub(), incoming, answer(BOXES), answer(NOTHING), answer(BOXES)).body)
    assert [len(entry["results"]) for entry in body["images"]] == [2, 0, 2]
    assert body["metadata"]["imageCount"] == 3


@pytest.mark.parametrize(
    ("accept", "start"), [("application/x-ndjson", b"{"), ("text/event-stream", b"event: frame\n")]
)
def test_frames_can_be_streamed_one_by_one(accept: str, start: bytes) -> None:
    ask = Hub().parse(call(files={"file": GIF}, headers={"accept": accept}), Desk())
    assert ask.streamed
    assert ask.stream_type == accept

    async def answers(broken: bool) -> AsyncIterator[Answer]:
        yield answer(BOXES)
        if broken:
            raise errors.TooLarge("Too many frames.")
        yield answer(NOTHING)

    async def lines(broken: bool) -> list[bytes]:
        return [line async for line in Hub().render_stream(ask, answers(broken))]

    whole = asyncio.run(lines(False))
    assert len(whole) == 3
    assert all(line.startswith(start) for line in whole[:2])
    assert b'"imageCount":2' in whole[2]
    assert b"Too many frames." in asyncio.run(lines(True))[-1]


def test_a_drawn_picture_is_not_made_of_a_video() -> None:
    with pytest.raises(errors.BadOptions):
        Hub().parse(call({**FORM, "annotated": "true"}, files={"file": GIF}), Desk())


def test_an_export_of_a_video_is_a_whole_file_and_no_stream_of_entries() -> None:
    incoming = call({**FORM, "format": "csv"}, files={"file": GIF}, headers={"accept": "application/x-ndjson"})
    ask = Hub().parse(incoming, Desk())
    assert not ask.streamed
    assert Hub().render(ask, [answer(BOXES), answer(BOXES)]).body.startswith(b"frame,class,name,")


@pytest.mark.parametrize(("stride", "frames"), [("1", [0, 1]), ("5", [4, 9])])
def test_exports_of_a_video_tell_which_frames_of_it_they_speak_of(stride: str, frames: list[int]) -> None:
    def told(form: str) -> bytes:
        ask = Hub().parse(call({**FORM, "format": form, "vid_stride": stride}, files={"file": GIF}), Desk())
        return Hub().render(ask, [answer(SEGMENT), answer(SEGMENT)]).body

    assert [int(line.split(b",")[0]) for line in told("csv").splitlines()[1:]] == frames
    assert [entry["image_id"] for entry in json.loads(told("coco"))] == frames
    assert [feature["properties"]["frame"] for feature in json.loads(told("geojson"))["features"]] == frames


def test_the_outlines_of_a_long_video_are_written_in_little_more_room_than_they_take() -> None:
    outline = np.random.default_rng(0).random((10_000, 2), np.float32)
    crowd = answer(replace(SEGMENT, polygons=(outline,)))
    ask = Hub().parse(call(files={"file": GIF}), Desk())
    tracemalloc.start()
    body = Hub().render(ask, [crowd] * 50).body
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(json.loads(body)["images"]) == 50
    assert peak < 3 * len(body)
