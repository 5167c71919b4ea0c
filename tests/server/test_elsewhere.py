"""Two servers, one a region of the other: endpoints that run there, and calls that are sent there."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.simulated_house import DEVICES, House, asked, predicted, settled

from saccade.server.database import Database
from saccade.server.keys import Keys


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


def test_a_region_that_is_not_known_and_a_model_that_is_not_there_are_named(houses: tuple[House, House, str]) -> None:
    near, _, key = houses
    wish = {"name": "lost", "model": "cars", "region": "moon"}
    answer = httpx.post(f"{near.url}/v1/endpoints", headers={"x-api-key": key}, json=wish)
    assert (answer.status_code, "moon" in answer.text, "far" in answer.text) == (400, True, True)
    asked(near, key, "POST", "/v1/endpoints", {"name": "lost", "model": "unicorns", "region": "far"})
    row = settled(near, key, "lost")
    assert (row["state"], "unicorns" in row["reason"]) == ("failed", True)
    asked(near, key, "DELETE", "/v1/endpoints/lost")


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
