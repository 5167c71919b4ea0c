"""``@huggingface/inference`` in Chromium, on a page of another origin, where it cannot tell its name."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request
from tests.clients.environments import node_folder
from tests.clients.test_huggingface_javascript import PACKAGE
from tests.server.simulated_house import PICTURE, House, asked, settled

pytestmark = pytest.mark.heavy

MODULES = {
    "@huggingface/inference": "/@huggingface/inference/dist/esm/index.js",
    "@huggingface/jinja": "/@huggingface/jinja/dist/index.js",
    "@huggingface/tasks": "/@huggingface/tasks/dist/esm/index.js",
}
SCRIPT = """
import { InferenceClient } from "@huggingface/inference";
window.ask = (url, bytes) =>
  new InferenceClient("hf_any").endpoint(url).objectDetection({ data: new Blob([new Uint8Array(bytes)]) });
"""
PAGE = f"""<!doctype html><link rel="icon" href="data:,">
<script type="importmap">{json.dumps({"imports": MODULES})}</script><script type="module">{SCRIPT}</script>"""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The address of a page with the client's modules. Chromium lets none ask this machine that came from nowhere."""
    modules = node_folder("huggingface-inference-4.13.30", PACKAGE) / "node_modules"

    class Files(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            whole = self.path == "/"
            content = PAGE.encode() if whole else (modules / self.path[1:]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if whole else "text/javascript")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *told: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_page_whose_endpoint_is_stopped_asks_once_a_second_and_is_answered_when_it_is_up(
    page: Page, elsewhere: str, tmp_path: Path
) -> None:
    posts: list[Request] = []
    page.on("request", lambda sent: posts.append(sent) if sent.method == "POST" else None)
    house = House(tmp_path).start()
    try:
        asked(house, "", "POST", "/v1/endpoints", {"name": "lane", "model": "cars"})
        settled(house, "", "lane")
        asked(house, "", "PATCH", "/v1/endpoints/lane", {"action": "stop"})
        page.goto(elsewhere)
        page.wait_for_function("() => Boolean(window.ask)")
        page.evaluate(
            "([url, bytes]) => { window.ask(url, bytes).then((found) => { window.found = found; }); }",
            [f"{house.url}/endpoints/lane", list(PICTURE)],
        )
        page.wait_for_timeout(4500)
        assert 3 <= len(posts) <= 6, "one a second"
        assert "@huggingface" not in posts[0].headers["user-agent"], "it cannot tell its name"
        asked(house, "", "PATCH", "/v1/endpoints/lane", {"action": "start"})
        page.wait_for_function("() => Boolean(window.found)")
        assert page.evaluate("window.found") == []
    finally:
        house.stop()
