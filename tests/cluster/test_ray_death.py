"""The last tests of the package: the cluster has one node from here on."""

from __future__ import annotations

import time

import pytest
from tests.cluster.clusters import PICTURE, Cluster, Load

pytestmark = pytest.mark.heavy


def test_a_node_that_dies_under_load_fails_no_call(cluster: Cluster) -> None:
    cluster.settled("busy", 2)
    cluster.ask("PATCH", "/v1/endpoints/busy", {"action": "resize", "replicas": "4:4"})
    cluster.settled("busy", 4)
    loads = [
        Load(cluster, "/endpoints/busy/predict", 4, PICTURE),
        Load(cluster, "/models/birds", 4, PICTURE),
        Load(cluster, "/models/slow", 8, PICTURE, pause_s=0.05),
    ]
    time.sleep(3)
    whole = up(cluster)
    cluster.kill_a_node()
    end = time.monotonic() + 30
    while up(cluster) == whole:
        assert time.monotonic() < end, "no replica was on the node that died"
        time.sleep(0.2)
    assert cluster.settled("busy", 4)["replicas_now"] == 4
    time.sleep(3)
    seen = [load.stop() for load in loads]
    print("answers around the death of a node:", seen, "slowest:", [round(load.slowest_s, 2) for load in loads])
    assert all(set(one) == {"200"} for one in seen), seen


def up(cluster: Cluster) -> int:
    """Running replicas of the endpoint and of the shared API."""
    standings = cluster.standings()
    return int(standings["saccade-endpoint-busy"][1] + standings["saccade-shared"][1])
