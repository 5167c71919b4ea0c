"""The Hugging Face dialect, with made answers: requests in, calls out; results in, JSON out; errors in its words."""

from __future__ import annotations

import base64
import contextlib
import json
import random
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, Literal
from urllib.parse import urlencode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade import errors
from saccade.call import Answer, Options
from saccade.card import Card, Task
from saccade.dialects.dialect import Incoming, ModelState
from saccade.dialects.huggingface import DIALECT, HuggingFaceAsk, place_of
from saccade.engine.cache import key_of
from saccade.meter import Timings
from saccade.results import Boxes, Depth, Grid, Keypoints, Labels, Masks, OrientedBoxes, Result

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + random.Random(0).randbytes(20_000)
TEXT = base64.b64encode(JPEG).decode()

CARDS = {
    "detr": "detect",
    "facebook/detr-resnet-50": "detect",
    "google/vit": "classify",
    "mask2former": "segment",
    "pose": "pose",
    "clip": "zero-shot-classify",
    "depth": "depth",
}


class House:
    """A desk with models that are only names."""

    def __init__(self, default: str | None = "detr", states: dict[str, ModelState] | None = None) -> None:
        self.default = default
        self.states = states or {}

    def card(self, ref: str) -> Card:
        if ref not in CARDS:
            missing = errors.UnknownModel(f"No model is called '{ref}'. Add it with: saccade pull {ref}")
            missing.offered = ref if ref == "picodet-s" else ""
            raise missing
        task: Task = CARDS[ref]  # type: ignore[assignment]
        return Card(name=ref, task=task, family="none", runtime="none", revision="abc")

    def cards(self) -> Sequence[Card]:
        return [self.card(ref) for ref in CARDS]

    def state(self, ref: str) -> ModelState:
        return self.states.get(ref, "warm")

    def device(self) -> Literal["cpu", "gpu"]:
        return "cpu"

    def default_model(self) -> str | None:
        return self.default

    def uptime_s(self) -> float:
        return 1.0


def post(path: str, body: bytes | dict[str, Any] | list[Any], query: str = "", **headers: str) -> Incoming:
    pairs = tuple((pair.partition("=")[0], pair.partition("=")[2]) for pair in query.split("&") if pair)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Incoming("POST", path, pairs, {k.replace("_", "-"): v for k, v in headers.items()}, content)


def ask(path: str, body: bytes | dict[str, Any] | list[Any], query: str = "", **headers: str) -> HuggingFaceAsk:
    return DIALECT.parse(post(path, body, query, **headers), House())


def error_of(
    error: errors.Error, path: str = "/models/detr", body: bytes = JPEG, **headers: str
) -> tuple[int, Any, dict[str, str]]:
    outgoing = DIALECT.refuse(error, post(path, body, **headers))
    return outgoing.status, json.loads(outgoing.body), dict(outgoing.headers)


# --- where a request goes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "model", "task"),
    [
        ("/models/facebook/detr-resnet-50", "facebook/detr-resnet-50", ""),
        ("/models/detr", "detr", ""),
        ("/pipeline/object-detection/facebook/detr-resnet-50", "facebook/detr-resnet-50", "object-detection"),
        ("/pipeline/object-detection/detr", "detr", "object-detection"),
        ("/models/facebook/detr-resnet-50/pipeline/object-detection", "facebook/detr-resnet-50", "object-detection"),
        ("/hf-inference/models/facebook/detr-resnet-50", "facebook/detr-resnet-50", ""),
        ("/hf-inference/models/detr/pipeline/object-detection", "detr", "object-detection"),
        ("/api/inference-proxy/hf-inference/models/detr", "detr", ""),
        ("/", "", ""),
        ("/predict", "", ""),
        ("/invocations", "", ""),
        ("/models/detr/predict", "detr", ""),
        ("//models//detr//", "detr", ""),
    ],
)
def test_every_url_form_reaches_the_model(path: str, model: str, task: str) -> None:
    assert place_of(path)[:2] == (model, task)
    (call,) = ask(path, JPEG).calls
    assert call.model == (model or "detr")
    assert call.media == JPEG


def test_a_task_that_the_model_does_not_do_is_refused_in_the_clients_own_words() -> None:
    with pytest.raises(errors.WrongTask) as found:
        ask("/pipeline/object-detection/google/vit", JPEG)
    assert found.value.message == (
        "Model 'google/vit' doesn't support task 'object-detection'. "
        "Supported tasks: 'image-classification', got: 'object-detection'"
    )
    assert ask("/pipeline/object-detection/pose", JPEG).calls[0].model == "pose"


def test_the_model_is_looked_up_before_the_body_is_read() -> None:
    with pytest.raises(errors.UnknownModel):
        ask("/models/nobody/knows", b"")


def test_a_root_without_a_default_model_says_where_to_post() -> None:
    with pytest.raises(errors.UnknownModel, match="POST to /models/NAME"):
        DIALECT.parse(post("/", JPEG), House(default=None))


@pytest.mark.parametrize("path", ["/", "/predict", "/invocations"])
def test_a_root_asks_the_model_that_the_body_names_and_never_the_default_instead(path: str) -> None:
    assert ask(path, {"inputs": TEXT, "model": "google/vit"}).calls[0].model == "google/vit"
    assert ask(path, {"instances": [TEXT], "model": "google/vit"}).calls[0].model == "google/vit"
    assert ask(path, {"inputs": TEXT, "model": "google/vit"}, "model=detr").calls[0].model == "google/vit"
    assert ask(path, {"inputs": TEXT, "model": None}, "model=google/vit").calls[0].model == "google/vit"
    assert ask(path, {"inputs": TEXT, "model": ""}, "model=google/vit").calls[0].model == "google/vit"
    assert ask(path, {"inputs": TEXT, "model": ""}).calls[0].model == "detr"
    with pytest.raises(errors.BadOptions, match="`model` must be text"):
        ask(path, {"inputs": TEXT, "model": 3})
    unknown = post(path, {"inputs": TEXT, "model": "nobody/knows"})
    with pytest.raises(errors.UnknownModel) as caught:
        DIALECT.parse(unknown, House())
    assert json.loads(DIALECT.refuse(caught.value, unknown).body) == {"error": "Model nobody/knows does not exist"}


def test_a_model_in_the_body_means_nothing_where_the_path_names_one() -> None:
    assert ask("/models/detr", {"inputs": TEXT, "model": "google/vit"}).calls[0].model == "detr"


def test_shared_paths_are_left_to_the_apis_that_send_forms_and_key_headers() -> None:
    assert DIALECT.claims(post("/models/detr", JPEG, x_api_key="k"))
    assert DIALECT.claims(post("/", JPEG, authorization="Bearer hf_x"))
    assert not DIALECT.claims(post("/predict", JPEG, x_api_key="k"))
    assert not DIALECT.claims(post("/predict", b"--x", content_type="multipart/form-data; boundary=x"))


# --- what a body is -------------------------------------------------------------------------------------------------

FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    + JPEG
    + b'\r\n--b\r\nContent-Disposition: form-data; name="threshold"\r\n\r\n0.25\r\n--b--\r\n'
)
RAW = [None, "image/jpeg", "application/json", "application/x-www-form-urlencoded", "text/plain", "multipart/form-data"]


@pytest.mark.parametrize("kind", RAW)
def test_raw_bytes_are_an_image_under_any_content_type(kind: str | None) -> None:
    headers = {} if kind is None else {"content_type": kind}
    assert ask("/models/detr", JPEG, **headers).calls[0].media == JPEG


@pytest.mark.parametrize("kind", [None, "application/json", "image/jpeg", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize(
    "body",
    [
        {"inputs": TEXT, "parameters": {"threshold": 0.25}},
        {"image": TEXT, "inputs": "ignored", "parameters": {"threshold": 0.25}},
        {"inputs": {"image": TEXT}, "parameters": {"threshold": "0.25"}},
        {"parameters": {"threshold": 0.25}, "inputs": "data:image/jpeg;base64," + TEXT, "unknown": 1},
    ],
)
def test_json_is_json_under_any_content_type(body: dict[str, Any], kind: str | None) -> None:
    headers = {} if kind is None else {"content_type": kind}
    (call,) = ask("/models/detr", body, **headers).calls
    assert call.media == JPEG
    assert call.options.conf == 0.25


def test_an_object_without_members_may_be_a_list_as_php_writes_it() -> None:
    (call,) = ask("/models/detr", {"inputs": TEXT, "parameters": [], "options": []}).calls
    assert (call.media, call.options.conf) == (JPEG, 0.5)


def test_an_object_that_javascript_sent_as_text_is_no_picture() -> None:
    with pytest.raises(errors.BadInput, match="as JavaScript writes an object"):
        ask("/models/detr", b"[object Object]", content_type="text/plain;charset=UTF-8")


def test_a_form_holds_the_image_and_the_parameters() -> None:
    (call,) = ask("/models/detr", FORM, content_type="multipart/form-data; boundary=b").calls
    assert call.media == JPEG
    assert call.options.conf == 0.25
    for before in (b"", b"\r\n"):
        with pytest.raises(errors.BadInput, match="boundary"):
            ask("/models/detr", before + FORM, content_type="multipart/form-data")


@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "application/json"])
@pytest.mark.parametrize(
    "body",
    [
        urlencode({"inputs": TEXT, "threshold": 0.25}),
        urlencode({"threshold": 0.25, "image": "data:image/jpeg;base64," + TEXT}),
        urlencode({"parameters": '{"threshold":0.25}', "inputs": TEXT}),
        f"inputs={TEXT}&threshold=0.25",
    ],
)
def test_a_url_encoded_form_holds_the_image_and_the_parameters(body: str, kind: str | None) -> None:
    """``requests.post(url, data={"inputs": text})``; some leave the plus signs of base64 as they are."""
    headers = {} if kind is None else {"content_type": kind}
    for path in ("/models/detr", "/"):
        (call,) = ask(path, body.encode(), **headers).calls
        assert (call.media, call.options.conf) == (JPEG, 0.25)


@pytest.mark.parametrize("body", [b"inputs==", b"image=/9j/4AAQ=\xff", b"other=inputs=abc", b"a=b&c=d", b"inputsx=abc"])
def test_what_only_resembles_a_url_encoded_form_is_refused_or_no_form(body: bytes) -> None:
    with contextlib.suppress(errors.BadInput):
        assert ask("/models/detr", body).calls[0].media == body


@pytest.mark.parametrize("first", [True, False])
def test_a_parameter_counts_although_its_part_has_a_files_name(first: bool) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\n%b\r\n'
    parts = [part % (name, name, data) for name, data in ((b"threshold", b"0.25"), (b"file", JPEG))]
    body = b"".join(parts if first else reversed(parts)) + b"--b--\r\n"
    (call,) = ask("/models/detr", body, content_type="multipart/form-data; boundary=b").calls
    assert (call.media, call.options.conf) == (JPEG, 0.25)


def test_a_forms_empty_file_gives_way_to_the_image_that_was_sent() -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="photo"; filename=""\r\n\r\n\r\n'
    text = b'--b\r\nContent-Disposition: form-data; name="inputs"\r\n\r\n%b\r\n--b--\r\n' % TEXT.encode()
    named = head.replace(b'filename=""', b'filename="nothing.jpg"')
    for body in (head + text, head + FORM, named + text, named + FORM):
        assert ask("/models/detr", body, content_type="multipart/form-data; boundary=b").calls[0].media == JPEG


def test_a_form_with_several_images_is_told_that_the_first_alone_was_looked_at() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n%b\r\n'
    for images, warning in (
        ((JPEG, JPEG + b"second"), "only the first of 2 files was looked at; a list in `inputs` may hold several"),
        ((b"", JPEG), ""),
    ):
        body = b"".join(part % image for image in images) + b"--b--\r\n"
        found = ask("/models/detr", body, content_type="multipart/form-data; boundary=b")
        assert found.calls[0].media == JPEG
        assert found.warning.removeprefix("parameters; ") == warning


@pytest.mark.parametrize("filename", ["", '; filename="parameters"'])
def test_a_forms_part_of_parameters_is_no_image_even_if_it_has_a_files_name(filename: str) -> None:
    part = f'--b\r\nContent-Disposition: form-data; name="parameters"{filename}\r\n\r\n{{"threshold":0.125}}\r\n'
    options = '--b\r\nContent-Disposition: form-data; name="options"\r\n\r\n{"use_cache":false}\r\n'
    body = part.encode() + options.encode() + FORM.replace(b'name="threshold"', b'name="other"')
    (call,) = ask("/models/detr", body, content_type="multipart/form-data; boundary=b").calls
    assert (call.media, call.options.conf, call.use_cache) == (JPEG, 0.125, False)


def test_a_forms_part_that_is_no_json_is_named() -> None:
    """It was 'The body', of which the caller never wrote any JSON."""
    body = FORM.replace(b'name="threshold"', b'name="parameters"').replace(b"0.25", b"threshold=1")
    with pytest.raises(errors.BadOptions, match=r"^`parameters` must be a JSON object, but the text 'threshold=1' was"):
        ask("/models/detr", body, content_type="multipart/form-data; boundary=b")
    empty = FORM.replace(b'name="threshold"', b'name="parameters"').replace(b"0.25", b"")
    assert ask("/models/detr", empty, content_type="multipart/form-data; boundary=b").calls[0].media == JPEG


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b" \r\n\t", b"\xef\xbb\xbf \n", b"\n" * 5000])
def test_json_is_known_after_a_byte_order_mark_and_blanks(before: bytes) -> None:
    (call,) = ask("/models/detr", before + json.dumps({"inputs": TEXT}).encode()).calls
    assert call.media == JPEG


def test_a_body_that_is_base64_text_is_the_image_in_it() -> None:
    assert ask("/models/detr", TEXT.encode()).calls[0].media == JPEG
    assert ask("/models/detr", b"data:image/jpeg;base64," + TEXT.encode()).calls[0].media == JPEG
    assert ask("/models/detr", b'"' + TEXT.encode() + b'"').calls[0].media == JPEG
    assert ask("/models/detr", b"AAAABBBB").calls[0].media == b"AAAABBBB"


def test_several_images_are_several_calls() -> None:
    many = ask("/models/detr", {"inputs": [TEXT, {"image": TEXT}], "parameters": {"threshold": 0.1}})
    assert [call.media for call in many.calls] == [JPEG, JPEG]
    assert many.shape == "list"
    vertex = ask("/predict", {"instances": [TEXT, {"b64": TEXT}], "parameters": {"threshold": 0.1}})
    assert [call.options.conf for call in vertex.calls] == [0.1, 0.1]
    assert vertex.shape == "predictions"


@pytest.mark.parametrize("body", [b"", b"  \n", b"{}", b'{"inputs":null}', b'{"parameters":{}}'])
def test_a_body_without_an_image_is_refused_in_the_servers_words(body: bytes) -> None:
    with pytest.raises(errors.BadInput) as found:
        ask("/models/detr", body)
    assert found.value.message == "Body needs to provide a inputs key, received: " + body.decode().strip()


def test_a_body_that_is_told_back_is_one_line_without_signs_that_a_terminal_obeys() -> None:
    with pytest.raises(errors.BadInput) as found:
        ask("/models/detr", '{\n "data\x7f\x9b\u202e": 1\n}'.encode())
    assert found.value.message == 'Body needs to provide a inputs key, received: {  "data   ": 1 }'


@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../../etc/passwd", "file:///etc/hostname", "C:\\cats.jpg", "cats.jpg"]
)
def test_a_string_is_never_a_file_name(name: str) -> None:
    with pytest.raises(errors.BadInput, match="names of files are never opened"):
        ask("/models/detr", {"inputs": name})


def test_an_address_is_left_to_the_server() -> None:
    (call,) = ask("/models/detr", {"inputs": "https://example.org/cats.jpg"}).calls
    assert (call.media, call.media_url) == (b"", "https://example.org/cats.jpg")


@pytest.mark.parametrize("body", [b"{", b'{"inputs":', b'["', b'{"inputs":"\xff"}'])
def test_broken_json_is_told_only_to_those_who_declared_json(body: bytes) -> None:
    with pytest.raises(errors.BadInput, match="JSON"):
        ask("/models/detr", body, content_type="application/json; charset=utf-8")
    with pytest.raises(errors.BadInput, match="JSON"):
        ask("/models/detr", body, content_type="application/vnd.api+json")
    assert ask("/models/detr", body).calls[0].media == body


@pytest.mark.parametrize(
    ("body", "flaw"),
    [
        (b'{"inputs": "AAAA",}', "trailing comma in object"),
        (b"{'inputs': 'AAAA'}", "object keys must be strings"),
        (b'{"inputs":"' + TEXT.encode(), "Input data was truncated"),
        (b'["\xff"]', "The JSON body is not UTF-8 text (byte 2)"),
    ],
)
def test_what_is_no_image_either_is_told_what_is_wrong_with_its_json(body: bytes, flaw: str) -> None:
    no_image = errors.BadInput("cannot identify image file: it looks like JSON. Accepted are JPEG and TGA")
    status, told, _ = error_of(no_image, body=body)
    assert status == 400
    assert told["error"].startswith("cannot identify image file: it looks like JSON. Accepted are JPEG and TGA. The ")
    assert flaw in told["error"]
    with pytest.raises(errors.BadInput, match="JSON"):  # and not that labels are missing, which it may well hold
        ask("/models/clip", body)


def test_an_image_that_begins_as_json_does_is_not_told_of_json() -> None:
    header = b"{" + bytes(17) + b"cut off"
    assert error_of(errors.BadInput("it is cut off"), body=header)[1] == {
        "error": "cannot identify image file: it is cut off"
    }
    with pytest.raises(errors.BadOptions, match="`candidate_labels` is missing"):
        ask("/models/clip", header)


@pytest.mark.parametrize(
    "body", [{"inputs": 3}, {"inputs": []}, {"inputs": [1]}, {"inputs": [TEXT] * 65}, {"inputs": {}}, {"inputs": True}]
)
def test_what_is_no_image_string_is_bad_input(body: dict[str, Any]) -> None:
    with pytest.raises(errors.BadInput):
        ask("/models/detr", body)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (list(JPEG), "a list of numbers was given"),
        ({"type": "Buffer", "data": list(JPEG)}, "a list of numbers was given"),
        ({"image_url": "https://example.org/cats.jpg"}, "an object without the key `image`"),
        ([[1, 2]], "a list of numbers was given"),
    ],
)
def test_bytes_that_became_something_else_in_json_are_named_for_what_they_are(sent: Any, words: str) -> None:
    with pytest.raises(errors.BadInput, match=words):
        ask("/models/detr", {"inputs": sent})


# --- parameters -----------------------------------------------------------------------------------------------------


def options(model: str, parameters: Any = None, query: str = "") -> Options:
    body: dict[str, Any] = {"inputs": TEXT} if parameters is None else {"inputs": TEXT, "parameters": parameters}
    return ask(f"/models/{model}", body, query).calls[0].options


def test_defaults_are_those_of_the_pipelines() -> None:
    assert options("google/vit") == Options(top_k=5)
    assert options("detr") == Options(conf=0.5)
    assert options("mask2former") == Options(conf=0.9, mask_threshold=0.5, overlap_threshold=0.5, mask_form="png")
    nulls = {"threshold": None, "subtask": None, "mask_threshold": None, "overlap_mask_area_threshold": None}
    assert options("mask2former", nulls) == options("mask2former")
    assert options("google/vit", {"top_k": None, "function_to_apply": None}) == options("google/vit")


def test_parameters_are_read_in_every_spelling() -> None:
    assert options("google/vit", {"top_k": "2", "function_to_apply": "SIGMOID"}) == Options(
        top_k=2, activation="sigmoid"
    )
    assert options("google/vit", {"top_k": 3.0, "function_to_apply": "default"}) == Options(top_k=3)
    assert options("detr", {"threshold": -1}).conf == -1.0
    assert options("detr", {"threshold": "0.99"}).conf == 0.99
    given = {"subtask": "semantic", "threshold": 0.1, "mask_threshold": 0.2, "overlap_mask_area_threshold": 0.3}
    assert options("mask2former", given) == Options(
        subtask="semantic", conf=0.1, mask_threshold=0.2, overlap_threshold=0.3, mask_form="png"
    )
    assert options("mask2former", {"subtask": ""}) == options("mask2former")


def test_empty_values_in_the_query_or_a_form_say_nothing() -> None:
    assert options("google/vit", query="top_k=&function_to_apply=") == options("google/vit")
    assert options("google/vit", query="top_k=3&top_k=").top_k == 3
    form = FORM.replace(b"\r\n0.25\r\n", b"\r\n\r\n")
    assert ask("/models/detr", form, content_type="multipart/form-data; boundary=b").calls[0].options.conf == 0.5


@pytest.mark.parametrize("top_k", [18446744073709551616, 1e300, "99999999999999999999"])
def test_more_labels_than_any_number_are_all_labels(top_k: object) -> None:
    card = House().card("google/vit")
    (call,) = ask("/models/google/vit", {"inputs": TEXT, "parameters": {"top_k": top_k}}).calls
    assert len(key_of(card, call, "f32")) == 32
    (call,) = ask("/models/google/vit", JPEG, f"top_k={top_k}").calls
    assert len(key_of(card, call, "f32")) == 32


def test_query_parameters_count_where_the_body_has_none() -> None:
    assert options("detr", query="threshold=0.3").conf == 0.3
    assert options("detr", {"threshold": 0.7}, query="threshold=0.3").conf == 0.7
    assert ask("/models/google/vit", JPEG, "top_k=2&function_to_apply=none").calls[0].options == Options(
        top_k=2, activation="none"
    )


@pytest.mark.parametrize(
    ("model", "parameters", "words"),
    [
        ("google/vit", {"top_k": 0}, "`top_k` must be a whole number of at least 1, but 0 was given."),
        ("google/vit", {"top_k": -1}, "`top_k` must be a whole number of at least 1, but -1 was given."),
        ("google/vit", {"top_k": 2.5}, "`top_k` must be a whole number of at least 1, but 2.5 was given."),
        ("google/vit", {"top_k": True}, "`top_k` must be a whole number of at least 1, but true was given."),
        (
            "google/vit",
            {"function_to_apply": "bogus"},
            "bogus is not a valid ClassificationFunction, please select one of ['sigmoid', 'softmax', 'none']",
        ),
        ("detr", {"threshold": "high"}, "`threshold` must be a number, but the text 'high' was given."),
        ("detr", {"threshold": [1]}, "`threshold` must be a number, but a list was given."),
        ("detr", [1], "`parameters` must be an object, but a list was given."),
        ("mask2former", {"subtask": "bogus"}, "Subtask bogus is not supported for model mask2former"),
        ("mask2former", {"mask_threshold": "x"}, "`mask_threshold` must be a number"),
        ("clip", {}, "`candidate_labels` is missing: the model looks for what it is told"),
        ("clip", {"candidate_labels": []}, "`candidate_labels` must be a list of texts"),
        ("clip", {"candidate_labels": " , "}, "`candidate_labels` must be a list of texts"),
        ("clip", {"candidate_labels": ["cat", " "]}, "One of `candidate_labels` is empty"),
        ("clip", {"candidate_labels": ["cat"] * 1001}, "`candidate_labels` has 1001 labels; at most 1000 are allowed"),
        ("clip", {"candidate_labels": [1]}, "`candidate_labels` must be a list of texts"),
        ("clip", {"candidate_labels": "a", "hypothesis_template": "x"}, "`hypothesis_template` must be a text with {}"),
    ],
)
def test_bad_parameters_are_refused_by_name(model: str, parameters: Any, words: str) -> None:
    with pytest.raises(errors.BadOptions) as found:
        options(model, parameters)
    assert found.value.message.startswith(words)


def test_candidate_labels_come_as_a_list_or_joined_by_commas_or_beside_the_image() -> None:
    wanted = Options(candidate_labels=("cat", "dog"))
    assert options("clip", {"candidate_labels": ["cat", "dog"]}) == wanted
    assert options("clip", {"candidate_labels": "cat, dog"}) == wanted
    beside = ask("/models/clip", {"inputs": {"image": TEXT, "candidateLabels": "cat,dog"}})
    assert beside.calls[0].options == wanted
    both = {"inputs": {"image": TEXT, "candidate_labels": "fox"}, "parameters": {"candidate_labels": ["cat", "dog"]}}
    assert ask("/models/clip", both).calls[0].options == wanted


@pytest.mark.parametrize("template", ["a photo of {}, {}", "a photo of {0}, {0}"])
def test_the_place_of_the_label_in_a_template_may_be_numbered(template: str) -> None:
    found = options("clip", {"candidate_labels": "cat", "hypothesis_template": template})
    assert found == Options(candidate_labels=("cat",), hypothesis_template="a photo of {}, {}")


@pytest.mark.parametrize("written", ["a," * 200_000, f"[{'1,' * 200_000}1]"])
def test_more_candidate_labels_than_anybody_needs_are_refused_before_they_are_read(written: str) -> None:
    with pytest.raises(errors.TooLarge, match="more than 100000 values"):
        options("clip", {"candidate_labels": written})


def test_candidate_labels_of_an_address_or_a_form_come_one_by_one_or_as_json() -> None:
    wanted = Options(candidate_labels=("cat", "big, black dog"))
    query = "candidate_labels=cat&candidate_labels=&candidate_labels=big, black dog"
    assert ask("/models/clip", JPEG, query).calls[0].options == wanted
    bracketed = "candidate_labels[]=cat&candidate_labels[]=big, black dog"
    assert ask("/models/clip", JPEG, bracketed).calls[0].options == wanted
    numbered = "candidate_labels[0]=cat&candidate_labels[1]=big, black dog"
    assert ask("/models/clip", JPEG, numbered).calls[0].options == wanted
    alone = ask("/models/clip", JPEG, "candidateLabels[]=big, black dog")
    assert (alone.calls[0].options.candidate_labels, alone.warning) == (("big, black dog",), "")
    assert options("clip", {"candidate_labels": '["cat", "big, black dog"]'}) == wanted
    assert options("clip", {"candidate_labels": "[cat, dog"}) == Options(candidate_labels=("[cat", "dog"))
    for field, filename in product(("candidate_labels", "candidate_labels[]"), (b"", b"; filename=x")):
        one_by_one = ((field, b"cat"), (field, b"big, black dog"), ("file", JPEG))
        parts = b"".join(
            b'--xx\r\ncontent-disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name.encode(), filename, value)
            for name, value in one_by_one
        )
        form = ask("/models/clip", parts + b"--xx--\r\n", content_type="multipart/form-data; boundary=xx")
        assert form.calls[0].options == wanted


MANY = [f"a thing of kind {number}" for number in range(1000)]


@pytest.mark.parametrize("filename", [b"", b"; filename=x"])
def test_as_many_labels_as_a_model_takes_come_one_by_one_in_a_form(filename: bytes) -> None:
    fields = (*(("candidate_labels", label.encode()) for label in MANY), ("file", JPEG))
    parts = b"".join(
        b'--xx\r\ncontent-disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name.encode(), filename, value)
        for name, value in fields
    )
    form = ask("/models/clip", parts + b"--xx--\r\n", content_type="multipart/form-data; boundary=xx")
    assert form.calls[0].options == Options(candidate_labels=tuple(MANY))


@pytest.mark.parametrize(
    "fields",
    [
        {"candidate_labels": MANY, "inputs": TEXT},
        {"candidate_labels": ",".join(MANY), "inputs": TEXT},
        {"inputs": TEXT, "candidate_labels": MANY},
        {"parameters": json.dumps({"candidate_labels": MANY}), "inputs": TEXT},
    ],
)
def test_a_url_encoded_form_may_have_many_labels_before_the_image(fields: dict[str, Any]) -> None:
    """``requests.post(url, data=fields)`` writes a list one by one."""
    (call,) = ask("/models/clip", urlencode(fields, doseq=True).encode()).calls
    assert (call.media, call.options) == (JPEG, Options(candidate_labels=tuple(MANY)))


@pytest.mark.parametrize("order", [("parameters", "inputs"), ("inputs", "parameters")])
def test_a_long_text_of_labels_is_read_wherever_it_stands(order: tuple[str, str]) -> None:
    values = {"inputs": TEXT, "parameters": {"candidate_labels": ",".join(MANY)}}
    (call,) = ask("/models/clip", {name: values[name] for name in order}).calls
    assert (call.media, call.options) == (JPEG, Options(candidate_labels=tuple(MANY)))


def test_unknown_parameters_are_ignored_with_a_warning_header() -> None:
    found = ask("/models/detr", {"inputs": TEXT, "parameters": {"foo": 1, "threshold": 0.5, "timeout": 3}})
    headers = dict(DIALECT.render(found, [Answer(result=boxes(), image_hw=(4, 4))]).headers)
    assert headers["x-hf-warning"] == "parameters; ignored, unknown to object-detection: foo"


def test_parameters_beside_the_inputs_are_ignored_with_a_warning() -> None:
    found = ask(
        "/models/google/vit", {"inputs": TEXT, "top_k": 2, "timeout": 3, "options": {"function_to_apply": "none"}}
    )
    assert found.calls[0].options == Options(top_k=5)
    assert found.warning == "parameters; ignored, because not in `parameters`: top_k, function_to_apply"
    twice = ask("/models/detr", {"inputs": TEXT, "threshold": 0.1, "parameters": {"threshold": 0.2, "foo": 1}})
    assert twice.warning == "parameters; ignored, unknown to object-detection: foo"
    both = ask("/models/detr", {"inputs": TEXT, "threshold": 0.1, "parameters": {"foo": 1}})
    assert both.warning == (
        "parameters; ignored, unknown to object-detection: foo; ignored, because not in `parameters`: threshold"
    )
    assert ask("/models/detr", JPEG, "threshold=0.3&use_cache=0").warning == ""


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        ({}, (True, False, True)),
        ({"x_use_cache": "false", "x_wait_for_model": "1", "x_load_model": "0"}, (False, True, False)),
        ({"x_use_cache": "False", "x_wait_for_model": "TRUE"}, (False, True, True)),
        ({"x_use_cache": "maybe"}, (True, False, True)),
    ],
)
def test_switches_come_as_headers(sent: dict[str, str], wanted: tuple[bool, bool, bool]) -> None:
    (call,) = ask("/models/detr", JPEG, **sent).calls
    assert (call.use_cache, call.wait_for_model, call.load_model) == wanted


def test_switches_come_as_options_or_beside_the_inputs_and_headers_beat_them() -> None:
    body = {"inputs": TEXT, "options": {"use_cache": False, "wait_for_model": True, "dont_load_model": True}}
    (call,) = ask("/models/detr", body).calls
    assert (call.use_cache, call.wait_for_model, call.load_model) == (False, True, False)
    (call,) = ask("/models/detr", body, x_use_cache="1", x_wait_for_model="0", x_load_model="1").calls
    assert (call.use_cache, call.wait_for_model, call.load_model) == (True, False, True)
    (call,) = ask("/models/detr", {"inputs": TEXT, "wait_for_model": True}).calls
    assert call.wait_for_model
    (call,) = ask("/models/detr", body | {"use_cache": True, "wait_for_model": False}).calls
    assert (call.use_cache, call.wait_for_model) == (False, True)


# --- answers --------------------------------------------------------------------------------------------------------

F = np.float32
GRID = Grid(height=4, width=4, gain_x=1, gain_y=1, pad_x=0, pad_y=0, image_hw=(4, 4))


def boxes() -> Boxes:
    return Boxes(
        boxes_xyxy=np.array([[506.9, 233.2, 629.99, 405.5], [-1.7, -0.2, 641.0, 480.9]], F),
        scores=np.array([0.9957962036132812, 0.9981812238693237], F),
        class_ids=np.array([17, 3], np.int32),
        names=("cat", ""),
    )


def masks(kind: Literal["instance", "panoptic", "semantic"]) -> Masks:
    return Masks(
        boxes_xyxy=np.zeros((2, 4), F),
        scores=np.array([0.98668413, 0.5], F),
        class_ids=np.array([0, 199], np.int32),
        names=("wall", ""),
        kind=kind,
        grid=GRID,
        areas=np.array([1, 1], np.int32),
        form="png",
        pngs=(b"\x89PNG one", b"\x89PNG two"),
    )


def rendered(result: Result, body: Any = None, *, cached: bool = False, path: str = "/models/detr") -> Any:
    sent = ask(path, JPEG if body is None else body)
    times = Timings(decode_ms=1, preprocess_ms=2, inference_ms=100, postprocess_ms=20.4, queue_ms=50)
    answers = [Answer(result=result, image_hw=(4, 4), timings=times, cached=cached) for _ in sent.calls]
    outgoing = DIALECT.render(sent, answers)
    assert outgoing.status == 200
    assert outgoing.media_type == "application/json"
    return json.loads(outgoing.body), dict(outgoing.headers), outgoing.body


def test_labels_are_scored_unrounded_in_their_order() -> None:
    result = Labels(np.array([1, 2], np.int32), np.array([0.99818122, 0.0006633], F), ("cheetah", ""))
    rows, _, body = rendered(result)
    assert rows == [
        {"score": 0.9981812238693237, "label": "cheetah"},
        {"score": float(F(0.0006633)), "label": "LABEL_2"},
    ]
    assert b": " not in body


def test_boxes_are_truncated_and_neither_clamped_nor_sorted() -> None:
    rows, _, _ = rendered(boxes())
    assert rows == [
        {"score": 0.9957962036132812, "label": "cat", "box": {"xmin": 506, "ymin": 233, "xmax": 629, "ymax": 405}},
        {"score": 0.9981812238693237, "label": "LABEL_3", "box": {"xmin": -1, "ymin": 0, "xmax": 641, "ymax": 480}},
    ]


def test_segments_carry_png_masks_and_rounded_scores() -> None:
    for kind in ("instance", "panoptic"):
        rows, _, _ = rendered(masks(kind))  # type: ignore[arg-type]
        assert rows == [
            {"score": 0.986684, "label": "wall", "mask": base64.b64encode(b"\x89PNG one").decode()},
            {"score": 0.5, "label": "LABEL_199", "mask": base64.b64encode(b"\x89PNG two").decode()},
        ]


def test_semantic_segments_score_one_and_never_null() -> None:
    rows, _, body = rendered(masks("semantic"))
    assert [row["score"] for row in rows] == [1.0, 1.0]
    assert b'"score":1.0' in body


def test_poses_and_oriented_boxes_are_detections_with_one_more_key() -> None:
    pose = Keypoints(
        np.array([[1, 2, 3, 4]], F), np.array([0.5], F), np.array([0], np.int32), ("person",),
        np.array([[[1.5, 2.5]]], F), np.array([[0.75]], F),
    )  # fmt: skip
    rows, _, _ = rendered(pose)
    assert rows[0]["box"] == {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}
    assert rows[0]["keypoints"] == [{"x": 1.5, "y": 2.5, "score": 0.75}]
    oriented = OrientedBoxes(
        np.array([[5, 5, 4, 2, 0.5]], F), np.array([[[1, 2], [9.5, 3], [8, 7.9], [0.5, 6]]], F),
        np.array([0.5], F), np.array([0], np.int32), ("ship",),
    )  # fmt: skip
    rows, _, _ = rendered(oriented)
    assert rows[0]["box"] == {"xmin": 0, "ymin": 2, "xmax": 9, "ymax": 7}
    assert rows[0]["corners"][1] == {"x": 9.5, "y": 3.0}


def test_depth_is_a_grey_picture_stretched_over_its_range() -> None:
    answer, _, _ = rendered(Depth(np.array([[0, 5], [10, 2.5]], F)))
    png = base64.b64decode(answer["depth"])
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png[24:26] == b"\x08\x00"
    assert set(rendered(Depth(np.full((2, 2), 3, F)))[0]) == {"depth"}


def empty_results() -> list[Result]:
    none, no_ids, no_boxes = np.zeros(0, F), np.zeros(0, np.int32), np.zeros((0, 4), F)
    return [
        Labels(no_ids, none, ()),
        Boxes(no_boxes, none, no_ids, ()),
        OrientedBoxes(np.zeros((0, 5), F), np.zeros((0, 4, 2), F), none, no_ids, ()),
        Keypoints(no_boxes, none, no_ids, (), np.zeros((0, 17, 2), F), np.zeros((0, 17), F)),
        Masks(no_boxes, none, no_ids, (), "panoptic", GRID, no_ids, "png"),
    ]


@pytest.mark.parametrize("result", empty_results(), ids=lambda result: type(result).__name__)
def test_nothing_found_is_an_empty_list(result: Result) -> None:
    assert rendered(result)[0] == []
    assert rendered(result, {"inputs": [TEXT]})[0] == [[]]


def test_scores_that_are_no_numbers_never_become_null() -> None:
    result = Labels(np.arange(3, dtype=np.int32), np.array([np.nan, np.inf, -np.inf], F), ("a", "b", "c"))
    rows, _, body = rendered(result)
    assert all(isinstance(row["score"], float) for row in rows)
    assert b"null" not in body
    assert b"Infinity" not in body


def test_lists_answer_lists_and_instances_answer_predictions() -> None:
    result = Labels(np.array([1], np.int32), np.array([0.5], F), ("a",))
    row = {"score": 0.5, "label": "a"}
    assert rendered(result, {"inputs": [TEXT, TEXT]})[0] == [[row], [row]]
    assert rendered(result, {"inputs": [TEXT]})[0] == [[row]]
    assert rendered(result, {"instances": [TEXT, TEXT]})[0] == {"predictions": [[row], [row]]}


def test_compute_headers_tell_time_and_kind_and_a_hit_has_no_time() -> None:
    _, headers, _ = rendered(boxes())
    assert headers["x-compute-type"] == "cpu"
    assert headers["x-compute-time"] == "0.123"
    assert headers["x-compute-images"] == "1"
    assert (headers["x-queue-time"], headers["x-inference-time"]) == ("50", "100")
    _, headers, _ = rendered(boxes(), cached=True)
    assert headers["x-compute-type"] == "cache"
    assert "x-compute-time" not in headers


# --- errors ---------------------------------------------------------------------------------------------------------


def every_error() -> list[errors.Error]:
    found: list[errors.Error] = []
    kinds = [errors.Error]
    while kinds:
        kind: Callable[..., errors.Error] = kinds.pop()
        kinds += kind.__subclasses__()  # type: ignore[attr-defined]
        if kind is errors.QuotaSpent:
            found.append(errors.QuotaSpent("m", limit=500, retry_after_s=54.2, reset_epoch_s=1.0, window_s=300))
        elif kind is errors.MissingExtra:
            found.append(errors.MissingExtra("m", extra="torch"))
        elif kind.__module__ == "saccade.errors":  # type: ignore[attr-defined]
            found.append(kind("möglich – m\nline"))
    return found


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_every_error_is_an_object_with_one_string(error: errors.Error) -> None:
    status, body, headers = error_of(error)
    assert 400 <= status < 600
    assert isinstance(body["error"], str)
    assert body["error"]
    assert set(body) <= {"error", "estimated_time"}
    for name, value in headers.items():
        assert name == name.lower()
        value.encode("latin-1")
        assert "\n" not in value
    assert headers["x-error-message"]
    assert ("retry-after" in headers) == (status in (429, 503, 504))


def test_a_value_that_was_cut_is_told_alike_in_header_and_body() -> None:
    """huggingface_hub shows both, unless they are the same."""
    with pytest.raises(errors.BadOptions) as found:
        options("detr", {"threshold": "x" * 60})
    _, body, headers = error_of(found.value)
    assert body["error"] == headers["x-error-message"]
    assert body["error"].endswith("but the text 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...' was given.")


def test_an_unknown_model_does_not_exist_verbatim() -> None:
    status, body, headers = error_of(errors.UnknownModel("Add it with saccade pull"), "/models/a/b")
    assert (status, body) == (404, {"error": "Model a/b does not exist"})
    assert headers["x-hf-warning"] == "unknown-model; Add it with saccade pull"
    assert "x-error-code" not in headers


@pytest.mark.parametrize("page", ["", "/health", "/info"])
def test_a_page_of_an_unknown_model_names_the_model_alone(page: str) -> None:
    outgoing = DIALECT.refuse(errors.UnknownModel("No."), Incoming("GET", f"/models/nobody/knows{page}"))
    assert json.loads(outgoing.body) == {"error": "Model nobody/knows does not exist"}


def test_a_loading_model_is_told_with_an_estimate() -> None:
    status, body, headers = error_of(errors.StillLoading("m", retry_after_s=20.0), "/hf-inference/models/a/b")
    assert (status, body) == (503, {"error": "Model a/b is currently loading", "estimated_time": 20.0})
    assert headers["retry-after"] == "20"
    assert error_of(errors.StillLoading("m", retry_after_s=0.01))[1]["estimated_time"] == 1.0
    unnamed = error_of(errors.StillLoading("The model 'a' is being loaded."), "/")[1]
    assert unnamed["error"] == "The default model is currently loading"


def test_who_wanted_no_loading_is_told_within_a_200() -> None:
    for sent in ({"x_load_model": "0"}, {"body": b'{"inputs":"AAAA","options":{"dont_load_model":true}}'}):
        status, body, _ = error_of(errors.StillLoading("m"), **sent)  # type: ignore[arg-type]
        assert (status, body) == (200, {"error": "not loaded yet"})


def test_who_wants_no_loading_has_nothing_fetched_either() -> None:
    body = {"inputs": TEXT, "options": {"dont_load_model": True}}
    for path, sent, headers in (
        ("/models/picodet-s", JPEG, {"x_load_model": "0"}),
        ("/models/picodet-s", body, {}),
        ("/", {**body, "model": "picodet-s"}, {}),
    ):
        with pytest.raises(errors.StillLoading) as found:
            ask(path, sent, **headers)  # type: ignore[arg-type]
        status, told, _ = error_of(found.value, path, json.dumps(body).encode(), **headers)
        assert (status, told) == (200, {"error": "not loaded yet"})
    with pytest.raises(errors.UnknownModel):
        ask("/models/picodet-s", JPEG)
    with pytest.raises(errors.UnknownModel):
        ask("/models/nobody", JPEG, x_load_model="0")


def test_a_bad_picture_cannot_be_identified_and_other_bad_input_keeps_its_words() -> None:
    assert error_of(errors.BadInput("the file is cut off"))[1] == {
        "error": "cannot identify image file: the file is cut off"
    }
    assert error_of(errors.BadInput("no fetching"), body=b'{"inputs":"http://a/b"}')[1] == {"error": "no fetching"}
    assert error_of(errors.BadInput("the body came slowly"), body=b"")[1] == {"error": "the body came slowly"}


def test_a_long_body_is_413_and_a_picture_with_too_many_pixels_is_400() -> None:
    assert error_of(errors.TooLarge("Payload too large: 9 bytes > limit 1"), body=b"")[:2] == (
        413,
        {"error": "Payload too large: 9 bytes > limit 1"},
    )
    assert error_of(errors.TooLarge("the image is 30000x30000 (900 megapixels)"))[0] == 400
    slow = "The image takes longer than 20 s to decode."
    assert error_of(errors.TooLarge(slow))[:2] == (400, {"error": slow})


def test_spent_quotas_and_bad_keys_are_told_as_the_python_client_reads_them() -> None:
    spent = errors.QuotaSpent("500 calls", limit=500, retry_after_s=54.2, reset_epoch_s=1.0, window_s=300)
    status, body, headers = error_of(spent)
    assert (status, body) == (429, {"error": "Rate limit reached. 500 calls"})
    batch = errors.QuotaSpent("2 of 5", limit=5, retry_after_s=9.0, reset_epoch_s=1.0, remaining=2)
    assert error_of(batch)[2]["ratelimit"] == '"api";r=2;t=9'
    again = errors.QuotaSpent("Rate limit reached: 5", limit=5, retry_after_s=1, reset_epoch_s=1.0)
    assert error_of(again)[1] == {"error": "Rate limit reached: 5"}
    assert headers["ratelimit"] == '"api";r=0;t=55'
    assert headers["ratelimit-policy"] == '"sliding window";"api";q=500;w=300'
    status, body, headers = error_of(errors.NoKey("no such key"))
    assert (status, body) == (401, {"error": "Invalid credentials in Authorization header"})
    assert headers["x-error-message"] == "Invalid credentials in Authorization header"
    assert error_of(errors.Overloaded("m"))[1]["error"].startswith(
        "Model too busy, unable to get response in less than"
    )


# --- pages ----------------------------------------------------------------------------------------------------------


def page(path: str, house: House | None = None) -> tuple[int, Any]:
    outgoing = DIALECT.describe(Incoming("GET", path), house or House())
    return outgoing.status, json.loads(outgoing.body)


def test_status_tells_whether_a_model_is_loaded() -> None:
    loaded = {"loaded": True, "state": "Loaded", "compute_type": "cpu", "framework": "transformers"}
    assert page("/status/google/vit") == (200, loaded)
    house = House(states={"detr": "cold", "pose": "failed"})
    assert page("/status/detr", house)[1] == {**loaded, "loaded": False, "state": "Loadable"}
    assert page("/status/pose", house)[1]["state"] == "error"
    with pytest.raises(errors.UnknownModel):
        page("/status/nobody")


def test_a_model_that_the_first_call_fetches_is_loadable() -> None:
    cold = {"loaded": False, "state": "Loadable", "compute_type": "cpu", "framework": "transformers"}
    assert page("/status/picodet-s") == (200, cold)
    assert page("/models/picodet-s/health") == (200, {"status": "ok"})
    with pytest.raises(errors.UnknownModel):
        page("/models/picodet-s/info")


def test_health_and_info_exist_under_a_model() -> None:
    assert page("/models/google/vit/health") == (200, {"status": "ok"})
    assert page("/hf-inference/models/detr/health")[0] == 200
    assert page("/api/inference-proxy/hf-inference/models/detr/info")[1]["model_id"] == "detr"
    assert page("/models/pose/health", House(states={"pose": "failed"}))[0] == 503
    assert page("/models/google/vit/info")[1]["model_pipeline_tag"] == "image-classification"


@pytest.mark.parametrize("address", ["/pipeline/{task}/google/vit", "/models/google/vit/pipeline/{task}"])
def test_health_and_info_exist_under_every_address_of_a_model(address: str) -> None:
    own, other = address.format(task="image-classification"), address.format(task="object-detection")
    assert page(f"{own}/health") == (200, {"status": "ok"})
    assert page(f"/hf-inference{own}/info")[1]["model_id"] == "google/vit"
    with pytest.raises(errors.WrongTask):
        page(f"{other}/health")
    assert page(own)[0] == 405


def test_frameworks_list_what_is_served() -> None:
    status, rows = page("/framework/transformers")
    assert status == 200
    assert {"model_id": "google/vit", "task": "image-classification"}.items() <= rows[2].items()
    assert page("/framework/diffusers") == (200, [])


def test_get_on_a_model_is_a_json_405() -> None:
    outgoing = DIALECT.describe(Incoming("GET", "/models/detr"), House())
    assert outgoing.status == 405
    assert ("allow", "POST") in outgoing.headers
    assert isinstance(json.loads(outgoing.body)["error"], str)


# --- garbage --------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(TEXT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["inputs", "image", "parameters", "options", "instances", "threshold", "top_k", "subtask"])


@given(
    st.sampled_from(list(CARDS)), st.binary(max_size=200), st.sampled_from([*RAW, "multipart/form-data; boundary=b"])
)
def test_any_bytes_raise_only_errors_of_the_caller(model: str, body: bytes, kind: str | None) -> None:
    headers = {} if kind is None else {"content_type": kind}
    for sent in (body, b"{" + body, b"--b\r\n" + body, b'{"inputs":"' + body + b'"}'):
        with contextlib.suppress(errors.CallError):
            ask(f"/models/{model}", sent, **headers)


@given(
    st.sampled_from(list(CARDS)), st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES, max_size=3), max_size=4)
)
def test_any_json_raises_only_errors_of_the_caller(model: str, body: dict[str, Any]) -> None:
    with contextlib.suppress(errors.CallError):
        ask(f"/models/{model}", body)
    DIALECT.refuse(errors.BadInput("m"), post(f"/models/{model}", body))


@given(st.text(max_size=60), st.text(max_size=20))
def test_any_path_is_read_or_refused(path: str, query: str) -> None:
    for reading in (True, False):
        place_of("/" + path, reading=reading)
    with contextlib.suppress(errors.CallError):
        DIALECT.describe(Incoming("GET", "/" + path), House())
    with contextlib.suppress(errors.CallError):
        ask("/models/" + path, JPEG, f"threshold={query}")
