"""The Hugging Face API over HTTP, as curl, requests, fetch and browsers speak it: the conformance list of the wire.

The server is real; its engine is made (``canned_house``), so that these tests need no model.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.clients.houses import Served, canned
from tests.clients.pictures import bomb, noise, photo

from saccade.server.app import COLD_PAUSE_S

DETR = "facebook/detr-resnet-50"
VIT = "google/vit-base-patch16-224"
M2F = "facebook/mask2former-swin-large-coco-panoptic"
UPERNET = "openmmlab/upernet-convnext-small"
PHOTO = photo()
TEXT = base64.b64encode(PHOTO).decode()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with canned(tmp_path_factory.mktemp("house"), max_body_bytes=4 << 20, default_model=DETR) as served:
        yield served


class Reply:
    """Status, headers (lower-case names) and body of one answer."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        self.body = answer.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The text of a refusal, which is always an object with a string."""
        assert self.headers["content-type"] == "application/json"
        assert isinstance(self.json, dict)
        assert "detail" not in self.json
        text: str = self.json["error"]
        assert isinstance(text, str)
        return text


def send(house: Served, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    """One request with exactly these headers (http.client adds no Content-Type)."""
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return Reply(connection.getresponse())
    finally:
        connection.close()


def post(house: Served, path: str, body: bytes | dict[str, Any], **headers: str) -> Reply:
    return send(house, "POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), **headers)


JSON = json.dumps({"inputs": TEXT, "parameters": {"threshold": 0.5}}).encode()
FORM = (
    b'--xx\r\nContent-Disposition: form-data; name="file"; filename="cats.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    + PHOTO
    + b"\r\n--xx--\r\n"
)
ROWS: dict[str, tuple[str | None, bytes]] = {
    "python client, bytes": (None, PHOTO),
    "python client, path": ("image/jpeg", PHOTO),
    "python client 0.35 and newer, parameters": ("application/json", JSON),
    "python client 0.29 to 0.34, parameters": (None, JSON),
    "python client 0.26 to 0.28, parameters": ("application/json", JSON),
    "python client 0.25 and older": (None, PHOTO),
    "javascript client, blob": ("image/jpeg", PHOTO),
    "javascript client, segmentation": ("application/json", json.dumps({"inputs": TEXT, "parameters": {}}).encode()),
    "javascript client, zero shot": ("application/json", json.dumps({"inputs": {"image": TEXT}}).encode()),
    "requests with data": (None, PHOTO),
    "javascript snippet of 2023": ("application/json", PHOTO),
    "fetch snippet of today": ("image/jpeg", json.dumps({"inputs": TEXT}).encode()),
    "curl --data-binary": ("application/x-www-form-urlencoded", PHOTO),
    "curl -d with json": ("application/x-www-form-urlencoded", JSON),
    "curl -F": ("multipart/form-data; boundary=xx", FORM),
}


@pytest.mark.parametrize("row", ROWS)
def test_item_01_every_body_that_clients_send_gets_the_same_answer(house: Served, row: str) -> None:
    kind, body = ROWS[row]
    wanted = post(house, f"/models/{DETR}", PHOTO).json
    reply = post(house, f"/models/{DETR}", body, **({} if kind is None else {"content_type": kind}))
    assert reply.status == 200
    assert reply.json == wanted
    assert [row["label"] for row in wanted] == ["cat", "couch"]


PATHS = [
    f"/models/{DETR}",
    f"/models/{DETR}/",
    "/models/facebook%2Fdetr-resnet-50",
    f"//models//{DETR}",
    "/models/yolo11n",
    f"/pipeline/object-detection/{DETR}",
    "/pipeline/object-detection/yolo11n",
    f"/models/{DETR}/pipeline/object-detection",
    f"/hf-inference/models/{DETR}",
    f"/hf-inference/models/{DETR}/pipeline/object-detection",
    f"/api/inference-proxy/hf-inference/models/{DETR}",
    "/",
    "/predict",
    "/invocations",
]


@pytest.mark.parametrize("path", PATHS)
def test_item_02_every_url_form_reaches_the_model(house: Served, path: str) -> None:
    reply = post(house, path, PHOTO)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json[0]["box"] == {"xmin": 6, "ymin": 8, "xmax": 54, "ymax": 32}


def test_item_02_vertex_health_info_and_status_reach_the_model(house: Served) -> None:
    vertex = post(house, "/predict", {"instances": [TEXT, TEXT], "parameters": {"threshold": 0.5}})
    assert [len(rows) for rows in vertex.json["predictions"]] == [2, 2]
    pipelines = (
        f"/pipeline/object-detection/{DETR}/health",
        f"/hf-inference/models/{DETR}/pipeline/object-detection/health",
    )
    for page in (f"/models/{DETR}/health", "/health", "/ping", f"/hf-inference/models/{DETR}/health", *pipelines):
        assert send(house, "GET", page).status == 200
    for page in (f"/models/{DETR}/info", "/info"):
        assert isinstance(send(house, "GET", page).json, dict)
    assert send(house, "GET", f"/status/{DETR}").json == {
        "loaded": True,
        "state": "Loaded",
        "compute_type": "cpu",
        "framework": "transformers",
    }
    assert {"model_id": VIT, "task": "image-classification"}.items() <= send(
        house, "GET", "/framework/transformers"
    ).json[1].items()


@pytest.mark.parametrize("page", [f"/models/{DETR}/health", f"/models/{DETR}/info", f"/status/{DETR}", "/health"])
def test_item_02_what_can_be_read_can_be_asked_for_its_head_alone(house: Served, page: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=30)
    connection.request("HEAD", page)
    head = Reply(connection.getresponse())
    connection.request("GET", page)  # on the same connection: it would begin with the head's body, had it had one
    whole = Reply(connection.getresponse())
    connection.close()
    assert (head.status, head.body) == (whole.status, b"") == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize("path", ["/", "/predict", "/invocations"])
def test_item_02_forms_and_vertex_bodies_reach_the_model_where_no_name_stands_in_the_path(
    house: Served, path: str
) -> None:
    wanted = post(house, f"/models/{DETR}", PHOTO).json
    form = post(house, path, FORM.replace(b'"file"', b'"inputs"'), content_type="multipart/form-data; boundary=xx")
    assert form.json == wanted
    body = {"parameters": {"threshold": 0.5}, "instances": [{"image": TEXT}]}
    assert post(house, path, body, content_type="application/json").json == {"predictions": [wanted]}


def test_item_04_semantic_scores_are_numbers_for_the_javascript_client(house: Served) -> None:
    rows = post(house, f"/models/{UPERNET}", PHOTO).json
    assert [(row["label"], row["score"]) for row in rows] == [("wall", 1.0), ("floor", 1.0)]


def test_item_06_an_unknown_model_is_told_verbatim(house: Served) -> None:
    reply = post(house, "/models/this-model-does-not-exist-123", PHOTO)
    assert reply.status == 404
    assert reply.body == b'{"error":"Model this-model-does-not-exist-123 does not exist"}'
    assert post(house, "/hf-inference/models/a/b", PHOTO).json == {"error": "Model a/b does not exist"}
    assert send(house, "GET", "/status/a/b").json == {"error": "Model a/b does not exist"}


def test_item_07_masks_are_8_bit_grey_png_of_the_upright_size_with_0_and_255(house: Served) -> None:
    for orientation, size in ((None, (60, 40)), (6, (40, 60))):
        for row in post(house, f"/models/{M2F}", photo(orientation=orientation)).json:
            png = base64.b64decode(row["mask"], validate=True)
            assert png[:8] == b"\x89PNG\r\n\x1a\n"
            assert (png[24], png[25]) == (8, 0)
            image = Image.open(io.BytesIO(png))
            assert (image.mode, image.size) == ("L", size)
            assert set(np.unique(np.asarray(image)).tolist()) <= {0, 255}


def test_item_08_boxes_lie_in_the_upright_frame(house: Served) -> None:
    upright = post(house, f"/models/{DETR}", photo(40, 60)).json
    turned = post(house, f"/models/{DETR}", photo(60, 40, orientation=6)).json
    assert turned[0]["box"] == upright[0]["box"] == {"xmin": 4, "ymin": 12, "xmax": 36, "ymax": 48}


@pytest.mark.parametrize("name", ["/etc/hostname", "file:///etc/hostname", "cats.jpg", "../../../etc/passwd"])
def test_item_09_a_string_is_never_opened_as_a_file(house: Served, name: str) -> None:
    reply = post(house, f"/models/{DETR}", {"inputs": name})
    assert reply.status == 400
    assert "names of files are never opened" in reply.error


def test_item_09_addresses_are_refused_unless_the_operator_allows_them(house: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        port = trap.getsockname()[1]
        for url in (f"http://127.0.0.1:{port}/a.jpg", "http://169.254.169.254/latest/meta-data"):
            reply = post(house, f"/models/{DETR}", {"inputs": url})
            assert reply.status == 400
            assert "address" in reply.error
        trap.settimeout(0.2)
        with pytest.raises(TimeoutError):
            trap.accept()


def test_item_10_no_score_is_ever_null_or_not_a_number(house: Served) -> None:
    for model in (DETR, VIT, M2F, UPERNET):
        reply = post(house, f"/models/{model}", PHOTO)
        assert all(isinstance(row["score"], float) for row in reply.json)
        for word in (b"null", b"NaN", b"Infinity"):
            assert word not in reply.body


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (50, 3), ("2", 2), (2.0, 2), (None, 3)])
def test_item_11_top_k_cuts_the_list(house: Served, top_k: object, count: int) -> None:
    rows = post(house, f"/models/{VIT}", {"inputs": TEXT, "parameters": {"top_k": top_k}}).json
    assert len(rows) == count
    assert rows == sorted(rows, key=lambda row: -row["score"])
    if top_k is not None:
        assert post(house, f"/models/{VIT}?top_k={top_k}", PHOTO).json == rows


@pytest.mark.parametrize("top_k", [0, -1, 2.5, "x", True, [1]])
def test_item_11_a_top_k_that_is_none_is_refused(house: Served, top_k: object) -> None:
    reply = post(house, f"/models/{VIT}", {"inputs": TEXT, "parameters": {"top_k": top_k}})
    assert reply.status == 400
    assert "`top_k` must be a whole number of at least 1" in reply.error


def test_item_11_thresholds_are_strict_and_unbounded(house: Served) -> None:
    def found(threshold: object) -> int:
        return len(post(house, f"/models/{DETR}", {"inputs": TEXT, "parameters": {"threshold": threshold}}).json)

    at = float(np.float32(0.4))
    assert [found(value) for value in (-1, 0, 0.39, at, 0.5, None, 1, 5)] == [3, 3, 3, 2, 2, 2, 0, 0]


def test_item_11_an_unknown_subtask_or_function_is_told_as_transformers_does(house: Served) -> None:
    reply = post(house, f"/models/{M2F}", {"inputs": TEXT, "parameters": {"subtask": "bogus"}})
    assert (reply.status, reply.error.split(",")[0]) == (400, f"Subtask bogus is not supported for model {M2F}")
    reply = post(house, f"/models/{VIT}", {"inputs": TEXT, "parameters": {"function_to_apply": "bogus"}})
    assert reply.status == 400
    assert reply.error == (
        "bogus is not a valid ClassificationFunction, please select one of ['sigmoid', 'softmax', 'none']"
    )


def test_item_13_the_cache_is_used_unless_the_header_or_the_options_say_no(house: Served) -> None:
    picture = photo(61, 41)
    text = base64.b64encode(picture).decode()
    first = post(house, f"/models/{VIT}", picture, x_use_cache="false")
    assert first.headers["x-compute-time"] == "0.013"
    assert "x-compute-time" in post(house, f"/models/{VIT}", picture).headers
    hit = post(house, f"/models/{VIT}", picture)
    assert "x-compute-time" not in hit.headers
    assert hit.headers["x-compute-type"] == "cache"
    assert hit.json == first.json
    for body, headers in (
        (picture, {"X_Use_Cache": "0"}),
        (json.dumps({"inputs": text, "options": {"use_cache": False}}).encode(), {}),
    ):
        assert "x-compute-time" in post(house, f"/models/{VIT}", body, **headers).headers


def test_item_13_loading_is_waited_for_told_or_not_begun_as_the_caller_wishes(tmp_path: Path) -> None:
    body = json.dumps({"inputs": TEXT, "options": {"dont_load_model": True}}).encode()
    with canned(tmp_path, hf_cold_503=True) as house:
        begun = time.monotonic()
        for reply in (
            post(house, "/models/slow", PHOTO, X_Load_Model="0"),
            post(house, "/models/slow", body),
        ):
            assert (reply.status, reply.json) == (200, {"error": "not loaded yet"})
        assert time.monotonic() - begun < 2 * COLD_PAUSE_S  # nobody repeats a 200
        cold = post(house, "/models/slow", PHOTO)
        assert cold.status == 503
        assert cold.json == {"error": "Model slow is currently loading", "estimated_time": 5.0}
        assert cold.headers["retry-after"] == "5"
        waited = post(house, "/models/slow", PHOTO, X_Wait_For_Model="1")
        assert waited.status == 200
        assert post(house, "/models/slow", PHOTO).status == 200


def test_item_14_browsers_may_call_with_the_headers_of_the_javascript_client(house: Served) -> None:
    wanted = "authorization,content-type,user-agent,x-use-cache,x-wait-for-model,x-load-model,x-hf-bill-to"
    preflight = send(
        house,
        "OPTIONS",
        f"/models/{DETR}",
        origin="https://page.example",
        access_control_request_method="POST",
        access_control_request_headers=wanted,
    )
    assert preflight.status in (200, 204)
    assert preflight.headers["access-control-allow-origin"] == "https://page.example"
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in wanted.split(","))
    assert "POST" in preflight.headers["access-control-allow-methods"]
    reply = post(house, f"/models/{DETR}", PHOTO, origin="https://page.example", x_use_cache="false")
    assert reply.headers["access-control-allow-origin"] == "https://page.example"
    exposed = reply.headers["access-control-expose-headers"].lower()
    sent = [name for name in reply.headers if name.startswith("x-")]
    assert {"x-request-id", "x-compute-type", "x-compute-time", "x-queue-time"} <= set(sent)
    assert all(name in exposed for name in ("x-error-message", *sent))


def test_item_15_an_upload_that_waits_for_100_continue_is_answered(house: Served) -> None:
    picture = noise(900, 800)
    assert len(picture) > 2_000_000
    with socket.create_connection(("127.0.0.1", house.port), timeout=20) as wire:
        wire.sendall(
            f"POST /models/{DETR} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(picture)}\r\n"
            "Expect: 100-continue\r\nConnection: close\r\n\r\n".encode()
        )
        assert wire.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n")
        wire.sendall(picture)
        answer = b"".join(iter(lambda: wire.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")


def test_item_15_a_chunked_upload_is_answered(house: Served) -> None:
    wanted = post(house, f"/models/{DETR}", PHOTO).json
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=20)
    connection.request("POST", f"/models/{DETR}", iter([PHOTO[:100], PHOTO[100:]]), encode_chunked=True)
    assert Reply(connection.getresponse()).json == wanted
    connection.close()


@pytest.mark.parametrize("offer", ["h2c", "TLS/1.2", "websocket"])
def test_a_body_arrives_whose_client_offers_another_protocol(house: Served, offer: str) -> None:
    head = (
        f"POST /models/{DETR} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {offer}\r\n"
        f"HTTP2-Settings: AAEAAEAAAAIAAAAB\r\nContent-Length: {len(PHOTO)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", house.port), timeout=30) as line:
        for parts in ((head + PHOTO,), (head, PHOTO), (head[:40], head[40:], PHOTO[:9], PHOTO[9:])):
            for part in parts:
                line.sendall(part)
                time.sleep(0.05)
            answer = http.client.HTTPResponse(line)
            answer.begin()
            assert (answer.status, json.loads(answer.read())[0]["label"]) == (200, "cat")


def test_item_16_a_truncated_picture_is_a_400(house: Served) -> None:
    picture = photo(400, 300)
    for cut in (20, len(picture) // 2):
        reply = post(house, f"/models/{DETR}", picture[:cut])
        assert reply.status == 400
        assert reply.error.startswith("cannot identify image file")
        assert reply.headers["x-error-message"] == reply.error
    assert post(house, f"/models/{DETR}", b"this is no picture").status == 400


def test_item_17_a_decompression_bomb_is_a_400(house: Served) -> None:
    reply = post(house, f"/models/{DETR}", bomb())
    assert reply.status == 400
    assert "pixels" in reply.error


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/nothing/here", 404),
        ("POST", "/models", 404),
        ("GET", "/models", 404),
        ("POST", "/hf-inference/v1/chat/completions", 404),
        ("POST", "/api/inference-proxy/hf-inference/v1/chat/completions", 404),
        ("GET", "/hf-inference/nothing", 404),
        ("GET", f"/models/{DETR}", 405),
        ("PUT", f"/models/{DETR}", 405),
        ("DELETE", f"/pipeline/object-detection/{DETR}", 405),
        ("POST", f"/status/{DETR}", 405),
    ],
)
def test_item_18_unknown_paths_and_methods_are_json(house: Served, method: str, path: str, status: int) -> None:
    reply = send(house, method, path, PHOTO if method == "POST" else None)
    assert reply.status == status
    assert reply.error
    assert ("allow" in reply.headers) == (status == 405)
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"", None, "Body needs to provide a inputs key, received: "),
        (b"{}", "application/json", "Body needs to provide a inputs key, received: {}"),
        (b'{"inputs"', "application/json", "not valid JSON"),
        (b'{"inputs":"AAAA","parameters":[1]}', "application/json", "`parameters` must be an object"),
        (b"--xx\r\n", "multipart/form-data", "names no boundary"),
    ],
)
def test_item_18_refused_bodies_are_told_in_an_object(house: Served, body: bytes, kind: str | None, words: str) -> None:
    reply = post(house, f"/models/{DETR}", body, **({} if kind is None else {"content_type": kind}))
    assert reply.status == 400
    assert words in reply.error


def test_item_18_a_huge_body_is_a_413_that_names_the_limit(house: Served) -> None:
    reply = post(house, f"/models/{DETR}", bytes((4 << 20) + 1))
    assert reply.status == 413
    assert reply.error == f"Payload too large: {(4 << 20) + 1} bytes > limit {4 << 20}"


def test_item_18_a_huge_body_for_a_model_that_nobody_has_is_told_about_the_model(house: Served) -> None:
    reply = post(house, "/models/nobody/has-this", bytes((4 << 20) + 1))
    assert (reply.status, reply.error) == (404, "Model nobody/has-this does not exist")


def test_a_call_that_fails_at_work_has_the_compute_headers_and_one_that_is_not_let_in_has_none(house: Served) -> None:
    for body, parameters in ((b"broken", ""), (PHOTO, "?threshold=high")):
        reply = post(house, f"/models/{DETR}{parameters}", body)
        assert (reply.status, reply.headers["x-compute-type"]) == (400, "cpu")
        assert re.fullmatch(r"\d+\.\d{3}", reply.headers["x-compute-time"])
    unknown = post(house, "/models/nobody/has-this", PHOTO)
    assert unknown.status == 404
    assert not {"x-compute-type", "x-compute-time"} & unknown.headers.keys()


def test_item_18_a_forced_task_that_the_model_does_not_do_is_a_400(house: Served) -> None:
    reply = post(house, f"/pipeline/image-segmentation/{VIT}", PHOTO)
    assert (reply.status, reply.error) == (
        400,
        f"Model '{VIT}' doesn't support task 'image-segmentation'. "
        "Supported tasks: 'image-classification', got: 'image-segmentation'",
    )


def test_item_19_tokens_never_reach_the_log(house: Served) -> None:
    token = "hf_" + "SeCrEt" * 6
    for header in (f"Bearer {token}", f"Bearer: {token}", token):
        assert post(house, f"/models/{DETR}", PHOTO, authorization=header).status == 200
        assert post(house, f"/models/{DETR}?token={token}", b"broken", authorization=header).status == 400
    assert house.lines("POST", DETR)
    assert not house.lines("SeCrEt", wait_s=0)


def test_item_20_detections_keep_the_order_of_the_family(house: Served) -> None:
    scores = [row["score"] for row in post(house, f"/models/{DETR}", PHOTO).json]
    assert scores == [float(np.float32(0.9957962)), float(np.float32(0.9984))]


def test_a_trace_id_of_the_python_client_comes_back_as_request_id(house: Served) -> None:
    reply = post(house, f"/models/{DETR}", PHOTO, x_amzn_trace_id="2b0c7d6e-0000")
    assert reply.headers["x-request-id"] == "2b0c7d6e-0000"


def test_a_packed_body_is_unpacked(house: Served) -> None:
    import gzip

    reply = post(house, f"/models/{DETR}", gzip.compress(PHOTO), content_encoding="gzip")
    assert reply.json == post(house, f"/models/{DETR}", PHOTO).json


def test_callers_at_the_same_time_get_their_own_answers(house: Served) -> None:
    wanted = {width: post(house, f"/models/{DETR}", photo(width, 40)).json for width in range(40, 60)}
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda w=width: found.update({w: post(house, f"/models/{DETR}", photo(w, 40)).json}))
        for width in wanted
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted
