"""Programs that were written for the Ultralytics APIs, unchanged, against a real server."""

from __future__ import annotations

import ast
import base64
import contextlib
import functools
import json
import re
import subprocess
import textwrap
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from tests.clients.environments import environment, run
from tests.clients.houses import Served, served

pytestmark = pytest.mark.heavy

TASKS = {
    "detect": "yolov8n",
    "segment": "yolov8n-seg-dynamic",
    "pose": "yolo11n-pose",
    "obb": "yolov8n-obb_pothole",
    "classify": "yolo11n-cls",
}
FORMATS = (
    *(f"exif_orientation_{turn}.jpg" for turn in range(1, 9)),
    *("rgba.png", "grey.jpg", "rgb16.png", "grey16.png", "cmyk.jpg", "1x1.png", "1x3000.png", "3000x1.jpg"),
    *("rgb.heic", "rgb.avif", "rgb.jp2", "multipage.tif", "two_frames.mpo", "animated.webp", "no_extension"),
)
BAD = (
    *("truncated_half.jpg", "truncated_header.jpg", "zero_bytes.jpg", "bomb_30000x30000_1bit.png", "zip_bomb.png"),
    *("random_bytes.bin", "text.jpg", "page.html", "drawing.svg", "header_65535x65535.png"),
)
KEY = "0123456789abcdef0123456789abcdef0123456789"


@pytest.fixture(scope="module")
def house(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = tmp_path_factory.mktemp("models")
    for file in (data / "models").glob("yolo*.onnx"):
        (models / file.name).symlink_to(file)
    with served(tmp_path_factory.mktemp("house"), [models], "--precision", "f32", "--no-auth") as running:
        yield running


@pytest.fixture(scope="module")
def client(house: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=house.url, timeout=120, trust_env=False) as client:
        yield client


def picture(data: Path, task: str) -> Path:
    return data / "images" / ("pothole.jpg" if task == "obb" else "coco/000000060932.jpg")


def snippets(shared: Path, number: str, start: str, end: str) -> list[str]:
    """Every program in a document of the mission, each text once."""
    text = next((shared / "mission").glob(f"{number}_*.txt")).read_text()
    blocks = re.findall(rf"^[ ]*{re.escape(start)}.*?^[ ]*{re.escape(end)}[^\n]*$", text, re.MULTILINE | re.DOTALL)
    found = dict.fromkeys(indented(textwrap.dedent(block)) for block in blocks)
    assert found
    return [block for block in found if "API_KEY" in block]


def indented(block: str) -> str:
    """One document lost the indentation inside ``with``; nothing else of it is touched."""
    return re.sub(r"(with open.*:\n)(files = .*\n)(response = .*\n)", r"\1    \2    \3", block)


def at_home(block: str, house: Served, model: str, photo: Path) -> str:
    """The program with host, key, model and file replaced, and nothing else."""
    for old, new in (
        ("https://api.ultralytics.com", house.url),
        ("https://predict.ultralytics.com", house.url),
        ('"API_KEY"', f'"{KEY}"'),
        ("x-api-key: API_KEY", f"x-api-key: {KEY}"),
        ("MODEL_ID", model),
        ("/path/to/image.jpg", str(photo)),
        ("path/to/image.jpg", str(photo)),
    ):
        block = block.replace(old, new)
    return block


def shell(block: str) -> Any:
    done = subprocess.run(["bash", "-c", block], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def requests_python() -> Path:
    return environment("requests", "requests==2.32.5")


@pytest.mark.parametrize("task", TASKS)
def test_the_programs_of_the_first_document(
    house: Served, shared: Path, data: Path, requests_python: Path, task: str
) -> None:
    photo = picture(data, task)
    answers = []
    for block in snippets(shared, "003", "import requests", "print(response.json())"):
        # The sample prints a Python dictionary.
        shown = run(requests_python, at_home(block, house, TASKS[task], photo))
        answers.append(ast.literal_eval(shown))
    for block in snippets(shared, "003", "curl -X POST", '-F "iou=0.45"'):
        answers.append(shell(at_home(block, house, TASKS[task], photo)))
    assert len(answers) >= 2
    for answer in answers:
        assert answer["success"] is True
        assert answer["message"] == "Inference complete."
        assert answer["data"]
        assert answer["data"] == answers[0]["data"]
    expected = {"segment": "segments", "pose": "keypoints"}.get(task)
    assert all(expected is None or expected in item for item in answers[0]["data"])


@pytest.mark.parametrize("task", TASKS)
def test_the_programs_of_the_second_document(
    house: Served, shared: Path, data: Path, requests_python: Path, task: str
) -> None:
    photo = picture(data, task)
    answers = []
    for block in snippets(shared, "004", "import requests", "print(response.json())"):
        shown = run(requests_python, at_home(block, house, TASKS[task], photo))
        answers.append(ast.literal_eval(shown))
    for block in snippets(shared, "004", "curl -X POST", '-F "iou=0.45"'):
        answers.append(shell(at_home(block, house, TASKS[task], photo)))
    assert len(answers) >= 2
    for answer in answers:
        assert list(answer) == ["images", "metadata"]
        assert list(answer["images"][0]) == ["results", "shape", "speed"]
        assert answer["images"][0]["results"] == answers[0]["images"][0]["results"]
    first = answers[0]["images"][0]["results"][0]
    keys = {
        "detect": ["box", "class", "confidence", "name"],
        "segment": ["box", "class", "confidence", "name", "segments"],
        "pose": ["box", "class", "confidence", "keypoints", "name"],
        "obb": ["box", "class", "confidence", "name"],
        "classify": ["class", "confidence", "name"],
    }
    assert list(first) == keys[task]
    if task == "obb":
        assert list(first["box"]) == ["x1", "x2", "x3", "x4", "y1", "y2", "y3", "y4"]
    if task == "pose":
        assert list(first["keypoints"]) == ["visible", "x", "y"]


def test_hub_sdk_0_0_25_predicts(house: Served, data: Path) -> None:
    python = environment("hub-sdk", "hub-sdk==0.0.25")
    script = """
import json, sys
from hub_sdk import HUBClient

client = HUBClient({"api_key": sys.argv[1]})
model = client.model(sys.argv[2])
reply = model.predict(sys.argv[3], {"size": 640, "confidence": 0.25, "iou": 0.45})
print(json.dumps({"id": model.id, "status": reply.status_code, "body": reply.json()}))
"""
    variables = {"ULTRALYTICS_HUB_API": house.url, "ULTRALYTICS_HUB_WEB": house.url}
    shown = run(python, script, KEY, "yolov8n", str(picture(data, "detect")), **variables)
    told = json.loads(shown.splitlines()[-1])
    assert (told["id"], told["status"]) == ("yolov8n", 200)
    assert told["body"]["success"] is True
    assert told["body"]["data"]


def test_hub_sdk_0_0_25_lists_models_page_by_page(house: Served) -> None:
    python = environment("hub-sdk", "hub-sdk==0.0.25")
    script = """
import json, sys
from hub_sdk import HUBClient

listed = HUBClient({"api_key": sys.argv[1]}).model_list(page_size=4)
names = []
for page in range(listed.total_pages):
    names.append([model["id"] for model in listed.results])
    listed.next()
print(json.dumps(names))
"""
    shown = run(python, script, KEY, ULTRALYTICS_HUB_API=house.url, ULTRALYTICS_HUB_WEB=house.url)
    pages = json.loads(shown.splitlines()[-1])
    names = [name for page in pages for name in page]
    assert [len(page) for page in pages[:-1]] == [4] * (len(pages) - 1)
    assert len(pages) > 1
    assert names == sorted(set(names))
    assert {"yolov8n", "yolo11n-cls"} <= set(names)


def test_ultralytics_platform_0_1_99_predicts_and_lists(house: Served, data: Path) -> None:
    python = environment("ultralytics-platform", "ultralytics-platform==0.1.99")
    script = """
import json, sys
from ultralytics_platform import APIError, Platform

with_url = Platform(api_key=sys.argv[1], base_url=sys.argv[2])
words = {"conf": 0.3, "imgsz": 640, "decimals": 3}
with open(sys.argv[4], "rb") as photo:
    found = with_url.models.predict("some-body", "some-project", sys.argv[3], body={"file": photo, **words})
listed = with_url.models.list("some-body", "some-project")
shown = with_url.models.retrieve("some-body", "some-project", sys.argv[3])
try:
    with_url.models.predict("some-body", "some-project", "nobody", body={"source": "aaaa", **words})
except APIError as error:
    refused = str(error)
print(json.dumps({"found": found, "listed": listed, "shown": shown, "refused": refused}))
"""
    key = "ul_" + "0" * 40
    told = json.loads(run(python, script, key, house.url, "yolov8n", str(picture(data, "detect"))))
    image = told["found"]["images"][0]
    assert list(image) == ["results", "shape", "speed"]
    assert list(image["results"][0]) == ["name", "class", "confidence", "box"]
    assert told["found"]["metadata"]["task"] == "detect"
    assert len(told["found"]["metadata"]["classNames"]) == 80
    assert "yolov8n" in [model["id"] for model in told["listed"]["models"]]
    assert told["shown"]["model"]["task"] == "detect"
    assert "404" in told["refused"]


def test_the_platforms_command_predicts(house: Served, data: Path) -> None:
    python = environment("ultralytics-platform", "ultralytics-platform==0.1.99")
    body = json.dumps({"file": f"@{picture(data, 'detect')}", "conf": 0.3})
    script = """
import os, subprocess, sys
ul = os.path.join(os.path.dirname(sys.executable), "ul")
words = ["owner=some-body", "project=some-project", "model=yolov8n", "body=" + sys.argv[1]]
print(subprocess.run([ul, "cloud", "models", "predict", *words], capture_output=True, text=True, check=True).stdout)
"""
    variables = {"ULTRALYTICS_PLATFORM_URL": house.url, "ULTRALYTICS_API_KEY": "ul_" + "0" * 40}
    assert json.loads(run(python, script, body, **variables))["images"][0]["results"]


class Box(msgspec.Struct, forbid_unknown_fields=True):
    x1: float
    x2: float
    y1: float
    y2: float


class Found(msgspec.Struct, forbid_unknown_fields=True, rename={"class_id": "class"}):
    box: Box
    class_id: int
    confidence: float
    name: str


class Speed(msgspec.Struct, forbid_unknown_fields=True):
    inference: float
    postprocess: float
    preprocess: float


class Image(msgspec.Struct, forbid_unknown_fields=True):
    results: list[Found]
    shape: list[int]
    speed: Speed


class Version(msgspec.Struct, forbid_unknown_fields=True):
    python: str
    torch: str
    torchvision: str
    ultralytics: str


class Metadata(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    function_time_alive: float
    function_time_call: float
    image_count: int
    model: str
    version: Version


class HubAnswer(msgspec.Struct, forbid_unknown_fields=True):
    images: list[Image]
    metadata: Metadata


def test_a_strictly_typed_client_of_hub(client: httpx.Client, data: Path) -> None:
    file = picture(data, "detect").read_bytes()
    reply = client.post("/", data={"model": "yolov8n"}, files={"file": ("x", file)})
    answer = msgspec.json.decode(reply.content, type=HubAnswer, strict=True)
    assert answer.images[0].results
    assert answer.images[0].speed.inference > 0
    assert answer.metadata.image_count == 1
    assert reply.content.startswith(b'{"images":[{"results":[{"box":{"x1":')


@pytest.mark.parametrize("filename", ["image", "photo", "photo.txt", "photo.mp4", "фото.png"])
def test_the_file_names_of_parts_mean_nothing(client: httpx.Client, data: Path, filename: str) -> None:
    file = picture(data, "detect").read_bytes()
    reply = client.post("/v1/predict/yolov8n", files={"image": (filename, file, "text/plain")})
    assert reply.json()["data"]


def test_a_form_without_boundary_is_400_and_says_so(client: httpx.Client) -> None:
    for path in ("/v1/predict/yolov8n", "/", "/api/models/a-owner/a-project/yolov8n/predict"):
        reply = client.post(path, content=b"--x\r\n", headers={"content-type": "multipart/form-data"})
        assert reply.status_code == 400
        assert "boundary" in reply.text


def test_nothing_is_answered_for_want_of_a_model_or_a_file(client: httpx.Client, data: Path) -> None:
    file = picture(data, "detect").read_bytes()
    assert client.post("/", files={"file": ("x", file)}).status_code == 400
    assert client.post("/", data={"model": "yolov8n"}).status_code in (400, 415)
    assert client.post("/", data={"model": "yolov8n"}, files={"thing": ("x", file)}).status_code == 400
    assert client.post("/v1/predict/yolov8n", data={"size": 640}).json() == {
        "success": False,
        "message": "An image file or URL must be submitted.",
        "data": {},
    }
    assert client.post("/", data={"model": "nobody"}, files={"file": ("x", file)}).status_code == 404


def test_arguments_in_form_query_and_json(client: httpx.Client, data: Path) -> None:
    file = picture(data, "detect").read_bytes()
    text = base64.b64encode(file).decode()
    path = "/v1/predict/yolov8n"
    answers = [
        client.post(path, data={"confidence": "0.6", "normalize": "True"}, files={"image": ("image", file)}),
        client.post(path, params={"confidence": 0.6, "normalize": "true"}, files={"image": ("image", file)}),
        client.post(path, json={"image": text, "confidence": 0.6, "normalize": True}),
        client.post(path, params={"confidence": 0.6, "normalize": "1"}, content=file),
        client.post(path, data={"source": text, "confidence": 0.6, "normalize": "yes"}),
    ]
    assert all(answer.status_code == 200 for answer in answers), [answer.text[:200] for answer in answers]
    assert all(answer.json() == answers[0].json() for answer in answers)
    assert all(0 <= value <= 1 for item in answers[0].json()["data"] for value in item["box"].values())


@pytest.mark.parametrize("text", ["size=31", "size=1281", "confidence=0", "confidence=1.1", "iou=0.96", "iou=-1"])
def test_what_is_out_of_range_is_400_with_the_range(client: httpx.Client, data: Path, text: str) -> None:
    name, _, value = text.partition("=")
    reply = client.post(
        "/v1/predict/yolov8n", data={name: value}, files={"image": picture(data, "detect").read_bytes()}
    )
    assert reply.status_code == 400
    assert " to " in reply.json()["message"]


def test_pictures_of_all_kinds_have_their_upright_size(client: httpx.Client, data: Path) -> None:
    expected = json.loads((data / "images" / "formats" / "expected.json").read_text())
    for name in FORMATS:
        file = (data / "images" / "formats" / name).read_bytes()
        reply = client.post("/", data={"model": "yolov8n"}, files={"file": ("file", file)})
        assert reply.status_code == 200, (name, reply.text)
        assert reply.json()["images"][0]["shape"] == expected[name]["upright_size"][::-1], name


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures_are_refused_with_a_reason(client: httpx.Client, data: Path, name: str) -> None:
    file = (data / "images" / "bad" / name).read_bytes()
    reply = client.post("/", data={"model": "yolov8n"}, files={"file": ("file", file)})
    assert reply.status_code in (400, 413), reply.text
    assert len(reply.json()["error"]) > 10


@pytest.mark.parametrize("name", ["gif", "mp4", "mov", "avi", "mkv", "webm"])
@pytest.mark.parametrize("stride", [1, 5])
def test_a_video_has_an_entry_per_frame(client: httpx.Client, data: Path, name: str, stride: int) -> None:
    file = (data / "videos" / f"synthetic_12frames_160x120.{name}").read_bytes()
    form = {"model": "yolov8n", "vid_stride": str(stride)}
    body = client.post("/", data=form, files={"file": ("file", file)}).json()
    assert len(body["images"]) == body["metadata"]["imageCount"] == 12 // stride
    assert all(image["shape"] == [120, 160] for image in body["images"])


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream"])
def test_a_video_streams_an_entry_per_frame(client: httpx.Client, data: Path, accept: str) -> None:
    file = (data / "videos" / "synthetic_12frames_160x120.mp4").read_bytes()
    files, headers = {"file": ("file", file)}, {"accept": accept}
    with client.stream("POST", "/", data={"model": "yolov8n"}, files=files, headers=headers) as reply:
        assert reply.headers["content-type"].startswith(accept)
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith(("{", "data: "))]
    assert len(lines) == 13
    assert all("results" in json.loads(line) for line in lines[:-1])
    assert json.loads(lines[-1])["metadata"]["imageCount"] == 12


def test_addresses_are_not_fetched_unless_allowed(client: httpx.Client) -> None:
    reply = client.post("/v1/predict/yolov8n", data={"url": "http://127.0.0.1:1/x"})
    assert reply.status_code == 400
    assert "allow" in reply.json()["message"]


def test_allowed_addresses_are_answered_like_uploads_on_every_face(data: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "yolov8n.onnx").symlink_to(data / "models" / "yolov8n.onnx")
    photo = picture(data, "detect")
    flags = ("--precision", "f32", "--no-auth", "--allow-url", "127.0.0.0/8", "--default-model", "yolov8n")
    with (
        site(photo.parent) as address,
        served(tmp_path / "home", [tmp_path / "models"], *flags) as house,
        httpx.Client(base_url=house.url, timeout=120, trust_env=False) as client,
    ):
        source, file = {"source": f"{address}/{photo.name}"}, {"file": photo.read_bytes()}
        for path in ("/v1/predict/yolov8n?response=l1", "/v1/predict/yolov8n?response=l2", "/", "/predict"):
            by_address, uploaded = (client.post(path, **sent).json() for sent in ({"data": source}, {"files": file}))
            for body in (by_address, uploaded):
                assert (body.get("data") or body["images"][0]["results"])[0]["name"] == "person"
            kept = ("data",) if "data" in uploaded else ("images", 0, "results")
            assert inside(by_address, *kept) == inside(uploaded, *kept), path
        asked = client.post("/models/yolov8n", json={"inputs": source["source"]}).json()
        assert asked == client.post("/models/yolov8n", content=file["file"]).json()
        gone = client.post("/v1/predict/yolov8n", data={"url": f"{address}/nothing.jpg"})
        assert (gone.status_code, gone.json()["success"]) == (400, False)
        assert "404" in gone.json()["message"]


@contextlib.contextmanager
def site(folder: Path) -> Iterator[str]:
    """A web server of this machine that hands out the files of a folder."""

    class Files(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def inside(body: Any, *path: str | int) -> Any:
    """What lies there in a JSON answer."""
    for step in path:
        body = body[step]
    return body


def test_a_browser_may_ask_first(client: httpx.Client) -> None:
    headers = {
        "origin": "https://example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key, authorization",
    }
    for path in ("/", "/predict", "/v1/predict/yolov8n"):
        reply = client.options(path, headers=headers)
        assert 200 <= reply.status_code < 300
        allowed = reply.headers["access-control-allow-headers"]
        assert "x-api-key" in allowed
        assert "authorization" in allowed


def test_an_empty_picture_has_no_objects(client: httpx.Client, data: Path) -> None:
    file = (data / "images" / "formats" / "1x1.png").read_bytes()
    assert client.post("/v1/predict/yolov8n", files={"image": file}).json()["data"] == []
    assert client.post("/", data={"model": "yolov8n"}, files={"file": file}).json()["images"][0]["results"] == []


def test_a_dynamic_model_runs_at_the_asked_size_and_a_fixed_one_at_its_own(client: httpx.Client, data: Path) -> None:
    file = picture(data, "detect").read_bytes()

    def size(model: str, imgsz: int) -> str:
        reply = client.post("/", data={"model": model, "imgsz": str(imgsz)}, files={"file": ("x", file)})
        text: str = reply.headers["x-imgsz"]
        return text

    assert size("yolo11n", 320) == "224x320"
    assert size("yolo11n", 641) == "480x672"
    assert size("yolov8n", 320) == "640x640"


def test_an_annotated_picture_and_the_exports(client: httpx.Client, data: Path) -> None:
    file = picture(data, "detect").read_bytes()

    def got(**form: str) -> httpx.Response:
        return client.post("/", data={"model": "yolov8n", **form}, files={"file": ("x", file)})

    drawn = got(annotated="true")
    assert drawn.headers["content-type"] == "image/jpeg"
    assert drawn.content[:2] == b"\xff\xd8"
    assert got(format="coco").json()[0]["bbox"]
    assert len(got(format="yolo").text.splitlines()[0].split()) == 5
    assert got(format="geojson").json()["type"] == "FeatureCollection"


def test_no_answer_and_no_log_holds_a_traceback_a_path_or_a_key(
    house: Served, client: httpx.Client, data: Path
) -> None:
    file = (data / "images" / "bad" / "random_bytes.bin").read_bytes()
    headers = {"x-api-key": KEY, "authorization": f"Bearer {KEY}"}
    texts = [
        client.post(
            path, data={"model": f"https://hub.ultralytics.com/models/x?api_key={KEY}"}, files=files, headers=headers
        )
        for path in ("/", "/v1/predict/yolov8n", "/v1/predict/x", "/predict", "/api/models/aaaa/b/c/predict")
        for files in ({"file": ("a", file)}, {"image": ("a", b"")}, {"other": ("a", b"1")})
    ]
    for reply in texts:
        assert 400 <= reply.status_code < 500
        assert reply.headers["x-request-id"]
        for secret in (KEY, "Traceback", "site-packages", str(Path.home()), "/tmp/"):
            assert secret not in reply.text
    log = "\n".join(house.lines(""))
    for secret in (KEY, "Traceback"):
        assert secret not in log
