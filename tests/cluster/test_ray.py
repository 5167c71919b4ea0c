"""saccade on a Ray cluster of two nodes: life, log and sleep of endpoints, and how replicas add up."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.cluster.clusters import DEVICES, NAMED, PICTURE, RARE, Cluster, Load, Server, alone

pytestmark = pytest.mark.heavy

CALLS = "severity=INFO&limit=3"


def call(cluster: Server, path: str, body: bytes = PICTURE, **headers: str) -> httpx.Response:
    sent = {"content-type": "application/octet-stream", **headers}
    return httpx.post(cluster.url + path, content=body, headers=sent, timeout=60, trust_env=False)


def as_hub(cluster: Cluster, path: str, **headers: str) -> httpx.Response:
    sent = {"file": ("a.ppm", PICTURE)}
    return httpx.post(cluster.url + path, files=sent, headers=headers, timeout=60, trust_env=False)


def eventually(cluster: Cluster, path: str, status: int) -> bool:
    """Whether calls get this status once all replicas of the shared API know what one of them did."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if call(cluster, path).status_code == status:
            return True
        time.sleep(0.1)
    return False


def test_an_endpoint_lives_its_whole_life_on_the_cluster(cluster: Cluster) -> None:
    row = cluster.settled("gate", 1)
    assert row["state"] == "ready", row
    assert cluster.standings()["saccade-endpoint-gate"] == ["ready", 1]
    answer = as_hub(cluster, "/endpoints/gate/")
    assert (answer.status_code, '"cars"' in answer.text) == (200, True)
    cluster.ask("PATCH", "/v1/endpoints/gate", {"action": "stop"})
    assert eventually(cluster, "/endpoints/gate/predict", 503)
    stopped = call(cluster, "/endpoints/gate/predict")
    assert (stopped.status_code, "Service Unavailable" in stopped.text) == (503, True)
    cluster.ask("PATCH", "/v1/endpoints/gate", {"action": "start"})
    assert cluster.settled("gate", 1)["state"] == "ready"
    assert call(cluster, "/endpoints/gate/predict").status_code == 200
    cluster.ask("DELETE", "/v1/endpoints/gate")
    assert eventually(cluster, "/endpoints/gate/predict", 404)


def test_rarely_asked_models_are_in_the_memory_of_one_replica_each(cluster: Cluster) -> None:
    for _ in range(4):
        for name in RARE:
            assert call(cluster, f"/models/{name}").status_code == 200
    held = set()
    for _ in range(40):
        info = cluster.ask("GET", "/info")
        held.add(frozenset(row["name"] for row in info["engine"]["models"] if row["name"] in RARE))
    assert len(held) == 2, held
    assert not frozenset.intersection(*held)
    assert frozenset.union(*held) == set(RARE)


def test_a_host_name_leads_to_its_endpoint_and_a_port_is_refused_in_words(cluster: Cluster) -> None:
    row = cluster.settled("seen", 2)
    assert row["url"] == f"http://{NAMED}:{cluster.port}"
    assert '"cars"' in as_hub(cluster, "/", host=f"{NAMED}:{cluster.port}").text
    wish = {"name": "door", "model": "cars", "port": 9000}
    refused = httpx.post(cluster.url + "/v1/endpoints", json=wish, trust_env=False)
    assert refused.status_code == 400
    assert "--hostname" in refused.json()["error"]
    assert "/endpoints/door" in refused.json()["error"]


def test_a_video_reaches_an_endpoint_through_the_shared_address(cluster: Cluster) -> None:
    cluster.settled("seen", 2)
    frames, film = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (10, 90, 170)], io.BytesIO()
    frames[0].save(film, "GIF", save_all=True, append_images=frames[1:])
    sent = {"file": ("film.gif", film.getvalue(), "image/gif")}
    address = cluster.url + "/api/deployments/me/seen/predict"
    answer = httpx.post(address, files=sent, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["images"]) == len(frames)


def shape(value: object) -> object:
    """Names and types of a JSON value; a list by its first entry."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) else type(value).__name__


def told(url: str) -> dict[str, Any]:
    """What the endpoint "seen" tells of itself, on our face and the Platform's."""
    faces = ("/v1/endpoints/seen", "/api/deployments/me/seen")
    pages = (
        "/health",
        f"/logs?{CALLS}",
        "/logs?severity=WARNING",
        "/metrics?range=1h",
        "/metrics?sparkline=true",
    )
    found = {face + page: httpx.get(url + face + page, trust_env=False) for face in faces for page in pages}
    assert {answer.status_code for answer in found.values()} == {200}, found
    return {page: answer.json() for page, answer in found.items()}


def test_log_and_plots_add_up_over_replicas_and_look_as_on_one_machine(cluster: Cluster, tmp_path: Path) -> None:
    cluster.settled("seen", 2)
    time.sleep(1.5)  # what the tests before counted is told once a second
    before = told(cluster.url)["/v1/endpoints/seen/metrics?range=1h"]["summary"]["totalRequests"]
    with alone(tmp_path, DEVICES) as house:
        house.ask("POST", "/v1/endpoints", {"name": "seen", "model": "cars", "replicas": "1:1"})
        house.settled("seen", 1)
        for server in (house, cluster):
            for _ in range(20):
                assert call(server, "/endpoints/seen/predict").status_code == 200
            assert call(server, "/api/deployments/me/seen/predict").status_code == 200
            assert call(server, "/endpoints/seen/predict", b"no picture").status_code == 400
        end = time.monotonic() + 10
        while told(cluster.url)["/v1/endpoints/seen/metrics?range=1h"]["summary"]["totalRequests"] < before + 22:
            assert time.monotonic() < end, told(cluster.url)
            time.sleep(0.2)
        there, here = told(cluster.url), told(house.url)
    assert {page: shape(value) for page, value in there.items()} == {page: shape(value) for page, value in here.items()}
    metrics = there["/v1/endpoints/seen/metrics?range=1h"]
    assert metrics["summary"]["totalRequests"] == before + 22
    assert 4 < metrics["summary"]["p50LatencyMs"] < 1000
    assert sum(point["value"] for point in metrics["timeSeries"]["requests"]) == before + 22
    assert max(point["value"] for point in metrics["timeSeries"]["instanceCount"]) == 2
    assert len(there[f"/v1/endpoints/seen/logs?{CALLS}"]["entries"]) == 3
    [mistake] = there["/v1/endpoints/seen/logs?severity=WARNING"]["entries"]
    assert mistake["httpRequest"]["status"] == 400
    log = cluster.ask("GET", "/v1/endpoints/seen/logs?limit=200")["entries"]
    assert sum("came up" in entry["message"] for entry in log) == 2
    assert [entry["timestamp"] for entry in log] == sorted((entry["timestamp"] for entry in log), reverse=True)


def test_another_number_of_replicas_leaves_those_that_run_alone(cluster: Cluster) -> None:
    cluster.ask("PATCH", "/v1/endpoints/seen", {"action": "resize", "replicas": "3:3"})
    cluster.settled("seen", 3)
    time.sleep(1.5)
    log = cluster.ask("GET", "/v1/endpoints/seen/logs?limit=200")["entries"]
    assert sum("came up" in entry["message"] for entry in log) == 3, log


def test_replacing_a_model_under_load_fails_no_call_and_a_broken_one_changes_nothing(cluster: Cluster) -> None:
    cluster.settled("busy", 2)
    load = Load(cluster, "/endpoints/busy/predict", 4, PICTURE)
    time.sleep(1)
    change = {"action": "replace", "model": "broken"}
    refused = httpx.patch(cluster.url + "/v1/endpoints/busy", json=change, timeout=120, trust_env=False)
    assert (refused.status_code, "corrupt" in refused.text) == (500, True), refused.text
    assert '"cars"' in as_hub(cluster, "/endpoints/busy/").text
    cluster.ask("PATCH", "/v1/endpoints/busy", {"action": "replace", "model": "birds"})
    time.sleep(2)
    seen = load.stop()
    assert set(seen) == {"200"}, seen
    assert '"birds"' in as_hub(cluster, "/endpoints/busy/").text


def test_an_endpoint_that_cannot_start_tells_why(cluster: Cluster) -> None:
    cluster.ask("POST", "/v1/endpoints", {"name": "bad", "model": "broken", "replicas": "1:1"})
    row = cluster.settled("bad")
    assert row["state"] == "failed"
    assert "corrupt" in row["reason"], row


def test_an_idle_endpoint_sleeps_at_no_replicas_and_answers_again(cluster: Cluster) -> None:
    end = time.monotonic() + 60
    while cluster.processes("saccade-endpoint-naps"):  # one that leaves still answers
        assert time.monotonic() < end, "it never slept"
        time.sleep(0.2)
    begun = time.monotonic()
    answer = call(cluster, "/endpoints/naps/predict")
    woken_s = time.monotonic() - begun
    print(f"an endpoint at no replicas answered after {woken_s:.2f} s")
    assert answer.status_code == 200, answer.text


def rate(load: Load) -> float:
    """Answers per second over the next seconds."""
    begun, before = time.monotonic(), load.answered()
    time.sleep(3)
    return (load.answered() - before) / (time.monotonic() - begun)


def test_simulated_devices_add_up_from_one_to_eight_replicas(cluster: Cluster) -> None:
    rates: dict[int, float] = {}
    for count in (1, 8):
        if count > 1:
            cluster.ask("PATCH", "/v1/endpoints/many", {"action": "resize", "replicas": f"{count}:{count}"})
        cluster.settled("many", count)
        load = Load(cluster, "/endpoints/many/predict", 3 * count, PICTURE)
        time.sleep(1)
        for _ in range(4):  # the best of a few is what the replicas can do beside other work
            rates[count] = max(rates.get(count, 0.0), rate(load))
            if rates[count] >= 0.95 * 20 * count:
                break
        seen = load.stop()
        assert set(seen) == {"200"}, seen
    print("calls per second by replicas:", {count: round(best, 1) for count, best in rates.items()})
    assert rates[8] >= 0.9 * 8 * rates[1], rates
