"""A Ray cluster of real raylets on this machine with saccade on it, steered by lines on stdin.

``python -m tests.cluster.house '{"nodes": [2, 2], "settings": {...}}'`` prints ``ready PORT`` when the shared API
answers; ``kill`` ends the last node as a machine ends, ``standings`` and ``processes NAME`` tell how applications stand
and how many processes one has, also while they leave; ``quit`` ends all.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
os.environ["PYTHONPATH"] = f"{ROOT / 'src'}:{ROOT}"
os.environ["RAY_raylet_start_wait_time_s"] = "150"  # noqa: SIM112 (a busy machine is no failure)

from saccade.card import Card  # noqa: E402
from saccade.server import cluster, settings  # noqa: E402
from saccade.server.shelves import open_library  # noqa: E402


class Beside:
    """Simulated devices beside the models of a library."""

    def __init__(self, behaviours: dict[str, dict[str, Any]], library: Any) -> None:
        self._library = library
        self._devices = {
            name: Card(
                name=name,
                task="detect",
                family="simulated",
                runtime="simulated",
                labels={0: name},
                revision=name,
                config={"simulated": behaviour},
            )
            for name, behaviour in behaviours.items()
        }

    def card(self, ref: str, *, fetch: bool = False) -> Any:
        return self._devices[ref] if ref in self._devices else self._library.card(ref, fetch=fetch)

    def cards(self) -> list[Any]:
        return [*self._devices.values(), *self._library.cards()]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)


class Shelf:
    """Makes the library on a node."""

    def __init__(self, behaviours: dict[str, dict[str, Any]]) -> None:
        self._behaviours = behaviours

    def __call__(self, given: settings.Settings) -> Any:
        return Beside(self._behaviours, open_library(given))


def main() -> None:
    given = json.loads(sys.argv[1])
    variables = cluster.prepare("auto")
    from ray import serve
    from ray.cluster_utils import Cluster

    from saccade.endpoints import ray

    def told() -> dict[str, ray.Standing]:
        return {name: one for name, one in ray.standings().items() if name != ray.LEDGER}

    nodes = Cluster()
    options = {"include_dashboard": False, "object_store_memory": 100_000_000}
    added = [nodes.add_node(num_cpus=cpus, **options) for cpus in given["nodes"]]
    nodes.wait_for_nodes()
    ray.connect(nodes.address, variables)
    cluster.deploy(
        settings.load({"ray_proxies": "head_only", **given["settings"]}, {}), Shelf(given.get("devices", {}))
    )
    print("ready", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["kill"]:
                nodes.remove_node(added.pop(), allow_graceful=False)
                print("killed", flush=True)
            case ["add", cpus]:
                added.append(nodes.add_node(num_cpus=int(cpus), **options))
                nodes.wait_for_nodes()
                print("added", flush=True)
            case ["standings"]:
                print(json.dumps({name: [one.state, one.replicas] for name, one in told().items()}), flush=True)
            case ["processes", name]:
                states = serve.status().applications[name].deployments.values()
                print(json.dumps(sum(sum(one.replica_states.values()) for one in states)), flush=True)
            case ["quit"]:
                break
    ray.disconnect(True)


if __name__ == "__main__":
    main()
