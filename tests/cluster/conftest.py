"""The cluster of two nodes that most of these tests share: it takes half a minute to come up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.clusters import DEVICES, NAMED, RARE, SLOW, Cluster, running
from tests.conftest import SHARED

WISHES: dict[str, dict[str, Any]] = {
    "gate": {"model": "cars", "replicas": "1:2"},
    "naps": {"model": "cars", "replicas": "0:1", "idle_stop_s": 3},
    "many": {"model": "fifty", "replicas": "1:1"},
    "busy": {"model": "cars", "replicas": "2:2"},
    "seen": {"model": "cars", "replicas": "2:2", "hostname": NAMED},
}
"""Endpoints that tests ask for: they come up, and one falls asleep, beside the first tests."""


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Real models, simulated devices and endpoints on two nodes; nobody needs a key."""
    home = tmp_path_factory.mktemp("ray")
    models = home / "mine"
    models.mkdir()
    for file in (SHARED / "data" / "models").glob("yolo*.onnx"):
        (models / file.name).symlink_to(file)
    given: dict[str, Any] = {
        "ray_replicas": "2:2",
        "threads": 1,
        "isolate": False,
        "cache_bytes": 0,
        "models": [str(models)],
        "precision": "f32",
        "default_model": "yolo11n",
        "no_auth": True,
    }
    with running(home / "house", [16, 16], devices={**DEVICES, **SLOW, **RARE}, **given) as cluster:
        for name, wish in WISHES.items():
            cluster.ask("POST", "/v1/endpoints", {"name": name, **wish})
        yield cluster


@pytest.fixture(autouse=True)
def calm(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that fails leaves no callers behind: they would keep the machine busy, and this process alive."""
    yield
    if "cluster" in request.fixturenames:
        cluster: Cluster = request.getfixturevalue("cluster")
        while cluster.loads:
            cluster.loads.pop().stop()
