"""What is prepared before a cluster is started; the clusters themselves are in tests/cluster."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest

from saccade.endpoints import ray
from saccade.server import cluster


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ray.ENVIRONMENT, *ray.OWN_PORTS):
        monkeypatch.setenv(name, "")  # so that it is taken away again afterwards
        monkeypatch.delenv(name)


def test_haproxy_listens_elsewhere_where_another_cluster_has_its_ports() -> None:
    name, usual = "RAY_SERVE_HAPROXY_STATS_PORT", 8404
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # somebody has it already
            other.bind(("", usual))
            other.listen()
        chosen = cluster.prepare(None)[name]
    assert chosen not in (str(usual), "0")
    assert os.environ[name] == chosen


def test_what_the_operator_set_stays_and_machines_elsewhere_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not set(ray.OWN_PORTS) & set(cluster.prepare("ray://there:10001"))
    monkeypatch.setenv("RAY_SERVE_HAPROXY_METRICS_PORT", "9999")
    assert cluster.prepare(None)["RAY_SERVE_HAPROXY_METRICS_PORT"] == "9999"
