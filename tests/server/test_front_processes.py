"""``--fronts 2`` for real: processes, sockets and signals, over simulated devices and a made engine."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.cli.lamps import detector, photo
from tests.clients import houses, pictures

from saccade.server.database import Database
from saccade.server.keys import Keys

pytestmark = pytest.mark.heavy

HERE = Path(__file__).parent
DEVICES: dict[str, Any] = {"quick": {"ms": 1}, "slow": {"ms": 2000}}
CONNECTIONS = 16
"""So many that, of two fronts, each gets some: all on one happens once in 32 000 times."""


class Server:
    """A server process over simulated devices, and the processes under it."""

    def __init__(self, home: Path, **given: Any) -> None:
        home.mkdir(exist_ok=True)
        self.log = home / "log"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SACCADE_")}
        settings = {"port": 0, "home": str(home), "threads": 2, "fronts": 2, "devices": DEVICES, **given}
        self.child = subprocess.Popen(
            [sys.executable, str(HERE / "simulated_house.py"), json.dumps(settings)],
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
            env=environ,
        )
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        assert line.startswith("saccade ready on "), self.log.read_text()[-2000:]
        self.url = line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])

    def below(self) -> list[psutil.Process]:
        """Fronts and workers."""
        return psutil.Process(self.child.pid).children(recursive=True)

    def fronts(self) -> list[dict[str, int]]:
        """As /info tells of them."""
        told: list[dict[str, int]] = httpx.get(self.url + "/info", timeout=10).json()["fronts"]
        return told

    def engine(self) -> dict[str, Any]:
        told: dict[str, Any] = httpx.get(self.url + "/info", timeout=10).json()["engine"]
        return told

    def ask(self, line: http.client.HTTPConnection, body: bytes, model: str = "quick", **headers: str) -> int:
        """The status of one call on a connection that stays open."""
        line.request("POST", f"/models/{model}", body, {"content-type": "image/x-portable-pixmap", **headers})
        answer = line.getresponse()
        answer.read()
        return answer.status

    def line(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)


@contextlib.contextmanager
def serving(home: Path, **given: Any) -> Iterator[Server]:
    server = Server(home, **given)
    try:
        yield server
    finally:
        if server.child.poll() is None:
            server.child.terminate()
        server.child.wait(20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("fronts")) as one:
        yield one


def picture(brightness: int, size: int = 4) -> bytes:
    return b"P6\n%d %d\n255\n" % (size, size) + bytes([brightness]) * (3 * size * size)


def within(seconds: float, true: Callable[[], bool]) -> float:
    """After how many seconds something is true."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds
        time.sleep(0.02)
    return time.monotonic() - begun


CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/models/facebook/detr-resnet-50", {"content": "photo"}),
    ("POST", "/models/google/vit-base-patch16-224?top_k=2", {"content": "photo"}),
    ("POST", "/models/facebook/mask2former-swin-large-coco-panoptic", {"content": "photo"}),
    ("POST", "/models/openai/clip-vit-base-patch32", {"json": "candidates"}),
    ("POST", "/hf-inference/models/google/vit-base-patch16-224", {"content": "photo"}),
    ("POST", "/models/google/vit-base-patch16-224", {"content": b"no picture"}),
    ("POST", "/models/nobody/nothing", {"content": "photo"}),
    ("POST", "/models/raises/Overloaded", {"content": "photo"}),
    ("POST", "/models/raises/RunFailed", {"content": "photo"}),
    ("POST", "/models/raises/MissingExtra", {"content": "photo"}),
    ("POST", "/v1/predict/yolo11n", {"files": "image", "data": {"size": "640", "confidence": "0.3"}}),
    ("POST", "/v1/predict/yolo11n", {"data": {"size": "640"}}),
    ("POST", "/", {"files": "file", "data": {"model": "https://hub.ultralytics.com/models/yolo11n", "imgsz": "640"}}),
    ("POST", "/predict", {"files": "file", "data": {"model": "yolo11n.pt", "conf": "0.5"}}),
    ("POST", "/api/models/you/yours/yolo11n/predict", {"files": "file"}),
    ("GET", "/status/google/vit-base-patch16-224", {}),
    ("GET", "/models/google/vit-base-patch16-224", {}),
    ("GET", "/api/models", {}),
    ("GET", "/v1/models", {}),
    ("POST", "/v1/auth", {}),
    ("GET", "/", {}),
    ("GET", "/openapi.json", {}),
    ("PUT", "/models/yolo11n", {}),
    ("OPTIONS", "/models/yolo11n", {}),
]


def test_every_dialect_answers_as_it_does_through_one_front(tmp_path: Path) -> None:
    import base64

    photo_bytes = pictures.noise(40, 30)
    words = {"candidate_labels": ["cat", "Käse"]}
    stands: dict[str, Any] = {
        "photo": photo_bytes,
        "candidates": {"inputs": base64.b64encode(photo_bytes).decode(), "parameters": words},
        "image": {"image": ("a.png", photo_bytes)},
        "file": {"file": ("a.png", photo_bytes)},
    }

    def seen(url: str, method: str, path: str, more: dict[str, Any]) -> tuple[Any, ...]:
        sent = {name: stands.get(value, value) if isinstance(value, str) else value for name, value in more.items()}
        headers = {"x-request-id": "same", "origin": "http://elsewhere", "host": "same"}
        answer = httpx.request(method, url + path, headers=headers, timeout=30, **sent)
        dropped = ("date", "server-timing", "x-compute-time", "content-length")
        kept = {name: value for name, value in answer.headers.items() if name not in dropped}
        return answer.status_code, kept, re.sub(rb'("functionTime\w+"): ?[\d.]+', rb"\1", answer.content)

    with (
        houses.canned(tmp_path / "one", fronts=1) as one,
        houses.canned(tmp_path / "two", fronts=2) as two,
    ):
        for method, path, more in CALLS:
            assert seen(two.url, method, path, more) == seen(one.url, method, path, more), (method, path)


def test_both_fronts_answer_share_one_cache_and_are_counted_together(server: Server) -> None:
    before = server.engine()
    bright = picture(230)
    for _ in range(CONNECTIONS):
        with contextlib.closing(server.line()) as line:
            assert server.ask(line, bright) == 200
    after = server.engine()
    assert after["cache_hits"] - before["cache_hits"] == CONNECTIONS - 1
    assert after["cache_misses"] - before["cache_misses"] == 1
    calls = [front["calls"] for front in server.fronts()]
    assert min(calls) > 0
    text = httpx.get(server.url + "/metrics").text
    counted = re.search(r'saccade_requests_total{dialect="huggingface",model="quick",status="200"} (\d+)', text)
    assert counted is not None
    assert int(counted[1]) == sum(calls)
    time.sleep(0.5)
    log = server.log.read_text().splitlines()
    assert sum("POST /models/quick 200" in row for row in log) == sum(calls)


def test_of_a_thousand_calls_over_two_fronts_exactly_the_quota_succeeds_and_a_revoked_key_opens_nothing(
    tmp_path: Path,
) -> None:
    database = Database("", str(tmp_path))
    key, secret = Keys(database).create("x", quota_calls=500, quota_window_s=3600)
    with serving(tmp_path, access_log=False) as server:

        def spend(_: int) -> Counter[int]:
            with contextlib.closing(server.line()) as line:
                calls = 1000 // 8
                return Counter(server.ask(line, picture(9), **{"x-api-key": secret}) for _ in range(calls))

        with ThreadPoolExecutor(8) as threads:
            seen = sum(threads.map(spend, range(8)), Counter())
        assert seen == {200: 500, 429: 500}
        assert len([front for front in _fronts(server, secret) if front["calls"]]) == 2
        lines = [server.line() for _ in range(CONNECTIONS)]
        assert {server.ask(line, picture(9), **{"x-api-key": secret}) for line in lines} == {429}
        Keys(database).revoke(key.id)
        assert {server.ask(line, picture(9), **{"x-api-key": secret}) for line in lines} == {401}
    database.close()


def _fronts(server: Server, secret: str) -> list[dict[str, int]]:
    told: list[dict[str, int]] = httpx.get(server.url + "/info", headers={"x-api-key": secret}).json()["fronts"]
    return told


def test_sigterm_finishes_what_every_front_accepted_and_leaves_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with contextlib.closing(server.line()) as line:
            assert server.ask(line, picture(1), "slow") == 200
        below = server.below()
        lines = [server.line() for _ in range(4)]
        with ThreadPoolExecutor(4) as threads:
            answers = [threads.submit(server.ask, one, picture(50 + at), "slow") for at, one in enumerate(lines)]
            within(5, lambda: server.engine()["in_flight_calls"] + server.engine()["queued_calls"] == 4)
            for process in [server.child, *below]:  # as service managers do
                process.send_signal(signal.SIGTERM)
            within(5, lambda: httpx.get(server.url + "/health").status_code == 503)
            assert psutil.STATUS_ZOMBIE not in {process.status() for process in below}
            with contextlib.closing(server.line()) as late:
                assert server.ask(late, picture(1)) == 503
            assert [answer.result(20) for answer in answers] == [200] * 4
        assert server.child.wait(10) == 0
        assert "finishing the calls that were accepted (4)" in server.log.read_text()
        assert [process for process in below if process.is_running()] == []


def test_a_front_that_is_killed_under_load_takes_only_its_own_connections_with_it(tmp_path: Path) -> None:
    with serving(tmp_path, access_log=False, no_auth=True) as server:
        victim = server.fronts()[0]["pid"]
        stop, statuses, broken = threading.Event(), Counter[int](), Counter[int]()
        ports: dict[int, int] = {}

        def load(number: int) -> None:
            line = server.line()
            for count in range(1_000_000):
                if stop.is_set():
                    return
                try:
                    statuses[server.ask(line, picture(count % 250 + 1, 4 + number))] += 1
                    ports.setdefault(number, line.sock.getsockname()[1])
                except (http.client.HTTPException, OSError):
                    broken[number] += 1
                    line.close()

        with ThreadPoolExecutor(CONNECTIONS) as threads, contextlib.ExitStack() as load_ends:
            load_ends.callback(stop.set)
            for number in range(CONNECTIONS):
                threads.submit(load, number)
            within(10, lambda: len(ports) == CONNECTIONS)
            held = {one.raddr.port for one in psutil.Process(victim).net_connections("tcp") if one.raddr}
            its = {number for number, port in ports.items() if port in held}
            others = _standing(server)
            os.kill(victim, signal.SIGKILL)
            killed_at = time.time()
            within(15, lambda: len(_standing(server) - {victim}) == 2)
            fresh = psutil.Process((_standing(server) - others).pop())
            before = statuses[200]
            within(15, lambda: statuses[200] > before + 200)
        assert 0 < len(its) < CONNECTIONS
        assert set(broken) == its
        # A second time: who came back while the system was still closing what the dead one had.
        assert max(broken.values()) <= 2
        assert set(statuses) == {200}
        # What the fresh one needs in processor time: the clock on the wall is that of a busy machine, too.
        assert fresh.create_time() - killed_at < 1
        assert sum(fresh.cpu_times()[:2]) < 2
        assert "saccade_inflight_requests 0.0" in httpx.get(server.url + "/metrics").text


def _standing(server: Server) -> set[int]:
    """The fronts that take callers."""
    found = set()
    for process in server.below():
        with contextlib.suppress(psutil.NoSuchProcess):  # one that was just killed
            if any(one.status == psutil.CONN_LISTEN for one in process.net_connections("tcp")):
                found.add(process.pid)
    return found


def test_nothing_outlives_the_first_process_and_the_port_is_free(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with contextlib.closing(server.line()) as line:
            assert server.ask(line, picture(1)) == 200
        within(10, lambda: server.engine()["fork_server"])
        below = server.below()
        assert len(below) == 4, "two fronts, a worker and what it was copied from"
        server.child.kill()
        server.child.wait()
        within(2, lambda: not any(process.is_running() for process in below))
        with serving(tmp_path, port=server.port) as again:
            assert httpx.get(again.url + "/health").status_code == 200


def test_a_port_that_other_fronts_share_is_in_use(server: Server, tmp_path: Path) -> None:
    given = json.dumps({"port": server.port, "home": str(tmp_path), "fronts": 2, "devices": DEVICES})
    second = subprocess.run(
        [sys.executable, str(HERE / "simulated_house.py"), given], capture_output=True, text=True, timeout=20
    )
    assert second.returncode != 0
    assert f"Port {server.port} is in use" in second.stderr


def test_endpoints_keys_and_the_console_are_the_same_through_any_front(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    detector(tmp_path / "models" / "lamps.onnx")
    shot = photo(tmp_path / "bright.png", 230).read_bytes()
    home = tmp_path / "home"
    home.mkdir()
    database = Database("", str(home))
    _, secret = Keys(database).create("admin", scopes=("admin", "models", "endpoints"), quota_calls=0)
    database.close()
    with houses.served(home, [tmp_path / "models"], "--fronts", "2") as server:

        def ask(method: str, path: str, key: str = secret, **more: Any) -> httpx.Response:
            """On a connection of its own, so by any front."""
            headers = {"x-api-key": key, **more.pop("headers", {})}
            return httpx.request(method, server.url + path, headers=headers, timeout=30, **more)

        wish = {"name": "lights", "model": "lamps", "replicas": "1:1", "hostname": "lights.example"}
        assert ask("POST", "/v1/endpoints", json=wish).status_code == 201
        within(20, lambda: ask("GET", "/v1/endpoints/lights").json()["state"] == "ready")
        answers = {ask("POST", "/endpoints/lights/models/any", content=shot).text for _ in range(8)}
        assert answers == {ask("POST", "/models/lamps", content=shot).text}
        for _ in range(8):
            assert ask("POST", "/", content=shot, headers={"host": "lights.example"}).status_code == 200
        assert ask("GET", "/v1/endpoints/lights/metrics").json()["summary"]["totalRequests"] == 16

        made = ask("POST", "/v1/keys", json={"name": "guest"}).json()
        calls = [ask("POST", "/models/lamps", made["key"], content=shot).status_code for _ in range(8)]
        assert calls == [200] * 8
        assert ask("DELETE", f"/v1/keys/{made['id']}").is_success
        assert {ask("POST", "/models/lamps", made["key"], content=shot).status_code for _ in range(8)} == {401}
        assert {ask("GET", "/v1/keys", made["key"]).status_code for _ in range(4)} == {401}
        assert sum(day["calls"] for day in ask("GET", "/v1/usage?all=1").json()["days"]) == 25

        pages = ["/", "/static/plain.css", "/v1/session", "/v1/console/models", "/v1/regions", "/docs"]
        for path in pages:
            seen = {
                (answer.status_code, answer.headers["content-type"], len(answer.content))
                for answer in (ask("GET", path, headers={"accept": "text/html"}) for _ in range(6))
            }
            assert len(seen) == 1, path
            assert seen.pop()[0] == 200, path
        upload = (tmp_path / "models" / "lamps.onnx").read_bytes()
        put = ask("PUT", "/v1/console/models/mine", content=upload, headers={"x-filename": "a.onnx"})
        assert put.json()["name"] == "mine", put.text
        assert {ask("POST", "/models/mine", content=shot).status_code for _ in range(8)} == {200}
        assert ask("POST", "/v1/console/models/mine/unload").json() == {"state": "cold"}
        assert ask("DELETE", "/v1/endpoints/lights").is_success
        assert ask("POST", "/endpoints/lights/models/any", content=shot).status_code == 404
