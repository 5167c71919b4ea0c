"""saccade on a Ray cluster of two nodes: life of endpoints, a node that dies, sleep, and how replicas add up."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest
from tests.cluster.clusters import Cluster, Load, running

pytestmark = pytest.mark.heavy

PICTURE = b"P6\n4 4\n255\n" + bytes([100]) * 48
FIFTY_MS = {"ms": 50, "parallel": 1, "batchable": False}
DEVICES = {"cars": {"ms": 5}, "birds": {"ms": 5}, "fifty": FIFTY_MS, "broken": {"corrupt": True}}
RARE = {f"rare-{i}": {"ms": 1} for i in range(6)}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("ray")
    with running(
        home, [7, 7], devices={**DEVICES, **RARE}, ray_replicas="2:2", isolate=False, cache_bytes=0
    ) as cluster:
        yield cluster


def call(cluster: Cluster, path: str) -> httpx.Response:
    headers = {"content-type": "application/octet-stream"}
    return httpx.post(cluster.url + path, content=PICTURE, headers=headers, timeout=60, trust_env=False)


def as_hub(cluster: Cluster, name: str) -> httpx.Response:
    sent = {"file": ("a.ppm", PICTURE)}
    return httpx.post(f"{cluster.url}/endpoints/{name}/", files=sent, timeout=60, trust_env=False)


def eventually(cluster: Cluster, path: str, status: int) -> bool:
    """Whether calls get this status once all replicas of the shared API know what one of them did."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if call(cluster, path).status_code == status:
            return True
        time.sleep(0.1)
    return False


def test_an_endpoint_lives_its_whole_life_on_the_cluster(cluster: Cluster) -> None:
    cluster.ask("POST", "/v1/endpoints", {"name": "gate", "model": "cars", "replicas": "1:2"})
    row = cluster.settled("gate", 1)
    assert row["state"] == "ready", row
    assert cluster.standings()["saccade-endpoint-gate"] == ["ready", 1]
    answer = as_hub(cluster, "gate")
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


def test_replacing_a_model_under_load_fails_no_call(cluster: Cluster) -> None:
    cluster.ask("POST", "/v1/endpoints", {"name": "busy", "model": "cars", "replicas": "2:2"})
    cluster.settled("busy", 2)
    load = Load(cluster, "/endpoints/busy/predict", 4, PICTURE)
    time.sleep(1)
    cluster.ask("PATCH", "/v1/endpoints/busy", {"action": "replace", "model": "birds"})
    time.sleep(2)
    seen = load.stop()
    assert set(seen) == {"200"}, seen
    assert '"birds"' in as_hub(cluster, "busy").text
    cluster.ask("DELETE", "/v1/endpoints/busy")


def test_an_endpoint_that_cannot_start_tells_why(cluster: Cluster) -> None:
    cluster.ask("POST", "/v1/endpoints", {"name": "bad", "model": "broken", "replicas": "1:1"})
    row = cluster.settled("bad")
    assert row["state"] == "failed"
    assert "corrupt" in row["reason"], row
    cluster.ask("DELETE", "/v1/endpoints/bad")


def test_an_idle_endpoint_sleeps_at_no_replicas_and_answers_again(cluster: Cluster) -> None:
    cluster.ask("POST", "/v1/endpoints", {"name": "naps", "model": "cars", "replicas": "0:1", "idle_stop_s": 3})
    cluster.settled("naps", 1)
    end = time.monotonic() + 60
    while cluster.standings()["saccade-endpoint-naps"] != ["ready", 0]:
        assert time.monotonic() < end, "it never slept"
        time.sleep(0.2)
    time.sleep(12)  # the replica that leaves still answers while HAProxy forgets it
    begun = time.monotonic()
    answer = call(cluster, "/endpoints/naps/predict")
    woken_s = time.monotonic() - begun
    print(f"an endpoint at no replicas answered after {woken_s:.2f} s")
    assert answer.status_code == 200, answer.text
    cluster.ask("DELETE", "/v1/endpoints/naps")


def rate(load: Load) -> float:
    """Answers per second over the next seconds; the best of a few is what the replicas can do beside other work."""
    begun, before = time.monotonic(), load.answered()
    time.sleep(3)
    return (load.answered() - before) / (time.monotonic() - begun)


def test_simulated_devices_add_up_from_one_to_eight_replicas(cluster: Cluster) -> None:
    cluster.ask("POST", "/v1/endpoints", {"name": "many", "model": "fifty", "replicas": "1:1"})
    rates = {}
    for count in (1, 2, 4, 8):
        if count > 1:
            cluster.ask("PATCH", "/v1/endpoints/many", {"action": "resize", "replicas": f"{count}:{count}"})
        cluster.settled("many", count)
        load = Load(cluster, "/endpoints/many/predict", 3 * count, PICTURE)
        time.sleep(2)
        rates[count] = max(rate(load) for _ in range(3))
        seen = load.stop()
        assert set(seen) == {"200"}, seen
    print("calls per second by replicas:", {count: round(best, 1) for count, best in rates.items()})
    cluster.ask("DELETE", "/v1/endpoints/many")
    for count, best in rates.items():
        assert best >= 0.9 * count * rates[1], rates


def test_a_node_that_dies_under_load_fails_no_call(cluster: Cluster) -> None:
    """The last test here: the cluster has one node from now on."""
    cluster.ask("POST", "/v1/endpoints", {"name": "safe", "model": "cars", "replicas": "4:4"})
    cluster.settled("safe", 4)
    loads = [Load(cluster, "/endpoints/safe/predict", 4, PICTURE), Load(cluster, "/models/birds", 4, PICTURE)]
    time.sleep(2)
    cluster.kill_a_node()
    left = []
    for _ in range(30):
        left.append(sum(replicas for _, replicas in cluster.standings().values()))
        time.sleep(0.5)
    assert min(left) < 6, "no replica was on the node that died"
    seen = [load.stop() for load in loads]
    print("answers around the death of a node:", seen, "slowest:", [round(load.slowest_s, 2) for load in loads])
    assert all(set(one) == {"200"} for one in seen), seen
    assert cluster.settled("safe", 4)["replicas_now"] == 4
