"""Dedicated endpoints of one server over HTTP and from the command line, with simulated devices as models."""

from __future__ import annotations

import base64
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from PIL import Image
from tests.server.simulated_house import CLIENT, PICTURE, House, asked, predicted, settled

from saccade.cli import cli
from saccade.server.database import Database
from saccade.server.keys import Keys


class Home:
    """A server with an admin key, and what is asked of it."""

    def __init__(self, folder: Path) -> None:
        database = Database("", str(folder))
        self._keys = Keys(database)
        self.admin = self.key("admin", scopes=("admin", "models", "endpoints"))
        self.house = House(folder).start()

    def key(self, name: str, **fields: Any) -> str:
        return self._keys.create(name, **fields)[1]

    def ask(self, method: str, path: str, body: object = None) -> Any:
        return asked(self.house, self.admin, method, path, body)

    def status(self, method: str, path: str, body: object = None, key: str = "") -> tuple[int, str]:
        headers = {"x-api-key": key or self.admin}
        answer = CLIENT.request(method, self.house.url + path, headers=headers, json=body)
        return answer.status_code, answer.text

    def started(self, name: str, model: str = "cars", **plan: Any) -> Any:
        self.ask("POST", "/v1/endpoints", {"name": name, "model": model, **plan})
        return settled(self.house, self.admin, name)

    def command(self, *words: str, key: str = "") -> subprocess.CompletedProcess[str]:
        """``saccade endpoints …`` against this server."""
        where = ("--url", self.house.url, "--key", key or self.admin)
        return subprocess.run(
            [sys.executable, "-m", "saccade", "endpoints", *words, *where], capture_output=True, text=True, timeout=60
        )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("home"))
    yield home
    home.house.stop()


def page(home: Home, name: str, path: str = "", accept: str = "*/*") -> httpx.Response:
    headers = {"x-api-key": home.admin, "accept": accept}
    return CLIENT.get(f"{home.house.url}/endpoints/{name}{path}", headers=headers)


def test_the_pages_of_an_endpoint_tell_where_it_stands_and_name_its_own_address(home: Home) -> None:
    home.started("pages")
    url = f"{home.house.url}/endpoints/pages"
    told = page(home, "pages").json()
    assert (told["status"], told["endpoint"], told["model"], told["docs"]) == ("ok", "pages", "cars", f"{url}/docs")
    assert page(home, "pages", "/openapi.json").json()["servers"] == [{"url": url}]
    assert f"photo.jpg {url}/predict" in page(home, "pages", "/docs").text
    front = page(home, "pages", accept="text/html").text
    assert f"photo.jpg {url}\n" in front
    assert 'href="/endpoints/pages/static/plain.css"' in front
    assert page(home, "pages", "/static/plain.css").status_code == 200
    home.ask("PATCH", "/v1/endpoints/pages", {"action": "stop"})
    assert page(home, "pages", "/health").status_code == 503
    stopped = page(home, "pages")
    assert (stopped.status_code, stopped.json()["status"]) == (503, "stopped")
    assert "Service Unavailable" in stopped.json()["error"]
    assert "stopped" in page(home, "pages", accept="text/html").text
    assert page(home, "pages", "/info").json()["engine"]["state"] == "stopped"
    assert page(home, "pages", "/v1/keys").status_code == 404
    home.ask("DELETE", "/v1/endpoints/pages")
    gone = predicted(home.house, home.admin, "pages")
    assert (gone.status_code, gone.json()["error"]) == (
        404, "There is no endpoint 'pages' here. It was deleted, or its name is another.",
    )  # fmt: skip


def test_a_key_sees_and_calls_only_the_endpoints_that_it_is_for(home: Home) -> None:
    home.started("team-a")
    home.started("other")
    key = home.key("team", scopes=("endpoints",), endpoints=("team-*",))
    assert predicted(home.house, key, "team-a").status_code == 200
    assert predicted(home.house, key, "other").status_code == 403
    listed = json.loads(home.status("GET", "/v1/endpoints", key=key)[1])["endpoints"]
    assert [row["name"] for row in listed] == ["team-a"]
    for face in ("/v1/endpoints/{}", "/api/deployments/anybody/{}"):
        for part in ("", "/health", "/logs", "/metrics"):
            assert home.status("GET", face.format("team-a") + part, key=key)[0] == 200, part
            assert home.status("GET", face.format("other") + part, key=key)[0] == 403, part
    assert home.status("PATCH", "/v1/endpoints/team-a", {"action": "stop"}, key=key)[0] == 403
    for name in ("team-a", "other"):
        home.ask("DELETE", f"/v1/endpoints/{name}")


def test_prometheus_is_told_of_each_endpoint(home: Home) -> None:
    home.started("measured")
    assert predicted(home.house, home.admin, "measured").status_code == 200
    text = CLIENT.get(f"{home.house.url}/metrics").text
    assert 'saccade_endpoint_ready{endpoint="measured"} 1.0' in text
    assert 'saccade_endpoint_replicas{endpoint="measured"} 1.0' in text
    assert 'saccade_endpoint_queued{endpoint="measured"} 0.0' in text
    assert "# TYPE saccade_endpoint_answered_total counter" in text
    assert 'saccade_endpoint_answered_total{endpoint="measured"} 1.0' in text
    assert 'saccade_endpoint_crashes_total{endpoint="measured"} 0.0' in text
    home.ask("PATCH", "/v1/endpoints/measured", {"action": "stop"})
    assert 'saccade_endpoint_ready{endpoint="measured"} 0.0' in CLIENT.get(f"{home.house.url}/metrics").text
    home.ask("DELETE", "/v1/endpoints/measured")
    assert "measured" not in CLIENT.get(f"{home.house.url}/metrics").text


def test_health_asks_the_endpoint_itself(home: Home) -> None:
    home.started("awake", "slow")
    told = home.ask("GET", "/v1/endpoints/awake/health")
    assert (told["healthy"], told["status"]) == (True, 200)
    assert told["latencyMs"] >= 400, "the device needs 400 ms"
    assert home.ask("GET", "/v1/endpoints/awake/metrics")["summary"]["totalRequests"] == 0
    home.ask("PATCH", "/v1/endpoints/awake", {"action": "stop"})
    told = home.ask("GET", "/v1/endpoints/awake/health")
    assert (told["healthy"], told["status"], "stopped" in told["error"]) == (False, 503, True)
    home.ask("DELETE", "/v1/endpoints/awake")


def test_a_call_that_is_on_its_way_while_its_endpoint_is_removed_is_told_so_and_leaves_no_traceback(home: Home) -> None:
    home.started("leaving")
    host, port = home.house.url.removeprefix("http://").split(":")
    head = f"POST /endpoints/leaving/predict HTTP/1.1\r\nx-api-key: {home.admin}\r\ncontent-length: {len(PICTURE)}"
    with socket.create_connection((host, int(port)), timeout=10) as caller:
        caller.sendall(f"{head}\r\n\r\n".encode() + PICTURE[:9])
        time.sleep(0.2)
        home.ask("DELETE", "/v1/endpoints/leaving")
        caller.sendall(PICTURE[9:])
        assert b"404 Not Found" in caller.recv(4096)
        caller.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in caller.recv(4096), "the connection is still there"
    assert "Traceback" not in home.house.log()


def test_an_endpoint_of_its_own_limit_refuses_the_call_after_the_last(home: Home) -> None:
    home.started("few", calls_per_hour=2)
    assert [predicted(home.house, home.admin, "few").status_code for _ in range(3)] == [200, 200, 429]
    home.ask("PATCH", "/v1/endpoints/few", {"action": "resize", "calls_per_hour": 3})
    assert home.ask("GET", "/v1/endpoints/few")["calls_per_hour"] == 3
    assert [predicted(home.house, home.admin, "few").status_code for _ in range(2)] == [200, 429]
    home.ask("DELETE", "/v1/endpoints/few")


def test_the_limit_of_an_endpoint_holds_on_a_server_without_keys_too(tmp_path: Path) -> None:
    house = House(tmp_path, no_auth=True).start()
    try:
        asked(house, "", "POST", "/v1/endpoints", {"name": "few", "model": "cars", "calls_per_hour": 2})
        settled(house, "", "few")
        url = f"{house.url}/endpoints/few"
        broken = CLIENT.post(url, files={"file": ("a.ppm", b"P6 no picture")})
        answers = [predicted(house, "", "few") for _ in range(3)]
        assert (broken.status_code, [one.status_code for one in answers]) == (400, [200, 200, 429])
        assert answers[0].headers["x-ratelimit-remaining"] == "1"
    finally:
        house.stop()


def test_the_log_tells_what_was_asked_by_whom_and_what_was_wrong(home: Home) -> None:
    home.started("told")
    url = f"{home.house.url}/endpoints/told/predict"
    headers = {"x-api-key": home.admin, "user-agent": "robot/7"}
    CLIENT.post(url, headers=headers, files={"file": ("a.ppm", PICTURE)})
    CLIENT.post(url, headers=headers, files={"file": ("a.ppm", PICTURE)}, data={"conf": "7"})
    wrong, right = home.ask("GET", "/v1/endpoints/told/logs?limit=2")["entries"]
    assert right["httpRequest"]["url"] == "/endpoints/told/predict"
    assert right["httpRequest"]["userAgent"] == "robot/7"
    assert (wrong["severity"], wrong["httpRequest"]["status"], "conf" in wrong["message"]) == ("WARNING", 400, True)
    some = home.ask("GET", "/v1/endpoints/told/logs?severity=warning,error")["entries"]
    assert [entry["severity"] for entry in some] == ["WARNING"]
    CLIENT.get(url, headers=headers)
    CLIENT.post(f"{home.house.url}/endpoints/told/nowhere", headers=headers)
    nowhere, method = home.ask("GET", "/v1/endpoints/told/logs?limit=2")["entries"]
    assert nowhere["message"].startswith("There is nothing at this address.")
    assert method["message"].startswith("GET is not allowed here.")
    home.ask("DELETE", "/v1/endpoints/told")


def test_the_log_tells_that_a_caller_left(home: Home) -> None:
    home.started("left", "slow")
    host, port = home.house.url.removeprefix("http://").split(":")
    head = f"POST /endpoints/left/predict HTTP/1.1\r\nx-api-key: {home.admin}\r\ncontent-length: {len(PICTURE)}"
    with socket.create_connection((host, int(port)), timeout=10) as caller:
        caller.sendall(f"{head}\r\n\r\n".encode() + PICTURE[:9])
        time.sleep(0.2)
    for _ in range(100):
        if entries := home.ask("GET", "/v1/endpoints/left/logs?severity=WARNING")["entries"]:
            break
        time.sleep(0.05)
    assert entries[0]["message"] == "the caller left before the end of the answer"
    assert entries[0]["httpRequest"]["status"] == 499
    home.ask("DELETE", "/v1/endpoints/left")


def test_a_stream_that_breaks_off_is_an_error_in_the_log_and_the_figures(tmp_path: Path) -> None:
    house = House(tmp_path, devices={"dim": {"ms": 1, "fail_above": 200}}).start()
    frames = [Image.new("RGB", (8, 8), (grey, grey, grey)) for grey in (10, 20, 250)]
    film = io.BytesIO()
    frames[0].save(film, "GIF", save_all=True, append_images=frames[1:])
    try:
        asked(house, "", "POST", "/v1/endpoints", {"name": "cinema", "model": "dim"})
        settled(house, "", "cinema")
        answer = CLIENT.post(
            f"{house.url}/endpoints/cinema/predict",
            headers={"accept": "application/x-ndjson"},
            files={"file": ("a.gif", film.getvalue())},
        )
        assert answer.status_code == 200
        assert "made to fail" in answer.text
        entry = asked(house, "", "GET", "/v1/endpoints/cinema/logs?severity=ERROR")["entries"][0]
        assert (entry["httpRequest"]["status"], "made to fail" in entry["message"]) == (200, True)
        summary = asked(house, "", "GET", "/v1/endpoints/cinema/metrics?range=1h")["summary"]
        assert (summary["totalRequests"], summary["errorCount"]) == (1, 1)
    finally:
        house.stop()


def test_neither_the_log_of_an_endpoint_nor_the_servers_holds_a_key_wherever_it_was_sent(home: Home) -> None:
    home.started("quiet")
    secret = home.key("wordy")
    url = f"{home.house.url}/endpoints/quiet"
    headers = {"x-api-key": home.admin, "user-agent": f"robot/7 key={secret}"}
    CLIENT.post(f"{url}/{secret}/predict?api_key={secret}", headers=headers, files={"file": ("a.ppm", PICTURE)})
    CLIENT.post(f"{url}/predict%3Fapi_key={secret}", headers=headers, files={"file": ("a.ppm", PICTURE)})
    CLIENT.post(f"{url}/predict", headers=headers, files={"file": ("a.ppm", PICTURE)}, data={"conf": secret})
    entries = home.ask("GET", "/v1/endpoints/quiet/logs?limit=3")["entries"]
    assert [entry["httpRequest"]["url"].rpartition("/quiet")[2] for entry in entries] == [
        "/predict", "/predict?api_key=…", "/sac_…/predict",
    ]  # fmt: skip
    assert "conf" in entries[0]["message"]
    home.ask("DELETE", "/v1/endpoints/quiet")
    for _ in range(40):
        if "DELETE /v1/endpoints/quiet" in home.house.log():
            break
        time.sleep(0.05)
    for told in (json.dumps(entries), home.house.log()):
        assert "robot/7" in told or "/sac_" in told
        assert secret[4:] not in told


def test_the_servers_log_names_the_endpoint_however_it_was_reached(home: Home) -> None:
    home.started("logged", hostname="logged.example.org")
    files = {"file": ("a.ppm", PICTURE)}
    CLIENT.post(f"{home.house.url}/endpoints/logged/predict", headers={"x-api-key": home.admin}, files=files)
    headers = {"x-api-key": home.admin, "host": "logged.example.org"}
    CLIENT.post(f"{home.house.url}/predict", headers=headers, files=files)
    until = time.monotonic() + 10
    while home.house.log().count("POST /endpoints/logged/predict 200") < 2 and time.monotonic() < until:
        time.sleep(0.1)
    assert home.house.log().count("POST /endpoints/logged/predict 200") == 2
    home.ask("DELETE", "/v1/endpoints/logged")


def test_the_platforms_words_for_names_sizes_and_overviews(home: Home) -> None:
    wish = {"deployment": "shop", "project": "retail", "model": "cars", "name": "Our shop", "memoryGi": 2}
    made = home.ask("POST", "/api/deployments/acme", {**wish, "region": "us-central1", "cpu": 1})
    settled(home.house, home.admin, "shop")
    at = "/api/deployments/acme/shop"
    (listed,) = home.ask("GET", "/api/deployments/acme")["deployments"]
    places = {made["region"], listed["region"], home.ask("GET", at)["deployment"]["region"]}
    assert places == {home.ask("GET", f"{at}/metrics")["region"]} == {"local"}
    accounts = (home.ask("GET", path)["region"] for path in ("/api/deployments/acme", at, "/api/models/acme/retail"))
    assert set(accounts) == {"eu"}, "where the account's data lie is the same wherever it is told"
    shown = home.ask("GET", at)["deployment"]
    assert (shown["name"], shown["deployment"], shown["project"], shown["metadata"]) == (
        "Our shop",
        "shop",
        "retail",
        {},
    )
    assert home.ask("PATCH", at, {"name": "The shop"})["success"]
    home.ask("PATCH", at, {"metadata": {"floor": 2}})
    home.ask("PATCH", at, {"action": "resize", "cpu": 1, "memoryGi": 4})
    shown = home.ask("GET", at)["deployment"]
    assert (shown["name"], shown["metadata"], shown["resources"]["memoryGi"]) == ("The shop", {"floor": 2}, 4.0)
    assert home.ask("GET", "/api/deployments/acme?model=retail/cars")["total"] == 1
    assert home.ask("GET", "/api/deployments/acme?model=retail/birds")["total"] == 0
    overview = home.ask("GET", f"{at}/metrics?view=overview")
    assert sorted(overview["summary"]) == ["errorRate", "p95LatencyMs", "totalRequests"]
    assert sorted(overview["timeSeries"]) == ["errors", "latencyP95", "requests"]
    assert home.status("PATCH", at, {"action": "fly"})[0] == 400
    limited = CLIENT.get(home.house.url + at, headers={"x-api-key": home.key("looks", quota_calls=9)}).headers
    assert limited["x-ratelimit-remaining"] == "9"
    assert limited["x-ratelimit-reset"].endswith("Z")
    assert home.status("PATCH", at, {"action": "resize", "memoryGi": -1})[0] == 400
    home.ask("DELETE", at)


@pytest.mark.parametrize("running", [True, False])
def test_a_replacement_in_the_platforms_words_takes_its_project_and_name_along(home: Home, running: bool) -> None:
    at, name = "/api/deployments/acme", f"shown-{running}".lower()
    home.ask("POST", at, {"deployment": name, "project": "retail", "model": "cars", "name": "Cars"})
    settled(home.house, home.admin, name)
    if not running:
        home.ask("PATCH", f"{at}/{name}", {"action": "stop"})

    def shown() -> tuple[str, str, str]:
        told = home.ask("GET", f"{at}/{name}")["deployment"]
        return told["project"], told["model"], told["name"]

    missing = {"action": "replace", "project": "zoo", "model": "nothing", "name": "Nothing"}
    assert home.status("PATCH", f"{at}/{name}", missing)[0] == 404
    assert shown() == ("retail", "cars", "Cars")
    home.ask("PATCH", f"{at}/{name}", {"action": "replace", "project": "zoo", "model": "birds", "name": "Birds"})
    assert shown() == ("zoo", "birds", "Birds")
    assert home.ask("GET", f"{at}?model=zoo/birds")["total"] == 1
    home.ask("PATCH", f"{at}/{name}", {"action": "replace", "project": "retail", "model": "cars"})
    assert shown() == ("retail", "cars", "Birds")
    home.ask("DELETE", f"{at}/{name}")


def test_a_page_of_another_site_may_call_an_endpoint_at_the_platforms_address(home: Home) -> None:
    home.started("seen")
    address = f"{home.house.url}/api/deployments/acme/seen/predict"
    page = {"origin": "http://site.test", "sec-fetch-site": "cross-site"}
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    assert CLIENT.options(address, headers={**page, **asks}).headers["access-control-allow-origin"] == page["origin"]
    files = {"file": ("a.ppm", PICTURE)}
    answered = CLIENT.post(address, headers={**page, "x-api-key": home.admin}, files=files)
    assert (answered.status_code, answered.headers["access-control-allow-origin"]) == (200, page["origin"])
    assert CLIENT.post(address, headers={"x-api-key": "wrong"}, files=files).status_code == 401
    home.ask("DELETE", "/v1/endpoints/seen")
    gone = CLIENT.post(address, headers={"x-api-key": home.admin}, files=files)
    assert (gone.status_code, "seen" in gone.json()["error"]) == (404, True)


@pytest.mark.parametrize("path", ["/endpoints/nobody", "/api/deployments/acme/nobody/predict"])
def test_a_page_of_another_site_learns_that_an_endpoint_is_gone(home: Home, path: str) -> None:
    page = {"origin": "http://site.test", "sec-fetch-site": "cross-site"}
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    granted = CLIENT.options(home.house.url + path, headers={**page, **asks})
    assert (granted.status_code, granted.headers["access-control-allow-origin"]) == (204, page["origin"])
    assert granted.headers["access-control-allow-headers"] == "x-api-key"
    gone = CLIENT.post(home.house.url + path, headers={**page, "x-api-key": home.admin}, content=PICTURE)
    assert (gone.status_code, gone.headers["access-control-allow-origin"]) == (404, page["origin"])


def test_the_platforms_address_of_an_endpoint_speaks_the_platforms_words_whatever_is_sent(home: Home) -> None:
    home.started("worded")
    address = f"{home.house.url}/api/deployments/acme/worded/predict"
    headers = {"x-api-key": home.admin}
    inputs = {"inputs": base64.b64encode(PICTURE).decode()}
    for sent in (
        {"content": PICTURE, "headers": {**headers, "content-type": "image/jpeg"}},
        {"files": {"file": ("a.ppm", PICTURE)}, "data": {"model": "birds"}, "headers": headers},
        {"json": {"source": inputs["inputs"]}, "headers": headers},
    ):
        answered = CLIENT.post(address, **sent)
        assert (answered.status_code, sorted(answered.json())) == (200, ["images", "metadata"])
        assert answered.json()["metadata"]["model"] == "cars"
    for sent in ({}, {"json": inputs}, {"files": {"inputs": ("a.ppm", PICTURE)}}, {"content": b"no picture"}):
        refused = CLIENT.post(address, headers=headers, **sent)
        assert refused.status_code in (400, 415)
        assert list(refused.json()) == ["error"]
        assert "inputs key" not in refused.text
    read = CLIENT.get(address, headers=headers)
    assert (read.status_code, read.headers["allow"], list(read.json())) == (405, "POST", ["error"])
    entries = home.ask("GET", "/v1/endpoints/worded/logs")["entries"]
    assert {entry["httpRequest"]["url"] for entry in entries if "httpRequest" in entry} == {"/endpoints/worded/predict"}
    home.ask("PATCH", "/v1/endpoints/worded", {"action": "stop"})
    stopped = CLIENT.post(address, content=PICTURE, headers=headers)
    assert (stopped.status_code, list(stopped.json())) == (503, ["error"])
    home.ask("DELETE", "/v1/endpoints/worded")
    gone = CLIENT.post(address, content=PICTURE, headers=headers)
    assert (gone.status_code, list(gone.json())) == (404, ["error"])
    both = CLIENT.post(f"{home.house.url}/endpoints/worded/predict", content=PICTURE, headers=headers)
    assert (both.status_code, sorted(both.json())) == (404, ["error", "message"])


@pytest.mark.parametrize(
    ("field", "value", "range_"),
    [
        *(("memoryGi", value, "from 0.001 to 1048576") for value in (-1, 0, 1e-9, 1e300)),
        ("memory_bytes", -1, "from 0 to 1125899906842624"),
        ("memory_bytes", 10**30, "from 0 to 1125899906842624"),
        ("idle_stop_s", 1 << 31, "from 0 to 2147483647"),
        ("calls_per_hour", 99999999999, "from 0 to 2147483647"),
        ("replicas", "9" * 5000, "1 to 64"),
        ("replicas", "²", "1 to 64"),
    ],
)
def test_a_size_outside_its_range_is_refused_at_once_and_the_range_told(
    home: Home, field: str, value: object, range_: str
) -> None:
    theirs = field == "memoryGi"
    path, name = ("/api/deployments/acme", "deployment") if theirs else ("/v1/endpoints", "name")
    for method, at, wish in (
        ("POST", path, {name: "odd", "model": "cars"}),
        ("PATCH", f"{path}/sized", {"action": "resize"}),
    ):
        if method == "PATCH":
            home.started("sized")
        status, text = home.status(method, at, {**wish, field: value})
        assert (status, range_ in text, field in text) == (400, True, True), text
        assert "JSON object" not in text
    assert home.status("GET", "/v1/endpoints/odd")[0] == 404
    home.ask("DELETE", "/v1/endpoints/sized")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/usage?days=%C2%B2", "days"),
        ("/v1/usage?days=" + "9" * 5000, "days"),
        ("/v1/usage?days=0", "days"),
        ("/api/deployments/acme?limit=%C2%B2", "limit"),
        ("/api/deployments/acme?limit=" + "9" * 5000, "limit"),
    ],
)
def test_what_is_no_number_in_a_query_is_told(home: Home, path: str, name: str) -> None:
    status, text = home.status("GET", path)
    assert (status, f"`{name}` must be a whole number" in text) == (400, True), text


@pytest.mark.parametrize(
    "body", [b'{"name": "\xff"}', b'{"metadata": ' + b'{"a":' * 5000, b"", b"[]", b'{"name": NaN}']
)
def test_a_body_that_is_no_json_object_is_the_callers(home: Home, body: bytes) -> None:
    for method, path in (("POST", "/v1/endpoints"), ("PATCH", "/api/deployments/acme/none"), ("POST", "/v1/keys")):
        answer = CLIENT.request(method, home.house.url + path, headers={"x-api-key": home.admin}, content=body)
        assert (answer.status_code, "The request body" in answer.text) == (400, True), answer.text


def test_a_field_that_nobody_knows_is_refused_by_name_in_a_change_as_in_a_wish(home: Home) -> None:
    home.started("sized")
    for method, path in (("POST", "/v1/endpoints"), ("PATCH", "/v1/endpoints/sized")):
        status, text = home.status(method, path, {"action": "resize", "name": "sized", "memory_gb": 2})
        assert (status, "unknown field" in text) == (400, True), (method, text)
    status, text = home.status("PATCH", "/v1/endpoints/sized", {"action": "resize", "memory_gb": 2})
    assert (status, "memory_gb" in text) == (400, True)
    assert home.status("PATCH", "/v1/endpoints/sized", {"action": "resize", "idle_stop_s": 2})[0] == 200
    home.ask("DELETE", "/v1/endpoints/sized")


def test_a_host_name_keeps_the_servers_port_and_cannot_take_the_servers_own_name(home: Home) -> None:
    row = home.started("named", hostname="Cars.example.org")
    port = home.house.url.rpartition(":")[2]
    assert row["url"] == f"http://cars.example.org:{port}"
    headers = {"host": f"CARS.example.org:{port}", "x-api-key": home.admin}
    assert CLIENT.get(home.house.url, headers=headers).json()["endpoint"] == "named"
    for name in ("127.0.0.1", "localhost", "a b", "cars.example.org:80"):
        assert home.status("POST", "/v1/endpoints", {"name": "thief", "model": "cars", "hostname": name})[0] == 400
    home.ask("DELETE", "/v1/endpoints/named")


def test_an_endpoint_that_is_to_have_another_host_name_is_told_how(home: Home) -> None:
    home.started("moved", hostname="old.example.org")
    status, text = home.status("POST", "/v1/endpoints", {"name": "moved", "hostname": "new.example.org"})
    assert (status, "stop it and start it with a model" in text) == (400, True), text
    home.ask("PATCH", "/v1/endpoints/moved", {"action": "stop"})
    assert "new.example.org" in home.started("moved", hostname="new.example.org")["url"]
    home.ask("DELETE", "/v1/endpoints/moved")


def test_replacing_under_load_fails_no_call(home: Home) -> None:
    home.started("busy", replicas="1:1")
    done = threading.Event()

    def calls() -> list[int]:
        statuses = []
        while not done.is_set():
            statuses.append(predicted(home.house, home.admin, "busy").status_code)
        return statuses

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(calls) for _ in range(4)]
        for model in ("birds", "cars", "birds"):
            home.ask("PATCH", "/v1/endpoints/busy", {"action": "replace", "model": model})
        home.ask("PATCH", "/v1/endpoints/busy", {"action": "resize", "replicas": "1:2"})
        done.set()
        statuses = [status for load in loads for status in load.result()]
    assert set(statuses) == {200}
    assert "birds" in predicted(home.house, home.admin, "busy").text
    home.ask("DELETE", "/v1/endpoints/busy")


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("start", "Bad_Name", "--model", "cars"), 2, "The endpoint name 'Bad_Name' cannot be used"),
        (("start", "x", "--model", "cars", "--replicas", "x"), 2, "replicas is 'x'; expected N or MIN:MAX"),
        (("start", "x", "--model", "cars", "--region", "mars"), 2, "There is no region 'mars'"),
        (("start", "x", "--model", "cars", "--limit", "99999999999"), 2, "from 0 to 2147483647"),
        (("start", "x", "--model", "cars", "--memory", "9" * 20 + "GB"), 2, "from 0 to 1125899906842624"),
        (("start", "x", "--model", "cars", "--memory", "inf"), 2, "--memory is 'inf'; expected a size"),
        (("start", "x", "--model", "cars", "--memory", "nan"), 2, "--memory is 'nan'; expected a size"),
        (("start", "x", "--model", "cars", "--memory", "-1GB"), 2, "--memory is '-1GB'; expected a size"),
        (("start", "x", "--model", "cars", "--key", "wrong"), 1, "knows none like this"),
        (("start", "x", "--model", "cars", "--key", "schlüssel"), 2, "as it was shown"),
        (("stop", "nobody"), 1, "There is no endpoint 'nobody'"),
        (("list", "--url", "nonsense"), 2, "'nonsense' is no http address"),
        (("list", "--url", "http://.."), 2, "'http://..' is no http address"),
        (("list", "--url", "http://127.0.0.1:9"), 1, "saccade serve"),
    ],
)
def test_what_was_mistyped_exits_with_2_and_what_failed_with_1(
    home: Home, words: tuple[str, ...], code: int, reason: str
) -> None:
    where = {"SACCADE_URL": home.house.url, "SACCADE_KEY": home.admin}
    told = CliRunner().invoke(cli, ["endpoints", *words], env=where, prog_name="saccade")
    assert (told.exit_code, reason in told.stderr) == (code, True), told.output
    assert isinstance(told.exception, SystemExit)


@pytest.mark.heavy
def test_the_command_starts_sizes_stops_and_forgets(home: Home) -> None:
    made = home.command("start", "lane", "--model", "cars", "--replicas", "1:2", "--limit", "9", "--json")
    assert json.loads(made.stdout)["state"] == "ready", made.stderr
    again = home.command("start", "lane", "--model", "cars")
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    sized = json.loads(home.command("start", "lane", "--idle-stop", "30", "--json").stdout)
    assert (sized["replicas"], sized["idle_stop_s"], sized["calls_per_hour"]) == ("1:2", 30, 9)
    assert home.command("stop", "lane").stdout.startswith("lane is stopped at ")
    anew = json.loads(home.command("start", "lane", "--model", "cars", "--replicas", "0:1", "--json").stdout)
    assert (anew["state"], anew["replicas"], anew["calls_per_hour"]) == ("ready", "0:1", 0)
    assert "(birds)" in home.command("replace", "lane", "birds").stdout
    assert home.command("rm", "lane").stdout == "lane is removed.\n"
    assert "There is no endpoint 'lane'" in home.command("start", "lane").stderr


@pytest.mark.heavy
def test_the_command_shows_why_an_endpoint_failed_and_lets_it_be_mended(home: Home) -> None:
    failed = home.command("start", "weak", "--model", "broken")
    assert (failed.returncode, "made to be corrupt" in failed.stderr) == (1, True)
    assert "weak: The simulated model is made to be corrupt." in home.command("list").stdout
    assert "made to be corrupt" in home.command("start", "weak", "--model", "broken", "--memory", "1GB").stderr
    assert home.ask("GET", "/v1/endpoints/weak")["memory_bytes"] == 10**9
    assert "exists already" in home.command("start", "weak", "--model", "cars").stderr
    assert home.command("replace", "weak", "cars").stdout.startswith("weak is ready at ")
    refused = home.command("start", "weak", "--memory", "lots")
    assert (refused.returncode, "expected a size" in refused.stderr) == (2, True)
    home.ask("DELETE", "/v1/endpoints/weak")


@pytest.mark.heavy
def test_the_command_explains_a_wrong_key_and_a_wrong_address(home: Home) -> None:
    assert "--key or SACCADE_KEY" in home.command("list", key="wrong").stderr
    guest = home.key("guest", scopes=("models",))
    assert "admin rights" in home.command("start", "x", "--model", "cars", key=guest).stderr
    words = [sys.executable, "-m", "saccade", "endpoints", "list", "--url"]
    nobody = subprocess.run([*words, "http://127.0.0.1:9"], capture_output=True, text=True, timeout=120)
    assert (nobody.returncode, "saccade serve" in nobody.stderr) == (1, True)
    wrong = subprocess.run([*words, "nonsense"], capture_output=True, text=True, timeout=120)
    assert "is no http address" in wrong.stderr


@pytest.mark.heavy
def test_after_kill_9_endpoints_keys_usage_and_figures_are_as_they_were(tmp_path: Path) -> None:
    home = Home(tmp_path)
    try:
        home.started("up", calls_per_hour=5)
        home.started("down")
        home.ask("PATCH", "/v1/endpoints/down", {"action": "stop"})
        assert predicted(home.house, home.admin, "up").status_code == 200
        before = home.ask("GET", "/v1/endpoints")["endpoints"]
        home.house.stop(signal.SIGTERM)
        home.house.start()
        settled(home.house, home.admin, "up")
        assert predicted(home.house, home.admin, "up").status_code == 200
        home.house.stop(signal.SIGKILL)
        home.house.start()
        settled(home.house, home.admin, "up")
        after = home.ask("GET", "/v1/endpoints")["endpoints"]
        same = ("id", "name", "model", "state", "url", "calls_per_hour", "created")
        assert [[row[name] for name in same] for row in after] == [[row[name] for name in same] for row in before]
        answer = predicted(home.house, home.admin, "up")
        assert (answer.status_code, answer.headers["x-ratelimit-remaining"]) == (200, "2")
        assert home.ask("GET", "/v1/endpoints/up/metrics")["summary"]["totalRequests"] >= 2
        assert "Ready with cars." in home.status("GET", "/v1/endpoints/up/logs")[1]
    finally:
        home.house.stop()
