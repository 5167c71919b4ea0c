"""What the commands that talk to a server say when another program answers."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from lamps import Typed


@pytest.fixture(params=[(200, b'{"status": "up"}'), (200, b"[]"), (400, b'{"error": {"code": 7}}')])
def stranger(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that speaks JSON, but is no saccade."""

    class Stranger(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            status, body = request.param
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Stranger)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "words", [("list",), ("start", "hall"), ("stop", "hall"), ("replace", "hall", "lamps"), ("rm", "hall")]
)
def test_a_server_that_is_no_saccade_is_told_in_a_sentence(typed: Typed, stranger: str, words: tuple[str, ...]) -> None:
    told = typed("endpoints", *words, "--url", stranger)
    assert (told.exit_code, told.stdout) == (1, "")
    assert "is it a saccade server?" in told.stderr
