"""The application, through HTTP: routes, bodies, headers, refusals, cancellation."""

from __future__ import annotations

import asyncio
import base64
import errno
import gc
import gzip
import json
import os
import threading
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
import pytest
from server_fakes import EchoEngine, PlainDialect, Shelf, client

from saccade import __version__, media
from saccade.call import Answer, Call
from saccade.card import Card
from saccade.dialects.dialect import Incoming, Outgoing
from saccade.dialects.hub import Hub
from saccade.dialects.huggingface import HuggingFace
from saccade.dialects.platform import Platform
from saccade.errors import BadInput, Overloaded, Unreachable, anew
from saccade.results import Depth
from saccade.server import wiring
from saccade.server.access import Caller, OpenGate, Standing, Ticket
from saccade.server.app import UNSEEN, App
from saccade.server.database import Database
from saccade.server.journal import Journal
from saccade.server.records import SqlRecords
from saccade.server.settings import Settings

Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


def made(
    engine: EchoEngine | None = None, shelf: Shelf | None = None, dialects: Sequence[Any] = (), **settings: Any
) -> App:
    dialects = dialects or [PlainDialect("first", b"1"), PlainDialect("second", b"2")]
    parts = Settings(access_log=False, **settings)
    return wiring.build(parts, shelf or Shelf(), engine or EchoEngine(), OpenGate(), dialects)  # type: ignore[arg-type]


def asked(app: App, method: str, path: str, **more: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with client(app) as http:
            return await http.request(method, path, **more)

    return asyncio.run(ask())


def test_a_request_goes_through_the_engine_and_back() -> None:
    response = asked(made(), "POST", "/first/one", content=b"hello")
    assert response.json() == {"from": "first", "said": ["hello"]}
    assert response.headers["content-length"] == str(len(response.content))
    assert response.headers["server-timing"].startswith("load;dur=0.00, queue;dur=0.00, decode;dur=")
    assert "infer;dur=1.50" in response.headers["server-timing"]


@pytest.mark.parametrize(
    "error", [BadInput("cannot identify image file"), ZeroDivisionError()], ids=["refused", "a bug"]
)
def test_nothing_of_a_failed_call_waits_for_the_collector(error: Exception) -> None:
    """Its body may have megabytes, and the collector may come minutes later."""

    class Refusing(EchoEngine):
        async def predict(self, call: Call) -> Answer:
            waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            waiting.set_exception(anew(error))
            return await waiting

    app = made(Refusing())

    async def ask() -> int:
        async with client(app) as http:
            await http.post("/first/one", content=b"x")
            gc.collect()
            gc.disable()
            try:
                for _ in range(5):
                    response = await http.post("/first/one", content=b"x" * 100_000)
                    assert response.status_code in (400, 500)
                return sum(type(found) is Call for found in gc.get_objects())
            finally:
                gc.enable()

    assert asyncio.run(ask()) <= 1


@pytest.mark.parametrize("path", ["/first/one/", "/first//one//", "/first%2Fone", "/first/one?x=1"])
def test_slashes_in_any_form_lead_to_the_same_model(path: str) -> None:
    assert asked(made(), "POST", path, content=b"hello").json()["said"] == ["hello"]


@pytest.mark.parametrize("pairs", [150, 1000, 6000])
def test_a_query_of_many_pairs_is_read(pairs: int) -> None:
    response = asked(made(), "POST", "/first/one?" + "classes=1&" * pairs, content=b"hello")
    assert response.json()["said"] == ["hello"]


@pytest.mark.parametrize(("body", "name"), [(b"1 me", "first"), (b"2 me", "second"), (b"nobody", "second")])
def test_a_shared_path_goes_to_the_first_dialect_that_claims_it(body: bytes, name: str) -> None:
    assert asked(made(default_model="one"), "POST", "/both", content=body).json()["from"] == name


def test_several_images_of_one_request_come_back_in_order() -> None:
    engine = EchoEngine()
    assert asked(made(engine), "POST", "/first/one?count=20", content=b"x").json()["said"] == ["x"] * 20
    assert engine.served == 20


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (b"\xff\xd8\xff\xe0", "cannot identify image file: image 2 of 3: the JPEG image is truncated"),
        (b"<html>", "image 2 of 3: cannot identify image file: it looks like an HTML page"),
        ("photo.jpg", "image 2 of 3: The image string is neither valid base64"),
        (7, "image 2 of 3: An image must be a base64 string, but 7 was given."),
    ],
)
@pytest.mark.parametrize("key", ["inputs", "instances"])
def test_which_of_several_images_is_broken_is_told(key: str, second: Any, words: str) -> None:
    class Eye(EchoEngine):
        async def predict(self, call: Call) -> Answer:
            media.decode(call.media)
            return await super().predict(call)

    sound = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    images = [base64.b64encode(one).decode() if isinstance(one, bytes) else one for one in (sound, second, sound)]
    app = made(Eye(), dialects=[HuggingFace()])
    response = asked(app, "POST", "/models/one", json={key: images})
    assert response.status_code == 400
    assert response.json()["error"].startswith(words)
    alone = asked(app, "POST", "/models/one", json={"inputs": images[1]})
    assert alone.status_code == 400
    assert " of " not in alone.json()["error"].split(": ")[0]


def test_the_other_images_of_a_request_that_failed_are_not_looked_at_any_more() -> None:
    engine = EchoEngine()
    images = [base64.b64encode(one).decode() for one in (b"sleep9", b"fail late", b"sleep9")]

    async def main() -> int:
        async with client(made(engine, dialects=[HuggingFace()])) as http:
            refused = await http.post("/models/one", json={"inputs": images})
            await asyncio.sleep(0.05)
            assert engine.cancelled == 2
            return refused.status_code

    assert asyncio.run(main()) == 500


@pytest.mark.parametrize(
    ("method", "path", "status", "key", "allow"),
    [
        ("POST", "/first", 404, "first", None),
        ("GET", "/first/one", 405, "first", "POST"),
        ("DELETE", "/both", 405, "first", "POST"),
        ("POST", "/firsts", 405, "first", "GET, HEAD"),
        ("PUT", "/", 405, "error", "GET, HEAD"),
        ("POST", "/health", 405, "error", "GET, HEAD"),
        ("GET", "/v1/keys/some", 405, "error", "DELETE, PATCH"),
        ("POST", "/nowhere", 404, "error", None),
        ("GET", "/", 200, "status", None),
    ],
)
def test_wrong_paths_and_methods_are_refused_in_the_words_of_the_nearest_dialect(
    method: str, path: str, status: int, key: str, allow: str | None
) -> None:
    response = asked(made(), method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert isinstance(response.json()[key], str)
    assert response.headers.get("allow") == allow


@pytest.mark.parametrize("path", ["/models/one", "/nothing"])
def test_the_old_router_refuses_in_hugging_faces_words_beside_the_platforms(path: str) -> None:
    response = asked(made(dialects=[Platform(), HuggingFace()]), "GET", f"/api/inference-proxy/hf-inference{path}")
    assert response.headers["x-error-message"] == response.json()["error"]
    assert "x-error-message" not in asked(made(dialects=[Platform(), HuggingFace()]), "GET", "/api/nothing").headers


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/models/one", "POST"),
        ("DELETE", "/hf-inference/models/one", "POST"),
        ("GET", "/models/one", "POST"),
        ("PUT", "/models/one/info", "GET, HEAD, POST"),
        ("POST", "/status/one", "GET, HEAD"),
    ],
)
def test_only_methods_that_an_address_has_are_called_allowed(method: str, path: str, allow: str) -> None:
    response = asked(made(dialects=[HuggingFace()]), method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allow)
    assert method not in allow


def test_a_head_is_given_of_what_can_be_read_and_nothing_else() -> None:
    assert [asked(made(), "HEAD", path).status_code for path in ("/firsts", "/first/one")] == [200, 405]


def test_an_error_has_the_status_of_its_kind_and_the_words_of_its_dialect() -> None:
    response = asked(made(), "POST", "/second/one", content=b"unreadable")
    assert (response.status_code, response.json()) == (400, {"second": "This is no image."})
    assert asked(made(), "POST", "/second/three", content=b"x").status_code == 404
    assert asked(made(), "POST", "/second/one", content=b"fail").status_code == 500


@pytest.mark.parametrize("body", [b"bug", b"broken"])
def test_an_unexpected_exception_gives_an_id_that_the_log_has_and_nothing_else(
    body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    response = asked(made(), "POST", "/first/one", content=body, headers={"x-request-id": "abc-1"})
    assert response.status_code == 500
    assert "abc-1" in response.json()["first"]
    assert "abc-1" in caplog.text
    assert "secret" not in caplog.text + response.text
    assert "Traceback" not in caplog.text + response.text
    assert "/" not in caplog.records[-1].getMessage()


@pytest.mark.parametrize(("body", "what"), [(b"short", "open files"), (b"threads", "threads or processes")])
def test_what_the_system_has_too_little_of_is_told_and_the_call_may_come_again(
    body: bytes, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = asked(made(), "POST", "/first/one", content=body)
    assert response.status_code == 503
    assert response.json()["first"].startswith(f"The system gives the server no more {what} now.")
    assert what in caplog.text
    assert "secret" not in caplog.text + response.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_is_told_as_such(number: int, caplog: pytest.LogCaptureFixture) -> None:
    response = asked(made(), "POST", "/first/one", content=b"errno%d" % number)
    assert response.status_code == 503
    assert response.json()["first"].startswith(f"The server can write no files now ({os.strerror(number)}).")
    assert os.strerror(number) in caplog.text
    assert "secret" not in caplog.text + response.text


@pytest.mark.parametrize(
    ("error", "words", "wait_s"),
    [
        (OSError(errno.EROFS, "No", "/secret/path"), "can write no files", "30"),
        (RuntimeError("can't start new thread"), "no more threads", "5"),
        (RuntimeError("Exception from plugin.cpp:54:\nstd::bad_alloc"), "no more memory", "5"),
        (RuntimeError("[CPU] Check 'ptr' failed: Failed to allocate 614400 bytes of memory"), "no more memory", "5"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/secret']"), "with TMPDIR", "30"),
    ],
)
def test_a_page_that_needs_what_the_system_does_not_give_says_so(error: Exception, words: str, wait_s: str) -> None:
    async def page(scope: Any, receive: Any, send: Any) -> None:
        raise error

    app = made()
    app.house, app.is_house = page, lambda method, path: True
    response = asked(app, "POST", "/v1/models")
    assert response.status_code == 503
    assert words in response.json()["error"]
    assert response.headers["retry-after"] == wait_s


def test_request_ids_are_echoed_if_they_are_harmless_and_made_if_not() -> None:
    for name in ("x-request-id", "X-Amzn-Trace-Id"):
        assert asked(made(), "GET", "/health", headers={name: "my-id.1"}).headers["x-request-id"] == "my-id.1"
    made_up = asked(made(), "POST", "/first/one", headers={"x-request-id": "bad id<>"}).headers["x-request-id"]
    assert len(made_up) == 32


def test_bodies_over_the_limit_are_refused_announced_or_not() -> None:
    app = made(max_body_bytes=1000)
    assert asked(app, "POST", "/first/one", content=b"x" * 1000).status_code == 200
    response = asked(app, "POST", "/first/one", content=b"x" * 1001)
    assert response.status_code == 413
    assert "1001" in response.json()["first"]
    assert "1000" in response.json()["first"]

    async def pieces() -> Any:
        for _ in range(11):
            yield b"x" * 100

    assert asked(app, "POST", "/first/one", content=pieces()).status_code == 413
    assert asked(app, "POST", "/first/nobodys", content=b"x" * 1001).status_code == 404
    assert app.shelf.held_bytes == 0


def test_what_the_platform_took_is_taken_here() -> None:
    """100 MB, also in base64: the largest image or video of its documents."""
    assert asked(made(), "POST", "/first/one", content=bytes(100_000_000 * 4 // 3)).status_code == 200


def test_all_bodies_together_are_limited_too() -> None:
    app = made(max_inflight_bytes=100)
    assert asked(app, "POST", "/first/one", content=b"x" * 101).status_code == 503
    assert asked(app, "POST", "/first/one", content=b"x" * 100).status_code == 200
    assert app.shelf.held_bytes == 0


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_packed_bodies_are_unpacked(encoding: str) -> None:
    response = asked(
        made(), "POST", "/first/one", content=gzip.compress(b"hello"), headers={"content-encoding": encoding}
    )
    assert response.json()["said"] == ["hello"]


@pytest.mark.parametrize("window_bits", [zlib.MAX_WBITS, -zlib.MAX_WBITS])
def test_deflate_is_unpacked_with_and_without_a_frame_of_zlib(window_bits: int) -> None:
    """RFC 9110 says with; .NET's DeflateStream and others leave it out."""
    packer = zlib.compressobj(wbits=window_bits)
    body = packer.compress(b"hello") + packer.flush()
    response = asked(made(), "POST", "/first/one", content=body, headers={"content-encoding": "deflate"})
    assert response.json()["said"] == ["hello"]


@pytest.mark.parametrize("encoding", ["identity", "utf-8", "UTF8", "base64", "binary", "8bit", "none", ""])
def test_what_is_no_content_encoding_says_nothing_about_the_body(encoding: str) -> None:
    """Programs put a charset or base64 there, and the hosts that they were written for did not look at it."""
    response = asked(made(), "POST", "/first/one", content=b"hello", headers={"content-encoding": encoding})
    assert response.json()["said"] == ["hello"]


@pytest.mark.parametrize("end", [b"", bytes(9)])
def test_a_body_of_several_gzip_members_is_read_to_its_end(end: bytes) -> None:
    body = b"".join(gzip.compress(part) for part in (b"hel", b"", b"lo")) + end
    response = asked(made(), "POST", "/first/one", content=body, headers={"content-encoding": "gzip"})
    assert response.json()["said"] == ["hello"]


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(b"", mtime=0) * 2_000, "gzip", 400),
        (gzip.compress(b"hello", mtime=0) + gzip.compress(b"hello" * 100, mtime=0)[:-12], "gzip", 400),
        (gzip.compress(bytes(600_000), mtime=0) * 2, "gzip", 413),
        (gzip.compress(bytes(10_000_000), mtime=0), "gzip", 413),
        (b"no gzip at all", "gzip", 400),
        (b"no deflate at all", "deflate", 400),
        (b"", "deflate", 400),
        (gzip.compress(b"hello" * 100, mtime=0)[:-12], "gzip", 400),
        (b"x", "br", 400),
    ],
)
def test_bombs_and_broken_or_unknown_encodings_are_refused(body: bytes, encoding: str, status: int) -> None:
    app = made(max_body_bytes=1_000_000)
    response = asked(app, "POST", "/first/one", content=body, headers={"content-encoding": encoding})
    assert response.status_code == status
    assert app.shelf.held_bytes == 0


def test_a_body_in_an_encoding_that_is_not_known_is_refused_before_it_is_sent() -> None:
    sent: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        sent.append(b"x" * 1000)
        yield sent[-1]

    refused = asked(made(), "POST", "/first/one", content=body(), headers={"content-encoding": "br"})
    assert (refused.status_code, sent) == (400, [])


def test_a_body_that_never_ends_is_given_up() -> None:
    async def trickle() -> Any:
        yield b"x"
        await asyncio.sleep(5)
        yield b"x"

    response = asked(made(body_timeout_s=0.1), "POST", "/first/one", content=trickle())
    assert response.status_code == 400
    assert "0.1 seconds" in response.json()["first"]


@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 204), ("GET", 404)])
def test_the_address_of_a_whole_server_is_answered_like_any_other(method: str, status: int) -> None:
    app, sent = made(), list[Any]()

    async def ask() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": "*", "raw_path": b"*", "query_string": b"", "headers": []}
        await app(scope, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] == status


def test_a_browser_may_call_from_any_page_unless_told_otherwise() -> None:
    asking = {
        "origin": "https://page.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key, user-agent",
    }
    response = asked(made(), "OPTIONS", "/first/one", headers=asking)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "https://page.example"
    assert response.headers["access-control-allow-headers"] == "x-api-key, user-agent"
    assert "POST" in response.headers["access-control-allow-methods"]
    response = asked(made(), "POST", "/first/one", headers=asking, content=b"x")
    assert response.headers["access-control-allow-credentials"] == "true"
    for name in (
        "x-request-id",
        "x-imgsz",
        "x-ignored-arguments",
        "x-ratelimit-reset",
        " ratelimit,",
        "ratelimit-policy",
    ):
        assert name in response.headers["access-control-expose-headers"]
    refused = asked(made(), "POST", "/first/one", headers=asking, content=b"unreadable")
    assert refused.headers["access-control-allow-origin"] == "https://page.example"
    closed = made(cors_origins=("https://own.example",))
    assert "access-control-allow-origin" not in asked(closed, "OPTIONS", "/first/one", headers=asking).headers


def test_who_names_no_origin_is_told_what_pages_may_read_and_what_the_answer_depends_on() -> None:
    for told in (
        asked(made(), "POST", "/first/one", content=b"x"),
        asked(made(), "POST", "/first/one", content=b"unreadable"),
        asked(
            made(cors_origins=("https://own.example",)), "POST", "/first/one", headers={"origin": "https://x.example"}
        ),
    ):
        assert "access-control-allow-origin" not in told.headers
        assert told.headers["access-control-allow-credentials"] == "true"
        assert "x-compute-type, x-compute-time" in told.headers["access-control-expose-headers"]
        assert told.headers["vary"] == "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    silent = asked(made(cors_origins=()), "POST", "/first/one", content=b"x", headers={"origin": "https://x.example"})
    assert not [name for name in silent.headers if name == "vary" or name.startswith("access-control")]


def test_a_deadline_is_handed_on_and_kept() -> None:
    engine = EchoEngine()
    begun = time.monotonic()
    asked(made(engine), "POST", "/first/one", content=b"x", headers={"x-request-timeout": "5"})
    assert engine.last is not None
    assert engine.last.deadline is not None
    assert begun + 4.9 < engine.last.deadline < time.monotonic() + 5
    response = asked(made(), "POST", "/first/one", content=b"sleep9", headers={"x-request-timeout": "0.01"})
    assert response.status_code == 504
    for wrong in ("0", "-1", "soon", "nan"):
        response = asked(made(), "POST", "/first/one", content=b"x", headers={"x-request-timeout": wrong})
        assert response.status_code == 400, wrong


def test_a_priority_is_handed_on_and_wrong_ones_are_refused() -> None:
    engine = EchoEngine()
    for given, priority in ((None, 0), ("0", 0), ("-100", -100), ("+7", 7)):
        headers = {} if given is None else {"x-request-priority": given}
        assert asked(made(engine), "POST", "/first/one", content=b"x", headers=headers).status_code == 200
        assert engine.last is not None
        assert engine.last.priority == priority
    for wrong in ("high", "1.5", "101", "-101", "", "1 2"):
        response = asked(made(), "POST", "/first/one", content=b"x", headers={"x-request-priority": wrong})
        assert response.status_code == 400, wrong
        assert "-100 (last) to 100 (first)" in response.text


def test_a_caller_who_left_has_his_call_cancelled() -> None:
    engine = EchoEngine()
    app = made(engine)

    async def leave() -> None:
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        await messages.put({"type": "http.request", "body": b"sleep9", "more_body": False})
        scope = {"type": "http", "method": "POST", "path": "/first/one", "headers": [], "query_string": b""}

        async def send(message: Any) -> None:
            raise AssertionError("nothing is sent to nobody")

        call = asyncio.create_task(app(scope, messages.get, send))
        await asyncio.sleep(0.05)
        await messages.put({"type": "http.disconnect"})
        await asyncio.wait_for(call, 1)

    asyncio.run(leave())
    assert engine.cancelled == 1
    assert (app.inflight, app.shelf.held_bytes) == (0, 0)


def test_a_cancelled_server_task_stays_cancelled() -> None:
    app = made()

    async def cancel() -> None:
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        await messages.put({"type": "http.request", "body": b"sleep9", "more_body": False})
        scope = {"type": "http", "method": "POST", "path": "/first/one", "headers": [], "query_string": b""}

        async def send(message: Any) -> None: ...

        call = asyncio.create_task(app(scope, messages.get, send))
        await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(cancel())


def test_a_model_of_the_catalogue_is_fetched_once_for_all_who_wait() -> None:
    shelf = Shelf()
    app = made(shelf=shelf)

    async def ask() -> list[httpx.Response]:
        async with client(app) as http:
            return await asyncio.gather(*(http.post("/first/far", content=b"x") for _ in range(5)))

    assert [response.status_code for response in asyncio.run(ask())] == [200] * 5
    assert shelf.fetches == 1


def test_who_does_not_wait_for_a_fetch_is_told_so_in_time_and_it_goes_on() -> None:
    class Slow(Shelf):
        def card(self, ref: str, *, fetch: bool = False) -> Card:
            assert not fetch or told.wait(5)
            return super().card(ref, fetch=fetch)

    told, shelf = threading.Event(), Slow()
    app = made(shelf=shelf)

    async def ask() -> list[httpx.Response]:
        async with client(app) as http:
            hasty = await http.post("/first/far", content=b"x", headers={"x-request-timeout": "0.05"})
            told.set()
            return [hasty, await http.post("/first/far", content=b"x")]

    hasty, patient = asyncio.run(ask())
    assert (hasty.status_code, hasty.json()) == (503, {"first": "Model far is currently loading"})
    assert (patient.status_code, shelf.fetches) == (200, 1)


@pytest.mark.parametrize(
    ("given", "waits"),
    [({}, False), ({"headers": {"x-wait-for-model": "true"}}, True), ({"params": "wait_for_model=1"}, True)],
)
def test_where_the_operator_chose_so_a_fetch_is_waited_for_by_who_says_so(given: dict[str, Any], waits: bool) -> None:
    shelf = Shelf()
    app = made(shelf=shelf, dialects=[HuggingFace()], hf_cold_503=True)

    async def ask() -> httpx.Response:
        async with client(app) as http:
            first = await http.post("/models/far", content=b"x", **given)
            async with asyncio.timeout(5):
                while (await http.post("/models/far", content=b"x")).status_code != 200:
                    await asyncio.sleep(0.01)
            return first

    first = asyncio.run(ask())
    assert shelf.fetches == 1
    if waits:
        assert first.status_code == 200
    else:
        assert (first.status_code, first.json()) == (
            503,
            {"error": "Model far is currently loading", "estimated_time": 20.0},
        )


def test_nothing_is_fetched_for_a_body_that_is_refused() -> None:
    shelf = Shelf()
    assert asked(made(shelf=shelf, max_body_bytes=10), "POST", "/first/far", content=b"x" * 11).status_code == 413
    assert shelf.fetches == 0


def test_long_paths_are_not_remembered() -> None:
    app = made()
    for number in range(20):
        asked(app, "GET", f"/first/{number}{'a' * 5000}")
    assert app.paths._known.cache_info().currsize == 0


def test_a_path_with_dots_leads_nowhere() -> None:
    async def status(path: str) -> int:
        told: list[Any] = []

        async def send(message: Any) -> None:
            told.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
        await made()(scope, None, send)  # type: ignore[arg-type]
        return int(told[0]["status"])

    for path in ("/health/..", "/./health", "/first/one/../two", "/.."):
        assert asyncio.run(status(path)) == 404
    assert asyncio.run(status("/health")) != 404
    assert asyncio.run(status("/first/one..two")) != 404


def test_one_name_written_in_many_ways_is_not_remembered_without_end() -> None:
    app = made()

    async def remembered() -> int:
        for number in range(1500):
            app.desk.library.here[f"one{number}"] = app.desk.library.here["one"]  # type: ignore[attr-defined]
            await app.desk.find(f"one{number}")
        return len(app.desk._cards)

    assert asyncio.run(remembered()) <= 1024


def test_a_packed_body_takes_its_room_on_the_shelf_while_it_is_unpacked() -> None:
    app = made(max_body_bytes=60_000_000, max_inflight_bytes=10_000_000)
    packed = gzip.compress(bytes(50_000_000), mtime=0)
    refused = asked(app, "POST", "/first/one", content=packed, headers={"content-encoding": "gzip"})
    assert refused.status_code == 503
    assert app.shelf.held_bytes == 0
    fits = gzip.compress(bytes(9_000_000), mtime=0)
    assert asked(app, "POST", "/first/one", content=fits, headers={"content-encoding": "gzip"}).status_code == 200


def test_video_answers_come_whole_or_frame_by_frame() -> None:
    whole = asked(made(), "POST", "/first/one", content=b"video")
    assert whole.json()["said"] == ["frame 0", "frame 1", "frame 2"]
    lines = asked(made(), "POST", "/first/one?stream", content=b"video")
    assert lines.headers["content-type"] == "application/x-ndjson"
    # nginx would hold it back, and middleware that packs answers, as Express's, would keep it until its end.
    assert lines.headers["x-accel-buffering"] == "no"
    assert "no-transform" in lines.headers["cache-control"]
    assert [json.loads(line) for line in lines.text.splitlines()] == ["frame 0", "frame 1", "frame 2"]


@pytest.mark.parametrize("query", ["", "?stream"])
def test_every_frame_of_a_video_is_counted_also_when_they_leave_one_by_one(query: str) -> None:
    app = made()
    told = asked(app, "POST", f"/first/one{query}", content=b"video")
    text = app.metrics.text().decode()
    assert 'saccade_requests_total{dialect="first",model="one",status="200"} 1.0' in text
    assert 'saccade_images_total{model="one"} 3.0' in text
    assert 'saccade_stage_seconds_count{model="one",stage="inference"} 3.0' in text
    assert f"saccade_sent_bytes_total {len(told.content)}.0" in text


def test_a_video_that_breaks_says_so_before_or_after_the_first_frame() -> None:
    assert asked(made(), "POST", "/first/one", content=b"video breaks").status_code == 500
    lines = asked(made(), "POST", "/first/one?stream", content=b"video breaks").text.splitlines()
    assert json.loads(lines[-1]) == {"first": "The graph failed."}


@pytest.mark.parametrize(
    ("word", "kind", "told"), [(b"breaks", "RunFailed", "The graph failed."), (b"bug", "Bug", "with this id: ")]
)
def test_what_ends_a_video_after_its_first_frame_is_an_event_of_its_own_and_an_error_in_log_and_metrics(
    tmp_path: Path, word: bytes, kind: str, told: str
) -> None:
    app = wiring.build(Settings(), Shelf(), EchoEngine(), OpenGate(), [Hub()])  # type: ignore[arg-type]
    form: dict[str, Any] = {"files": {"file": b"GIF89a " + word}, "data": {"model": "one"}}
    with (tmp_path / "log").open("w+") as stream:
        app.journal = Journal(True, stream)
        events = asked(app, "POST", "/", headers={"accept": "text/event-stream"}, **form).text.split("\n\n")
        app.journal.flush()
        stream.seek(0)
        log = stream.read()
    assert [event.partition("\n")[0] for event in events] == ["event: frame", "event: frame", "event: error", ""]
    assert told in events[2]
    assert "secret" not in events[2]
    assert f" error={kind}" in log
    assert f'saccade_errors_total{{dialect="hub",error="{kind}"}} 1.0' in app.metrics.text().decode()


def test_a_reader_who_leaves_in_the_middle_of_a_video_ends_it() -> None:
    engine = EchoEngine()
    app = made(engine)

    async def leave() -> None:
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        await messages.put({"type": "http.request", "body": b"video long", "more_body": False})
        scope = {"type": "http", "method": "POST", "path": "/first/one", "headers": [], "query_string": b"stream=1"}
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 4:
                await messages.put({"type": "http.disconnect"})

        await asyncio.wait_for(app(scope, messages.get, send), 2)

    asyncio.run(leave())
    assert engine.cancelled == 1
    assert engine.served < 20
    text = app.metrics.text().decode()
    assert 'saccade_requests_total{dialect="first",model="one",status="499"} 1.0' in text
    assert f'saccade_images_total{{model="one"}} {engine.served}.0' in text
    assert "saccade_sent_bytes_total 0.0" not in text


@pytest.mark.parametrize("status", [200, 400])
def test_what_a_region_answered_is_counted_there_and_a_call_that_it_refused_is_given_back(status: int) -> None:
    class Elsewhere:
        async def passed(self, incoming: Incoming, deadline: float) -> Outgoing:
            return Outgoing(status, b"{}")

    told: list[object] = []

    class Counting(OpenGate):
        async def give_back(self, ticket: Ticket) -> Ticket:
            told.append("given back")
            return ticket

        def count(self, ticket: Ticket, answers: Sequence[Answer]) -> None:
            told.append(len(answers))

    app = made(forward="nearest")
    app.regions, app.gate = Elsewhere(), Counting()  # type: ignore[assignment]
    response = asked(app, "POST", "/first/one", content=b"x")
    assert (response.status_code, "server-timing" in response.headers) == (status, False)
    assert told == ([1] if status == 200 else ["given back", 0])
    text = app.metrics.text().decode()
    assert f'saccade_requests_total{{dialect="first",model="",status="{status}"}} 1.0' in text
    assert "\nsaccade_images_total{" not in text
    assert "\nsaccade_stage_seconds_count{" not in text


def test_addresses_are_not_fetched_unless_allowed() -> None:
    response = asked(made(), "POST", "/first/one", content=b"http://example.org/a.jpg")
    assert response.status_code == 400
    assert "--allow-url" in response.json()["first"]


def test_an_allowed_address_is_fetched_by_the_server_and_the_bytes_go_to_the_engine() -> None:
    app = made()
    asked_for = []

    async def fetch(address: str) -> bytes:
        asked_for.append(address)
        return b"fetched"

    app.fetch = fetch
    assert asked(app, "POST", "/first/one", content=b"http://example.org/a.jpg").json()["said"] == ["fetched"]
    assert asked_for == ["http://example.org/a.jpg"]


def test_describing_routes_answer_without_the_engine() -> None:
    assert asked(made(), "GET", "/firsts").json() == ["one", "two", "slow"]


def test_health_tells_loading_ready_and_stopping() -> None:
    app = made()
    assert asked(app, "GET", "/health").status_code == 503
    app.ready = True
    assert asked(app, "GET", "/health").status_code == 200
    app.drain()
    assert asked(app, "GET", "/health").json() == {"status": "stopping"}
    assert asked(app, "GET", "/").status_code == 200, "what looks whether the process lives must not end it"
    assert asked(app, "POST", "/first/one", content=b"x").status_code == 503


def test_who_keeps_a_connection_is_sent_elsewhere_while_the_server_stops() -> None:
    """A pool would go on asking a server that refuses, beside others that answer."""
    app = made()
    assert "connection" not in asked(app, "POST", "/first/one", content=b"x").headers
    app.drain()
    for method, path in (("POST", "/first/one"), ("GET", "/firsts")):
        assert asked(app, method, path).headers["connection"] == "close"


def test_an_endpoint_that_is_at_work_stops_with_the_server(tmp_path: Path) -> None:
    records = SqlRecords(Database("", str(tmp_path)))
    app = wiring.build(Settings(home=str(tmp_path)), Shelf(), EchoEngine(), OpenGate(), (), records)  # type: ignore[arg-type]
    assert app.dedicated is not None
    endpoint = app.dedicated.app("cars")
    app.drain()
    assert endpoint.draining, "not only with its next call"


def test_who_asks_for_something_that_cannot_be_told_now_learns_when_to_come_back() -> None:
    class Down(OpenGate):
        async def usage(self, caller: Caller, days: int = 30, everybody: bool = False) -> dict[str, object]:
            raise Unreachable("The database does not answer.", retry_after_s=4.5)

        async def standing(self, caller: Caller) -> Standing:
            return Standing(100, 90, 0.0, 3600)

    app = made()
    app.gate = Down()
    refused = asked(app, "GET", "/v1/usage")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.headers["x-ratelimit-remaining"] == "90"


def test_browsers_get_a_page_and_programs_a_word() -> None:
    page = asked(made(), "GET", "/", headers={"accept": "text/html,*/*"})
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src" in page.headers["content-security-policy"]
    word = asked(made(), "GET", "/")
    assert word.json()["status"] == "ok"
    assert word.headers["vary"] == page.headers["vary"] == "Accept", "a cache between gives nobody the other's"


def test_the_docs_list_every_route_and_ask_nobody_else_for_anything() -> None:
    app = made()
    page = asked(app, "GET", "/docs").text
    paths = asked(app, "GET", "/openapi.json").json()["paths"]
    for dialect in app.dialects:
        for route in dialect.routes:
            path = route.path.replace(":path", "")
            assert path in page
            assert path in paths
    assert "https://" not in page
    everything = wiring.build(Settings(), Shelf(), EchoEngine(), OpenGate())  # type: ignore[arg-type]
    contract = asked(everything, "GET", "/openapi.json").json()
    forms = contract["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert forms["properties"]["conf"]["maximum"] == 1
    assert "confidence" in asked(everything, "GET", "/docs").text
    assert "function_to_apply" in asked(everything, "GET", "/docs").text
    assert "x-api-key: KEY" in page
    hub = contract["paths"]["/models/{path}"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert hub["properties"]["candidate_labels"]["description"] == "For: zero-shot-image-classification."
    assert hub["properties"]["threshold"]["description"] == "For: object-detection, image-segmentation."
    assert asked(app, "GET", "/static/plain.css").status_code == 200
    assert asked(app, "GET", "/static/nothing.css").status_code == 404


@pytest.mark.parametrize(
    ("told", "url"),
    [
        ({"x-forwarded-prefix": "/vision/v2/"}, "http://test/vision/v2"),
        ({"x-forwarded-proto": "https, http", "x-forwarded-prefix": "/a, /b"}, "https://test/a"),
        ({"x-forwarded-proto": "HTTPS"}, "https://test"),
        ({"x-forwarded-proto": "javascript"}, "http://test"),
        ({"x-forwarded-prefix": "/"}, "http://test"),
        ({"x-forwarded-prefix": "//elsewhere"}, "http://test"),
        ({"x-forwarded-prefix": "/'><b>"}, "http://test"),
        ({"x-forwarded-prefix": "vision"}, "http://test"),
        ({"host": "[::1]:8000"}, "http://[::1]:8000"),
        *(({"host": host}, "http://localhost") for host in ("[", "[1:2]:3", "x:99999", "x:-1", "a b", "x@y", "<b>")),
    ],
)
def test_links_and_lines_to_try_lead_through_the_proxies_that_tell_of_themselves(
    told: dict[str, str], url: str
) -> None:
    app, path = made(), urlsplit(url).path
    assert asked(app, "GET", "/", headers=told).json()["docs"] == f"{url}/docs"
    assert asked(app, "GET", "/openapi.json", headers=told).json()["servers"] == [{"url": url}]
    page = asked(app, "GET", "/docs", headers=told).text
    assert f"href='{url}/openapi.json'" in page
    assert f"<h1><a href='{url}/'>" in page
    assert f"photo.jpg {url}/models/" in page
    assert f'href="{path}/static/plain.css"' in page


def test_proxies_may_tell_of_themselves_in_a_line_each() -> None:
    told = [("x-forwarded-proto", "https"), ("x-forwarded-prefix", "/a"), ("x-forwarded-prefix", "/b")]
    answer = asked(made(), "GET", "/", headers=[*told, ("x-forwarded-proto", "http")])
    assert answer.json()["docs"] == "https://test/a/docs"
    page = asked(made(), "GET", "/", headers=[("accept", "text/html"), ("accept", "*/*;q=0.1")])
    assert page.headers["content-type"].startswith("text/html")


def test_the_contract_tells_where_each_api_has_the_picture() -> None:
    everything = wiring.build(Settings(), Shelf(), EchoEngine(), OpenGate())  # type: ignore[arg-type]
    paths = asked(everything, "GET", "/openapi.json").json()["paths"]

    def members(path: str, kind: str) -> dict[str, Any]:
        return dict(paths[path]["post"]["requestBody"]["content"][kind]["schema"]["properties"])

    assert {"inputs", "parameters"} == members("/models/{path}", "application/json").keys()
    assert "top_k" in members("/models/{path}", "application/json")["parameters"]["properties"]
    assert {"image", "url", "conf"} <= members("/v1/predict/{model}", "application/json").keys()
    assert {"file", "url", "conf"} <= members("/predict", "application/json").keys()
    # A part called `file` gets the answers of a later generation there.
    first = members("/v1/predict/{model}", "multipart/form-data")
    assert "image" in first
    assert "file" not in first


def test_after_an_upgrade_a_browser_runs_no_file_of_the_former_console() -> None:
    file = asked(made(), "GET", "/static/js/app.js")
    assert file.headers["cache-control"] == "no-cache"
    again = asked(made(), "GET", "/static/js/app.js", headers={"if-none-match": file.headers["etag"]})
    assert (again.status_code, again.content, again.headers["cache-control"]) == (304, b"", "no-cache")


def test_metrics_count_calls_errors_and_the_engines_state() -> None:
    app = made()
    asked(app, "POST", "/first/one", content=b"x")
    asked(app, "POST", "/first/one", content=b"unreadable")
    text = asked(app, "GET", "/metrics").text
    assert f'saccade_build_info{{version="{__version__}"}} 1.0' in text
    assert "process_resident_memory_bytes " in text
    assert 'saccade_requests_total{dialect="first",model="one",status="200"} 1.0' in text
    assert 'saccade_errors_total{dialect="first",error="BadInput"} 1.0' in text
    assert 'saccade_model_queued{model="one"} 1.0' in text
    assert "inf_queue_size 1.0" in text
    assert "inf_batch_current_size 2.0" in text
    assert "# TYPE saccade_model_cancelled_total counter" in text
    assert 'saccade_model_cancelled_total{model="one"} 3.0' in text
    assert "saccade_engine_threads 2.0" in text


def test_metrics_of_hundreds_of_models_are_written_while_others_are_served() -> None:
    app = made()
    for number in range(500):
        app.metrics.request("first", f"model-{number}", 200, 0.01, 100, (UNSEEN,), "")
    pauses: list[float] = []

    async def play() -> float:
        async def tick() -> None:
            while True:
                begun = time.monotonic()
                await asyncio.sleep(0)
                pauses.append(time.monotonic() - begun)

        async with client(app) as http:
            await http.get("/health")
            ticking = asyncio.create_task(tick())
            await asyncio.sleep(0)
            begun = time.monotonic()
            assert 'model="model-499"' in (await http.get("/metrics")).text
            took = time.monotonic() - begun
            ticking.cancel()
            return took

    took = asyncio.run(play())
    assert max(pauses) < took / 2


@pytest.mark.parametrize(("hw", "aside"), [((4, 4), False), ((1100, 1000), True)])
def test_a_large_map_is_rendered_while_others_are_served(hw: tuple[int, int], aside: bool) -> None:
    where: list[threading.Thread] = []

    class Painting(PlainDialect):
        def render(self, ask: Any, answers: Sequence[Answer]) -> Outgoing:
            where.append(threading.current_thread())
            return Outgoing()

    class Deep(EchoEngine):
        async def predict(self, call: Call) -> Answer:
            return Answer(result=Depth(np.zeros(hw, np.float32)), image_hw=hw)

    assert asked(made(Deep(), dialects=[Painting()]), "POST", "/plain/one", content=b"x").status_code == 200
    assert [thread is not threading.main_thread() for thread in where] == [aside]


def test_the_access_log_holds_no_key_query_or_line_break(tmp_path: Path) -> None:
    app = made()
    with (tmp_path / "log").open("w+") as stream:
        app.journal = Journal(True, stream)
        secret = {"x-api-key": "sac_secret", "authorization": "Bearer sac_secret", "cookie": "sac_secret"}
        asked(app, "POST", "/first/one?api_key=sac_secret", content=b"sac_secret", headers=secret)
        asked(app, "POST", "/first/a%0Ab c", content=b"x")
        health = asked(app, "GET", "/health")
        app.journal.flush()
        stream.seek(0)
        lines = stream.read().splitlines()
    assert len(lines) == 3
    assert f" {len(health.content)}B " in lines[2]
    assert "POST /first/one 200" in lines[0]
    assert "model=one" in lines[0]
    assert "secret" not in "".join(lines)
    assert "anonymous" not in "".join(lines), "nobody was asked for a key"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("HEAD", "/health", {}, 200),
        ("HEAD", "/firsts", {}, 200),
        ("OPTIONS", "/first/one", {"origin": "http://there.example"}, 204),
        ("POST", "/v1/keys", {"sec-fetch-site": "cross-site"}, 403),
        ("GET", "/first/../one", {}, 404),
        ("GET", "/endpoints/gone/predict", {}, 404),
        ("POST", "/api/deployments/me/gone/predict", {}, 404),
    ],
)
def test_the_access_log_has_a_line_for_every_request_and_the_bytes_that_were_sent(
    tmp_path: Path, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    settings = Settings(access_log=False, home=str(tmp_path))
    records = SqlRecords(Database("", str(tmp_path)))
    dialects = [PlainDialect("first", b"")]
    app = wiring.build(settings, Shelf(), EchoEngine(), OpenGate(), dialects, records)  # type: ignore[arg-type]
    app.ready = True
    with (tmp_path / "log").open("w+") as stream:
        app.journal = Journal(True, stream)
        response = asked(app, method, path.replace("..", "%2E%2E"), headers=headers)
        app.journal.flush()
        stream.seek(0)
        (line,) = stream.read().splitlines()
    assert response.status_code == status
    sent = 0 if method == "HEAD" else len(response.content)
    told = path.replace("/api/deployments/me", "/endpoints")
    assert f" {method} {told} {status} " in line
    assert f" {sent}B id={response.headers['x-request-id']}" in line
    assert ("error=" in line) == (status == 404)


def test_the_access_log_holds_no_key_of_hub_that_stands_before_a_models_id(tmp_path: Path) -> None:
    app = made()
    with (tmp_path / "log").open("w+") as stream:
        app.journal = Journal(True, stream)
        asked(app, "POST", f"/first/{'57ee9a' * 7}_one", content=b"x")
        app.journal.flush()
        stream.seek(0)
        assert "POST /first/…_one " in stream.read()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        *((word, False) for word in ("false", "False", "0", "no", "off", " off ")),
        *((word, True) for word in ("true", "1", "", "maybe")),
    ],
)
def test_the_cache_is_bypassed_when_the_caller_says_so(said: str, kept: bool) -> None:
    engine = EchoEngine()
    asked(made(engine), "POST", "/first/one", content=b"x", headers={"x-use-cache": said})
    assert engine.last is not None
    assert engine.last.use_cache is kept
    asked(made(engine), "POST", "/first/one", content=b"x")
    assert engine.last.use_cache


def test_the_javascript_client_is_slowed_down_because_it_repeats_a_503_at_once() -> None:
    from saccade.dialects.dialect import Incoming
    from saccade.server.app import hot
    from saccade.server.settings import Settings

    hasty = Incoming("POST", "/", headers={"user-agent": "@huggingface/inference/4.13.30 node"})
    assert hot(Overloaded("full"), hasty, Settings())
    assert not hot(BadInput("no image"), hasty, Settings())
    in_chrome = {"user-agent": "Mozilla/5.0 Chrome/140.0", "origin": "https://page.example"}
    assert hot(Overloaded("full"), Incoming("POST", "/", headers=in_chrome), Settings())
    assert not hot(Overloaded("full"), Incoming("POST", "/", headers={"user-agent": "curl/8"}), Settings())


@pytest.mark.parametrize("why", [Overloaded("The line is full."), RuntimeError("can't start new thread")])
@pytest.mark.parametrize(("program", "slowed"), [("@huggingface/inference/4.13.30 node", True), ("curl/8", False)])
def test_only_who_repeats_a_503_at_once_waits_for_it(program: str, slowed: bool, why: Exception) -> None:
    class Full(EchoEngine):
        async def predict(self, call: Call) -> Answer:
            raise why

    app = made(Full())
    begun = time.monotonic()
    response = asked(app, "POST", "/first/one", content=b"x", headers={"user-agent": program})
    assert response.status_code == 503
    assert (time.monotonic() - begun > 0.9) is slowed


def test_a_model_that_cannot_be_fetched_and_for_which_nobody_waits_any_more_is_no_surprise() -> None:
    """The log had a traceback."""
    surprises: list[Any] = []

    class Slow(Shelf):
        def card(self, ref: str, *, fetch: bool = False) -> Card:
            if fetch:
                time.sleep(0.3)
            return super().card(ref, fetch=fetch)

    async def play() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: surprises.append(what))
        app = made(shelf=Slow())
        async with client(app) as http:
            call = asyncio.create_task(http.post("/first/nobody", content=b"x"))
            await asyncio.sleep(0.15)
            call.cancel()
            await asyncio.wait({call})
            assert app.fetching
            while app.fetching:
                await asyncio.sleep(0.01)
        gc.collect()

    asyncio.run(play())
    assert surprises == []
