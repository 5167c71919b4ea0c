"""Two servers, one a region of the other: endpoints that run there, and calls that are sent there."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from msgspec.structs import replace
from tests.server.simulated_house import CLIENT, DEVICES, PICTURE, House, asked, predicted, settled

from saccade.card import Card
from saccade.endpoints.endpoint import Plan, Record
from saccade.errors import BadOptions, Error, UnknownModel, Unreachable
from saccade.server.database import Database
from saccade.server.elsewhere import KeyRefused, RegionEndpoint, Regions
from saccade.server.keys import Keys
from saccade.server.records import SqlRecords

FAR_KEYS: dict[str, str] = {}
"""The admin keys of the regions, by address."""


@contextlib.contextmanager
def pair(folder: Path, **near: Any) -> Iterator[tuple[House, House, str]]:
    """A server, the region that it knows as "far", and an admin key of both."""
    secrets = []
    for name in ("near", "far"):
        (folder / name).mkdir()
        database = Database("", str(folder / name))
        secrets.append(Keys(database).create("admin", scopes=("admin", "models", "endpoints"))[1])
        database.close()
    far = House(folder / "far", devices={**DEVICES, "patient": {"ms": 5000}})
    try:
        far.start()
        FAR_KEYS[far.url] = secrets[1]
        region = {"name": "far", "url": far.url, "place": "Elsewhere", "key": secrets[1]}
        house = House(folder / "near", regions=[region], **near)
        try:
            yield house.start(), far, secrets[0]
        finally:
            house.stop()
    finally:
        far.stop()


def said(house: House, words: str) -> bool:
    """Whether the server's log holds the words; it is written in bunches."""
    for _ in range(100):
        if words in house.log():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, House, str]]:
    with pair(tmp_path_factory.mktemp("pair")) as both:
        yield both


def test_an_endpoint_lives_its_whole_life_in_the_region(houses: tuple[House, House, str], tmp_path: Path) -> None:
    near, far, key = houses
    wish = {"name": "gate", "model": "cars", "replicas": "1:1", "region": "far"}
    asked(near, key, "POST", "/v1/endpoints", wish)
    row = settled(near, key, "gate")
    assert (row["state"], row["region"], row["replicas_now"]) == ("ready", "far", 1)
    assert row["url"] == f"{near.url}/endpoints/gate"
    assert row["region_url"] == f"{far.url}/endpoints/gate"
    answer = predicted(near, key, "gate")
    assert answer.status_code == 200, answer.text
    assert "cars" in answer.text
    assert asked(near, key, "GET", "/v1/endpoints/gate/health")["healthy"]
    assert asked(near, key, "GET", "/v1/endpoints/gate/metrics")["summary"]["totalRequests"] == 1
    assert asked(near, key, "GET", "/v1/endpoints/gate/logs")["entries"]
    asked(near, key, "PATCH", "/v1/endpoints/gate", {"action": "replace", "model": "birds"})
    assert "birds" in predicted(near, key, "gate").text
    asked(near, key, "PATCH", "/v1/endpoints/gate", {"action": "stop"})
    refused = predicted(near, key, "gate")
    assert (refused.status_code, "Service Unavailable" in refused.text) == (503, True)
    asked(near, key, "PATCH", "/v1/endpoints/gate", {"action": "start"})
    assert settled(near, key, "gate")["state"] == "ready"
    assert predicted(near, key, "gate").status_code == 200
    asked(near, key, "DELETE", "/v1/endpoints/gate")
    assert predicted(near, key, "gate").status_code == 404
    assert said(far, "DELETE /v1/endpoints/gate 200")


def test_the_callers_key_is_asked_for_here_and_stays_here(houses: tuple[House, House, str]) -> None:
    near, _, key = houses
    asked(near, key, "POST", "/v1/endpoints", {"name": "door", "model": "cars", "region": "far"})
    settled(near, key, "door")
    assert predicted(near, "wrong", "door").status_code in (401, 403)
    assert predicted(near, key, "door").status_code == 200
    asked(near, key, "DELETE", "/v1/endpoints/door")


@pytest.mark.parametrize("allowed", [("*",), ("http://site.test",), ("http://other.test",)])
def test_which_pages_may_call_an_endpoint_in_a_region_is_told_here(tmp_path: Path, allowed: tuple[str, ...]) -> None:
    page = {"origin": "http://site.test", "sec-fetch-site": "cross-site"}
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    wanted = None if "other" in allowed[0] else page["origin"]
    with pair(tmp_path, cors_origins=allowed) as (near, _, key):
        asked(near, key, "POST", "/v1/endpoints", {"name": "shop", "model": "cars", "region": "far"})
        settled(near, key, "shop")
        address = f"{near.url}/endpoints/shop"
        granted = CLIENT.options(address, headers={**page, **asks})
        files = {"file": ("a.ppm", PICTURE)}
        answered = CLIENT.post(address, headers={**page, "x-api-key": key}, files=files)
        refused = CLIENT.post(address, headers={**page, "x-api-key": "wrong"}, files=files)
    assert [answer.status_code for answer in (granted, answered, refused)] == [204, 200, 401]
    for answer in (granted, answered, refused):
        assert answer.headers.get("access-control-allow-origin") == wanted
        assert len(answer.headers.get_list("vary")) <= 1


@pytest.mark.parametrize("model", ["cars", "patient"])
def test_every_image_of_a_request_that_a_region_answers_is_a_call(houses: tuple[House, House, str], model: str) -> None:
    near, _, key = houses
    wish = {"name": f"many-{model}", "model": model, "region": "far", "calls_per_hour": 4}
    asked(near, key, "POST", "/v1/endpoints", wish)
    settled(near, key, wish["name"])
    picture = base64.b64encode(PICTURE).decode()

    def left(images: int) -> tuple[int, str]:
        body = gzip.compress(json.dumps({"inputs": [picture] * images}).encode())
        answer = CLIENT.post(
            f"{near.url}/endpoints/{wish['name']}/",
            headers={"x-api-key": key, "content-type": "application/json", "content-encoding": "gzip"},
            content=body,
        )
        used = sum(row["calls"] for row in asked(near, key, "GET", "/v1/usage")["days"] if row["model"] == model)
        return answer.status_code, used - before

    before = sum(row["calls"] for row in asked(near, key, "GET", "/v1/usage")["days"] if row["model"] == model)
    assert left(3) == (200, 3)
    assert left(2) == (429, 3)
    assert left(1) == (200, 4)
    asked(near, key, "DELETE", f"/v1/endpoints/{wish['name']}")


def test_what_this_server_may_do_in_a_region_its_callers_may_not(
    houses: tuple[House, House, str], tmp_path: Path
) -> None:
    near, far, key = houses
    asked(near, key, "POST", "/v1/endpoints", {"name": "narrow", "model": "cars", "region": "far"})
    settled(near, key, "narrow")
    wish = {"name": "plain", "scopes": ["endpoints"], "endpoints": ["narrow"]}
    plain = asked(near, key, "POST", "/v1/keys", wish)["key"]
    host, port = near.url.removeprefix("http://").split(":")

    def raw(method: str, path: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(host, int(port), timeout=20)  # httpx would tidy the path up
        connection.request(
            method, path, body=b"{}" if method == "POST" else None, headers={"x-api-key": plain, **headers}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    before = len(asked(far, FAR_KEYS[far.url], "GET", "/v1/keys")["keys"])
    for path in (
        "/endpoints/narrow/../../v1/keys",
        "/endpoints/narrow/%2e%2e/%2e%2e/v1/keys",
        "/endpoints/narrow/./../x/..",
    ):
        for method in ("GET", "POST"):
            assert raw(method, path)[0] == 404, path
    assert len(asked(far, FAR_KEYS[far.url], "GET", "/v1/keys")["keys"]) == before
    assert raw("GET", "/endpoints/narrow/v1/usage?all=true")[0] == 403
    assert "fromnear" not in raw("GET", "/endpoints/narrow/v1/usage")[1]
    assert raw("POST", "/endpoints/narrow/predict", **{"x-request-priority": "100"})[0] == 403
    assert raw("GET", "/endpoints/narrow/health")[0] == 200
    asked(near, key, "DELETE", "/v1/endpoints/narrow")


def test_callers_who_send_half_of_a_body_take_no_connection_to_the_region(tmp_path: Path) -> None:
    with pair(tmp_path, body_timeout_s=2) as (near, _, key), contextlib.ExitStack() as stack:
        asked(near, key, "POST", "/v1/endpoints", {"name": "slow", "model": "cars", "region": "far"})
        settled(near, key, "slow")
        host, port = near.url.removeprefix("http://").split(":")
        head = f"POST /endpoints/slow HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: 1000\r\n\r\nab"
        lines = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(110)]
        for line in lines:
            line.sendall(head.encode())
        time.sleep(0.3)
        assert predicted(near, key, "slow").status_code == 200
        lines[0].settimeout(10)
        assert b" 400 " in lines[0].recv(200)


def test_a_region_that_is_not_known_and_a_model_that_is_not_there_are_named(houses: tuple[House, House, str]) -> None:
    near, _, key = houses
    wish = {"name": "lost", "model": "cars", "region": "moon"}
    answer = httpx.post(f"{near.url}/v1/endpoints", headers={"x-api-key": key}, json=wish)
    assert (answer.status_code, "moon" in answer.text, "far" in answer.text) == (400, True, True)
    asked(near, key, "POST", "/v1/endpoints", {"name": "lost", "model": "unicorns", "region": "far"})
    row = settled(near, key, "lost")
    assert (row["state"], "unicorns" in row["reason"]) == ("failed", True)
    asked(near, key, "DELETE", "/v1/endpoints/lost")


def test_an_endpoint_of_the_regions_own_is_neither_taken_over_nor_touched(houses: tuple[House, House, str]) -> None:
    near, far, key = houses
    far_key = FAR_KEYS[far.url]
    for model in ("birds", "cars"):
        own = asked(far, far_key, "POST", "/v1/endpoints", {"name": "people", "model": model, "replicas": "1:1"})
        settled(far, far_key, "people")
        asked(near, key, "POST", "/v1/endpoints", {"name": "people", "model": "cars", "region": "far"})
        row = settled(near, key, "people")
        assert (row["state"], "not started from here" in row["reason"]) == ("failed", True)
        assert asked(near, key, "DELETE", "/v1/endpoints/people") == {"removed": "people"}
        left = asked(far, far_key, "GET", "/v1/endpoints/people")
        assert (left["id"], left["state"], left["model"]) == (own["id"], "ready", model)
        asked(far, far_key, "DELETE", "/v1/endpoints/people")


def test_what_was_made_anew_in_the_region_by_others_is_left_alone(houses: tuple[House, House, str]) -> None:
    near, far, key = houses
    far_key = FAR_KEYS[far.url]
    asked(near, key, "POST", "/v1/endpoints", {"name": "swapped", "model": "cars", "region": "far"})
    settled(near, key, "swapped")
    asked(far, far_key, "DELETE", "/v1/endpoints/swapped")
    own = asked(far, far_key, "POST", "/v1/endpoints", {"name": "swapped", "model": "cars", "replicas": "1:1"})
    settled(far, far_key, "swapped")
    changed = CLIENT.patch(
        f"{near.url}/v1/endpoints/swapped", json={"action": "replace", "model": "birds"}, headers={"x-api-key": key}
    )
    assert (changed.status_code, "not there any more" in changed.text) == (503, True)
    assert asked(near, key, "PATCH", "/v1/endpoints/swapped", {"action": "stop"})["state"] == "stopped"
    asked(near, key, "DELETE", "/v1/endpoints/swapped")
    left = asked(far, far_key, "GET", "/v1/endpoints/swapped")
    assert (left["id"], left["state"], left["model"]) == (own["id"], "ready", "cars")
    asked(far, far_key, "DELETE", "/v1/endpoints/swapped")


def test_what_was_changed_while_it_was_down_is_so_in_the_region_once_it_is_up(houses: tuple[House, House, str]) -> None:
    near, far, key = houses
    asked(near, key, "POST", "/v1/endpoints", {"name": "later", "model": "cars", "region": "far"})
    settled(near, key, "later")
    asked(near, key, "PATCH", "/v1/endpoints/later", {"action": "stop"})
    asked(near, key, "PATCH", "/v1/endpoints/later", {"action": "replace", "model": "birds"})
    asked(near, key, "POST", "/v1/endpoints", {"name": "later", "replicas": "1:2"})
    assert settled(near, key, "later")["state"] == "ready"
    there = asked(far, FAR_KEYS[far.url], "GET", "/v1/endpoints/later")
    assert (there["model"], there["replicas"]) == ("birds", "1:2")
    asked(near, key, "DELETE", "/v1/endpoints/later")


def test_endpoints_of_a_saccade_that_wrote_no_ids_down_are_still_its_own(tmp_path: Path) -> None:
    with pair(tmp_path) as (near, far, key):
        asked(near, key, "POST", "/v1/endpoints", {"name": "old", "model": "cars", "region": "far"})
        settled(near, key, "old")
        near.stop()
        database = Database("", str(tmp_path / "near"))
        records = SqlRecords(database)
        (old,) = records.all()
        assert old.region_id
        records.save(replace(old, region_id=""))
        near.start()
        assert settled(near, key, "old")["state"] == "ready"
        assert next(iter(records.all())).region_id == old.region_id
        records.save(replace(old, region_id=""))
        near.stop()
        records.save(replace(old, region_id="", state="stopped"))
        database.close()
        near.start()
        asked(near, key, "DELETE", "/v1/endpoints/old")
        gone = CLIENT.get(f"{far.url}/v1/endpoints/old", headers={"x-api-key": FAR_KEYS[far.url]})
        assert gone.status_code == 404


def test_a_failed_endpoint_of_a_region_that_is_gone_can_be_removed_and_tells_what_may_be_left(tmp_path: Path) -> None:
    with pair(tmp_path) as (near, far, key):
        asked(near, key, "POST", "/v1/endpoints", {"name": "weak", "model": "broken", "region": "far"})
        asked(near, key, "POST", "/v1/endpoints", {"name": "well", "model": "cars", "region": "far"})
        reason = settled(near, key, "weak")["reason"]
        assert "made to be corrupt" in reason
        assert settled(near, key, "well")["state"] == "ready"
        far.stop()
        asked(near, key, "POST", "/v1/endpoints", {"name": "never", "model": "cars", "region": "far"})
        assert "does not answer" in settled(near, key, "never")["reason"]
        refused = CLIENT.delete(f"{near.url}/v1/endpoints/well", headers={"x-api-key": key})
        assert (refused.status_code, "does not answer" in refused.text) == (503, True)
        left = "The region 'far' does not answer, so an endpoint 'weak' may be left there."
        assert asked(near, key, "DELETE", "/v1/endpoints/weak") == {"removed": "weak", "note": left}
        assert asked(near, key, "DELETE", "/v1/endpoints/never") == {"removed": "never"}
        assert [row["name"] for row in asked(near, key, "GET", "/v1/endpoints")["endpoints"]] == ["well"]
        far.start()
        near.stop()
        near.given["regions"][0]["key"] = "wrong"
        near.start()
        reason = settled(near, key, "well")["reason"]
        assert reason == "The region 'far' does not accept the key that saccade.toml holds for it."
        note = asked(near, key, "DELETE", "/v1/endpoints/well")["note"]
        assert note == f"{reason.rstrip('.')}, so an endpoint 'well' may be left there."


class Deaf:
    """A region whose answer to a wish is lost, or that refuses it; what it was asked is noted."""

    def __init__(self, error: Error, makes: bool) -> None:
        self._error, self._makes = error, makes
        self.row: dict[str, Any] | None = None
        self.asked: list[str] = []

    async def ask(self, name: str, method: str, path: str, body: Any = None, patience_s: float = 1) -> dict[str, Any]:
        self.asked.append(method)
        if method == "POST":
            self.row = {"id": "7", "state": "ready", "idle_stop_s": 600, **body} if self._makes else None
            raise self._error
        if self.row is None:
            raise UnknownModel("There is none.")
        return self.row


def test_what_was_made_there_though_the_answer_was_lost_is_found_again_and_what_was_refused_is_not() -> None:
    record = Record(id="1", name="gate", plan=Plan(model="cars", region="far"))
    card = Card(name="cars", task="detect", family="x", runtime="y")

    async def tried(region: Deaf) -> Record:
        endpoint = RegionEndpoint(cast(Regions, region), record)
        with pytest.raises(Error):
            await endpoint.start(card, record.plan)
        return replace(record, region_id=endpoint.region_id)

    async def play() -> None:
        lost = Deaf(Unreachable("The region 'far' does not answer."), makes=True)
        again = RegionEndpoint(cast(Regions, lost), await tried(lost))
        await again.start(card, record.plan)
        assert (again.region_id, lost.asked.count("POST")) == ("7", 1)
        for error in (
            BadOptions("The region 'far' says: no."),
            KeyRefused("The region 'far' does not accept the key."),
        ):
            refusing = Deaf(error, makes=False)
            after = await tried(refusing)
            assert after.region_id == ""
            refusing.row = {"id": "8", "state": "ready", "model": "cars"}
            refusing.asked.clear()
            await RegionEndpoint(cast(Regions, refusing), after).remove()
            assert refusing.asked == []

    asyncio.run(play())


def test_replacing_in_a_region_under_load_fails_no_call(houses: tuple[House, House, str]) -> None:
    near, _, key = houses
    asked(near, key, "POST", "/v1/endpoints", {"name": "busy", "model": "cars", "replicas": "1:1", "region": "far"})
    settled(near, key, "busy")
    done = threading.Event()

    def calls() -> list[int]:
        statuses = []
        while not done.is_set():
            statuses.append(predicted(near, key, "busy").status_code)
        return statuses

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(calls) for _ in range(4)]
        asked(near, key, "PATCH", "/v1/endpoints/busy", {"action": "replace", "model": "birds"})
        time.sleep(0.3)
        done.set()
        statuses = [status for load in loads for status in load.result()]
    assert set(statuses) == {200}
    assert "birds" in predicted(near, key, "busy").text
    asked(near, key, "DELETE", "/v1/endpoints/busy")


@pytest.mark.heavy
def test_endpoints_in_a_region_outlive_this_server_and_answer_503_while_the_region_is_gone(tmp_path: Path) -> None:
    with pair(tmp_path) as (near, far, key):
        asked(near, key, "POST", "/v1/endpoints", {"name": "stays", "model": "cars", "region": "far"})
        settled(near, key, "stays")
        near.stop()
        near.start()
        assert settled(near, key, "stays")["state"] == "ready"
        assert predicted(near, key, "stays").status_code == 200
        far.stop(signal.SIGKILL)
        refused = predicted(near, key, "stays")
        assert (refused.status_code, "far" in refused.text) == (503, True)
        begun = time.monotonic()
        assert predicted(near, key, "stays", "@huggingface/inference/4.13.30").status_code == 503
        assert time.monotonic() - begun > 0.9, "who repeats a 503 at once waits for it"
        assert "does not answer" in asked(near, key, "GET", "/v1/endpoints/stays")["reason"]
        far.start()
        assert predicted(near, key, "stays").status_code in (200, 503)
        assert settled(near, key, "stays")["state"] == "ready"
        assert predicted(near, key, "stays").status_code == 200
        assert "Traceback" not in near.log()


@contextlib.contextmanager
def hanging(house: House) -> Iterator[None]:
    """The machine accepts connections and says nothing more."""
    assert house.child is not None
    house.child.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        house.child.send_signal(signal.SIGCONT)


@pytest.mark.heavy
def test_a_region_that_hangs_is_given_up_and_one_that_is_only_slow_is_not(tmp_path: Path) -> None:
    with pair(tmp_path) as (near, far, key):
        asked(near, key, "POST", "/v1/endpoints", {"name": "slow", "model": "patient", "region": "far"})
        assert settled(near, key, "slow")["state"] == "ready"
        assert predicted(near, key, "slow").status_code == 200
        with hanging(far):
            begun = time.monotonic()
            refused = predicted(near, key, "slow")
            assert (refused.status_code, "'far' does not answer" in refused.text) == (503, True)
            assert time.monotonic() - begun < 10
        assert predicted(near, key, "slow").status_code == 200
        assert "Traceback" not in near.log()


def shared_call(house: House, key: str, model: str, brightness: int = 100) -> httpx.Response:
    content = b"P6\n4 4\n255\n" + bytes([brightness]) * 48
    headers = {"authorization": f"Bearer {key}", "content-type": "application/octet-stream"}
    return httpx.post(f"{house.url}/models/{model}", headers=headers, content=content, timeout=30)


@pytest.mark.heavy
def test_shared_calls_go_to_the_nearest_region_and_come_home_when_it_is_gone(tmp_path: Path) -> None:
    with pair(tmp_path, forward="nearest") as (near, far, key):
        assert shared_call(near, key, "cars").status_code == 200
        assert said(far, "POST /models/cars 200")
        usage = asked(near, key, "GET", "/v1/usage")
        assert sum(day["calls"] for day in usage["days"]) == 1
        with hanging(far):
            assert shared_call(near, key, "cars").status_code == 200
        far.stop(signal.SIGKILL)
        assert shared_call(near, key, "cars").status_code == 200


@pytest.mark.heavy
def test_shared_calls_that_are_refused_here_are_answered_by_the_region(tmp_path: Path) -> None:
    with pair(tmp_path, forward="when_busy", queue_calls=1) as (near, far, key):
        assert shared_call(near, key, "slow").status_code == 200
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: shared_call(near, key, "slow", i).status_code, range(8)))
        assert answers.count(200) >= 4
        assert said(far, "POST /models/slow 200")


def test_a_caller_who_leaves_an_endpoint_in_a_region_leaves_it_there_too(tmp_path: Path) -> None:
    """The region went on with what nobody waited for any more, a video to its end."""
    with pair(tmp_path) as (near, far, key):
        asked(near, key, "POST", "/v1/endpoints", {"name": "slow", "model": "patient", "region": "far"})
        assert settled(near, key, "slow")["state"] == "ready"
        begun = time.monotonic()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{near.url}/endpoints/slow/",
                headers={"x-api-key": key},
                files={"file": ("a.ppm", PICTURE)},
                timeout=1,
                trust_env=False,
            )
        assert said(far, "error=Departed")
        assert said(near, "error=Departed")
        assert time.monotonic() - begun < 4, "the model takes five seconds"
        (row,) = asked(near, key, "GET", "/v1/usage")["days"]
        assert (row["calls"], row["errors"]) == (1, 0)


def test_a_call_in_a_region_that_outlasts_the_end_of_the_server_is_told_so(tmp_path: Path) -> None:
    """Its connection was cut, as by a crash."""
    with pair(tmp_path, drain_timeout_s=1) as (near, _, key), ThreadPoolExecutor(1) as pool:
        asked(near, key, "POST", "/v1/endpoints", {"name": "slow", "model": "patient", "region": "far"})
        assert settled(near, key, "slow")["state"] == "ready"
        assert near.child is not None
        call = pool.submit(predicted, near, key, "slow")
        time.sleep(0.5)
        near.child.send_signal(signal.SIGTERM)
        answer = call.result()
        assert (answer.status_code, "shutting down" in answer.text) == (503, True)
        assert answer.headers["retry-after"]
        assert near.child.wait(10) == 0
        near.start()
        (row,) = asked(near, key, "GET", "/v1/usage")["days"]
        assert (row["calls"], row["errors"]) == (0, 1), "it was refused, and is given back"
