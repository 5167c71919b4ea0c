"""Pictures that callers name by address, through HTTP on every face: what comes back, and what each refusal says."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import httpcore
import httpx
import numpy as np
import pytest
from PIL import Image
from server_fakes import EchoEngine, client

from saccade import media
from saccade.call import Answer, Call
from saccade.card import Card
from saccade.errors import BadSettings, UnknownModel
from saccade.results import Boxes
from saccade.server import wiring
from saccade.server.access import OpenGate
from saccade.server.app import App
from saccade.server.fetch import Fetcher
from saccade.server.settings import Settings


def gif(rgb: np.ndarray) -> bytes:
    """One of a single frame."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "GIF")
    return file.getvalue()


PHOTO = cv2.imencode(".png", np.zeros((60, 80, 3), np.uint8))[1].tobytes()
GIF = gif(np.zeros((60, 80, 3), np.uint8))
HOME = "http://photos.example"
MOST_BYTES = 100_000

Send = Callable[[str], Mapping[str, Any]]


def form(**fields: str) -> Mapping[str, Any]:
    """A multipart form without files, as ``curl -F`` sends it."""
    return {"files": {name: (None, value) for name, value in fields.items()}}


FACES: dict[str, tuple[str, Send]] = {
    "l1": ("/v1/predict/one", lambda address: form(url=address)),
    "l1 urlencoded": ("/v1/predict/one", lambda address: {"data": {"url": address, "size": "640"}}),
    "l2": ("/v1/predict/one?response=l2", lambda address: form(url=address)),
    "l3": ("/v1/predict/one", lambda address: form(source=address, imgsz="640", conf="0.3")),
    "hub": ("/", lambda address: form(model="one", source=address)),
    "hub file": ("/", lambda address: form(model="https://hub.ultralytics.com/models/one", file=address)),
    "platform": ("/api/models/a-owner/a-project/one/predict", lambda address: form(source=address)),
    "platform root": ("/predict", lambda address: form(model="one", source=address)),
    "hf": ("/models/one", lambda address: {"json": {"inputs": address}}),
    "hf dedicated": ("/", lambda address: {"json": {"inputs": address}}),
}
OLD, NEW = ("l1", "l1 urlencoded", "l2"), ("l3", "hub", "hub file", "platform", "platform root")


class Site(BaseHTTPRequestHandler):
    """A picture, a video, redirects and trouble."""

    videos: Path

    def do_GET(self) -> None:
        where = self.path
        if where == "/photo":
            self.reply(PHOTO, "image/png")
        elif where == "/still.gif":
            self.reply(GIF, "image/gif")
        elif where == "/clip.mp4":
            self.reply((self.videos / "synthetic_12frames_160x120.mp4").read_bytes(), "video/mp4")
        elif where.startswith("/to/"):
            self.reply(b"", "text/plain", 302, Location=where[4:])
        elif where == "/round":
            self.reply(b"", "text/plain", 302, Location="/round")
        elif where == "/page":
            self.reply(b"<html><title>secret</title>", "text/html")
        elif where == "/liar":
            self.reply(b"<html><title>secret</title>", "image/png")
        elif where == "/big":
            self.reply(bytes(MOST_BYTES + 1), "image/png")
        elif where == "/endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(MOST_BYTES // 1000 + 2):
                self.wfile.write(bytes(1000))
        elif where == "/slow":
            time.sleep(3)
        else:
            self.reply(b"secret words of the site", "text/plain", 403)

    def reply(self, body: bytes, kind: str, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None: ...


@pytest.fixture(scope="module")
def port(shared: Path) -> Iterator[int]:
    Site.videos = shared / "data" / "videos"
    server = Quiet(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


class Names:
    """A name server and the wire behind it: every connection ends at the local site, whatever address was meant.

    The answers for a name change from question to question; the last one stays.
    """

    def __init__(self, port: int, **answers: Sequence[str]) -> None:
        self.port = port
        self.answers = {"photos.example": ["8.8.8.8"]} | {
            f"{name}.example": list(addresses) for name, addresses in answers.items()
        }
        self.connected: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        addresses = self.answers[host]
        return [addresses.pop(0) if len(addresses) > 1 else addresses[0]]

    def fetcher(self, *allowed: str, timeout_s: float = 5.0) -> Fetcher:
        return Fetcher(allowed, max_bytes=MOST_BYTES, timeout_s=timeout_s, resolve=self.resolve, backend=self.wire())

    def wire(self) -> httpcore.AsyncNetworkBackend:
        names = self

        class Wire(httpcore.AsyncNetworkBackend):
            async def connect_tcp(self, host: str, port: int, *args: Any, **more: Any) -> Any:
                names.connected.append(host)
                return await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", names.port)

            async def connect_unix_socket(self, *args: Any, **more: Any) -> Any:
                raise AssertionError

        return Wire()


class Eyes(EchoEngine):
    """An engine that decodes what it is given and finds one thing as large as the picture."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def predict(self, call: Call) -> Answer:
        self.calls.append(call)
        return self.seen(call, media.decode(call.media).rgb.shape[:2])

    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        self.calls.append(call)
        assert call.clip is not None
        for frame in media.frames(call.media, call.clip.stride):
            yield self.seen(call, frame.shape[:2])

    def seen(self, call: Call, image_hw: tuple[int, ...]) -> Answer:
        height, width = image_hw
        found = Boxes(
            np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32), ("thing",)
        )
        return Answer(result=found, image_hw=(height, width), model=call.model)


class Shelf:
    """One detector."""

    def card(self, ref: str, *, fetch: bool = False) -> Card:
        if ref != "one":
            raise UnknownModel(f"There is no model '{ref}'.")
        return Card(name="one", task="detect", family="x", runtime="y", labels={0: "thing"})

    def cards(self) -> list[Card]:
        return [self.card("one")]


def house(fetch: Fetcher | None = None, **settings: Any) -> App:
    parts = Settings(access_log=False, default_model="one", **settings)
    app = wiring.build(parts, Shelf(), Eyes(), OpenGate())  # type: ignore[arg-type]
    app.fetch = fetch or app.fetch
    return app


def asked(app: App, face: str, address: str, headers: Mapping[str, str] | None = None, **more: str) -> httpx.Response:
    path, send = FACES[face]

    async def ask() -> httpx.Response:
        async with client(app) as http:
            return await http.post(path, headers=headers, params=more or None, **send(address))

    return asyncio.run(ask())


def found(face: str, response: httpx.Response) -> Any:
    """The one thing's size, out of the face's own words."""
    assert response.status_code == 200, response.text
    body = response.json()
    if face.startswith("hf"):
        box = body[0]["box"]
        return [box["xmax"], box["ymax"]]
    if face == "l2":
        return [round(body["data"][0]["width"] * 80), round(body["data"][0]["height"] * 60)]
    item = body["data"][0] if face in OLD else body["images"][0]["results"][0]
    return [item["box"]["x2"], item["box"]["y2"]]


def refused(face: str, response: httpx.Response, status: int = 400) -> str:
    """The text of a refusal, which must have the face's own shape and tell nothing of the site."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert "secret" not in response.text
    body = response.json()
    if face in (*OLD, "l3"):
        assert body == {"success": False, "message": body["message"], "data": {}}
        return str(body["message"])
    assert set(body) == ({"error", "message"} if face.startswith("hub") else {"error"})
    return str(body["error"])


@pytest.mark.parametrize("face", FACES)
def test_an_address_is_refused_unless_allowed_and_the_words_name_the_setting(face: str) -> None:
    app = house()
    text = refused(face, asked(app, face, f"{HOME}/photo"))
    assert "does not fetch addresses" in text
    assert "--allow-url" in text
    assert app.engine.calls == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("face", FACES)
def test_an_allowed_address_is_answered_like_an_upload(port: int, face: str) -> None:
    names = Names(port)
    assert found(face, asked(house(names.fetcher("*")), face, f"{HOME}/photo")) == [80, 60]
    assert names.connected == ["8.8.8.8"]


@pytest.mark.parametrize("face", FACES)
def test_only_the_hosts_of_the_patterns_are_asked(port: int, face: str) -> None:
    names = Names(port, elsewhere=["8.8.8.8"])
    app = house(names.fetcher("photos.*"))
    assert found(face, asked(app, face, f"{HOME}/photo")) == [80, 60]
    for address in ("http://elsewhere.example/photo", f"{HOME}:8080/photo"):
        text = refused(face, asked(app, face, address))
        assert "does not fetch from" in text
        assert "--allow-url" in text
    assert names.connected == ["8.8.8.8"]


@pytest.mark.parametrize("face", FACES)
def test_redirects_are_followed_and_each_is_checked(port: int, face: str) -> None:
    names = Names(port, inside=["192.168.1.5"])
    app = house(names.fetcher("*"))
    assert found(face, asked(app, face, f"{HOME}/to/{HOME}/photo")) == [80, 60]
    assert "public" in refused(face, asked(app, face, f"{HOME}/to/http://inside.example/photo"))
    assert "http" in refused(face, asked(app, face, f"{HOME}/to/file:///etc/hostname"))
    assert "more than 3 times" in refused(face, asked(app, face, f"{HOME}/round"))
    assert set(names.connected) == {"8.8.8.8"}


@pytest.mark.parametrize("face", FACES)
def test_hosts_that_are_not_public_are_refused(port: int, face: str) -> None:
    names = Names(port)
    app = house(names.fetcher("*"))
    for address in ("10.0.0.1", "169.254.169.254", "100.64.0.1", "::1", "::ffff:7f00:1", "64:ff9b::a00:1"):
        names.answers["inside.example"] = [address]
        text = refused(face, asked(app, face, "http://inside.example/photo"))
        assert "public" in text
        assert address not in text
    assert names.connected == []


@pytest.mark.parametrize("face", FACES)
def test_a_name_that_is_resolved_anew_for_every_call_gains_nothing(port: int, face: str) -> None:
    names = Names(port, rebinding=["8.8.8.8", "127.0.0.1"])
    app = house(names.fetcher("*"))
    assert found(face, asked(app, face, "http://rebinding.example/photo")) == [80, 60]
    assert "public" in refused(face, asked(app, face, "http://rebinding.example/photo"))
    assert names.connected == ["8.8.8.8"]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("path", ["/big", "/endless"])
def test_more_than_may_be_fetched_is_413_with_the_limit(port: int, face: str, path: str) -> None:
    text = refused(face, asked(house(Names(port).fetcher("*")), face, HOME + path), 413)
    assert str(MOST_BYTES) in text


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("path", "words"), [("/page", "'text/html'"), ("/liar", "cannot identify image"), ("/gone", "status 403")]
)
def test_what_is_no_picture_is_refused_without_its_words(port: int, face: str, path: str, words: str) -> None:
    assert words in refused(face, asked(house(Names(port).fetcher("*")), face, HOME + path))


@pytest.mark.parametrize("face", FACES)
def test_a_slow_address_is_given_up_after_its_time_or_the_callers(port: int, face: str) -> None:
    text = refused(face, asked(house(Names(port).fetcher("*", timeout_s=0.2)), face, f"{HOME}/slow"))
    assert "0.2 seconds" in text
    began = time.monotonic()
    app = house(Names(port).fetcher("*", timeout_s=20))
    text = refused(face, asked(app, face, f"{HOME}/slow", {"x-request-timeout": "0.2"}), 504)
    assert "deadline" in text
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("face", ["l1 urlencoded", "hf"])
def test_what_was_fetched_counts_towards_the_bytes_that_are_held(port: int, face: str) -> None:
    app = house(Names(port).fetcher("*"), max_inflight_bytes=3000)
    for _ in range(3):
        assert found(face, asked(app, face, f"{HOME}/photo")) == [80, 60]
    assert app.shelf.held_bytes == 0
    app = house(Names(port).fetcher("*"), max_inflight_bytes=len(PHOTO) + 20)
    assert "too many" in refused(face, asked(app, face, f"{HOME}/photo"), 503)
    assert app.shelf.held_bytes == 0


@pytest.mark.parametrize("face", FACES)
def test_a_video_behind_an_address_has_an_entry_per_frame(port: int, face: str) -> None:
    response = asked(house(Names(port).fetcher("*")), face, f"{HOME}/clip.mp4")
    if face.startswith("hf"):
        assert "video" in refused(face, response)
        return
    body = response.json()
    assert len(body["images"]) == body["metadata"]["imageCount"] == 12
    assert {tuple(image["shape"]) for image in body["images"]} == {(120, 160)}


@pytest.mark.parametrize("face", [*OLD, *NEW])
def test_a_video_behind_an_address_is_streamed_on_request_and_a_picture_is_not(port: int, face: str) -> None:
    app, lines = house(Names(port).fetcher("*")), {"accept": "application/x-ndjson"}
    response = asked(app, face, f"{HOME}/clip.mp4", lines)
    assert response.headers["content-type"] == "application/x-ndjson"
    entries = [json.loads(line) for line in response.text.splitlines()]
    assert len(entries) == 13
    assert entries[-1]["metadata"]["imageCount"] == 12
    assert found(face, asked(app, face, f"{HOME}/photo", lines)) == [80, 60]


def test_a_gif_behind_an_address_is_a_video_as_one_in_the_body_is(port: int) -> None:
    app, lines = house(Names(port).fetcher("*")), {"accept": "application/x-ndjson"}
    response = asked(app, "hub", f"{HOME}/still.gif", lines)
    assert response.headers["content-type"] == "application/x-ndjson"
    assert json.loads(response.text.splitlines()[-1])["metadata"]["imageCount"] == 1


def test_no_picture_is_drawn_of_a_video_behind_an_address(port: int) -> None:
    app = house(Names(port).fetcher("*"))
    text = refused("hub", asked(app, "hub", f"{HOME}/clip.mp4", annotated="true"))
    assert "annotated" in text.lower()
    assert app.engine.calls == []  # type: ignore[attr-defined]


def test_a_picture_behind_an_address_has_the_time_of_a_picture(port: int) -> None:
    app = house(Names(port).fetcher("*"), request_timeout_s=50.0, video_timeout_s=500.0)
    asked(app, "hub", f"{HOME}/photo")
    deadline = app.engine.calls[0].deadline  # type: ignore[attr-defined]
    assert 40 < deadline - time.monotonic() <= 50


@pytest.mark.parametrize("pattern", ["https://photos.example", "photos.example/path", "me@photos.example", "a b", ""])
def test_what_is_no_pattern_of_hosts_is_refused_at_the_start(pattern: str) -> None:
    with pytest.raises(BadSettings, match="allow_url") as caught:
        house(allow_url=(pattern,))
    assert "10.1.0.0/16" in caught.value.message


def test_hosts_with_letters_of_other_languages_can_be_allowed(port: int) -> None:
    names = Names(port, **{"xn--bcher-kva": ["8.8.8.8"]})
    for pattern in ("bücher.example", "xn--bcher-kva.example", "*.EXAMPLE"):
        app = house(names.fetcher(pattern))
        assert found("l1", asked(app, "l1", "http://bücher.example/photo")) == [80, 60], pattern
