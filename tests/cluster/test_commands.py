"""``saccade serve --ray`` and ``saccade deploy`` on somebody's cluster, after its loss, and on one of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.cli.lamps import detector, photo
from tests.cluster.clusters import ROOT, Server, python
from tests.services import free_port

from saccade.server.database import Database
from saccade.server.keys import Keys

pytestmark = pytest.mark.heavy

CALLS = 3
THEIRS = """
import sys, ray
from ray import serve
ray.init(address=sys.argv[1], namespace="serve", log_to_driver=False)

@serve.deployment(ray_actor_options={"num_cpus": 0})
class Theirs:
    async def __call__(self, request):
        return "theirs"

serve.run(Theirs.bind(), name="theirs", route_prefix="/theirs")
"""


class Site(Server):
    """A home with a model and a key, and the commands that are run on it."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._home = home
        (home / "mine").mkdir()
        detector(home / "mine" / "lamps.onnx")
        self.photo = photo(home / "grey.png", 180).read_bytes()
        self._children: list[subprocess.Popen[str]] = []
        database = Database("", str(home))
        self.key = Keys(database).create("admin", scopes=("admin", "models", "endpoints"), quota_calls=50)[1]
        database.close()

    def tell(self, method: str, path: str, body: object = None) -> Any:
        return self.ask(method, path, body, self.key)

    def predict(self, path: str) -> httpx.Response:
        headers = {"x-api-key": self.key, "content-type": "image/png"}
        return httpx.post(self.url + path, content=self.photo, headers=headers, timeout=60, trust_env=False)

    def used(self) -> Any:
        """Calls that were counted, and what is left of the quota."""
        told = self.tell("GET", "/v1/usage")
        return {row["model"]: row["calls"] for row in told["days"]}, told["remaining"]

    def command(self, *words: str) -> subprocess.Popen[str]:
        flags = ("--home", str(self._home), "--models", str(self._home / "mine"), "--port", str(self.port))
        given = ("--ray-replicas", "2:2", "--ray-cpus", "0.1", "--threads", "1")
        self._children.append(run(self._home, "-m", "saccade", *words, *flags, *given))
        return self._children[-1]

    def close(self) -> None:
        """Ends what a failed test left behind."""
        for child in self._children:
            if child.poll() is None:
                kill([*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)])


def run(home: Path, *words: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SACCADE_", "RAY_"))}
    return subprocess.Popen(
        [str(python()), *words],
        cwd=home,
        env={
            **environ,
            "PYTHONPATH": str(ROOT / "src"),
            "RAY_AUTH_MODE": "disabled",
            "RAY_raylet_start_wait_time_s": "150",  # a busy machine is no failure
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said(child: subprocess.Popen[str], word: str) -> None:
    """Waits until a command prints a line with this word."""
    assert child.stdout is not None
    read: list[str] = []
    for line in child.stdout:
        if word in line:
            return
        read.append(line)
    raise AssertionError(f"it ended with {child.wait()} and never said '{word}': {''.join(read)[-3000:]}")


def ended_after_s(child: subprocess.Popen[str]) -> float:
    """How long a command takes to end on Ctrl-C."""
    begun = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 0
    return time.monotonic() - begun


def kill(family: list[psutil.Process]) -> None:
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family, 10)


@contextlib.contextmanager
def ray_started(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A cluster as ``ray start`` makes it: its address, and the process that all of it comes from."""
    address = f"127.0.0.1:{free_port()}"
    options = ("--head", "--block", "--num-cpus=4", "--include-dashboard=false", "--node-ip-address=127.0.0.1")
    child = run(home, "-m", "ray.scripts.scripts", "start", *options, f"--port={address.rpartition(':')[2]}")
    try:
        said(child, "Ray runtime started")
        yield address, psutil.Process(child.pid)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            kill([*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.close()


def test_somebodys_cluster_stays_and_after_its_loss_all_is_as_it_was(site: Site, tmp_path: Path) -> None:
    with ray_started(tmp_path) as (address, head):
        server = site.command("serve", "--ray", address)
        said(server, "ready")
        for name in ("awake", "asleep"):
            site.tell("POST", "/v1/endpoints", {"name": name, "model": "lamps", "replicas": "1:1"})
        assert subprocess.run([str(python()), "-c", THEIRS, address], capture_output=True, timeout=60).returncode == 0
        for _ in range(CALLS):
            assert site.predict("/models/lamps").status_code == 200
        for name in ("awake", "asleep"):
            assert site.settled(name, 1, key=site.key)["state"] == "ready"
        assert site.predict("/endpoints/awake").status_code == 200
        site.tell("PATCH", "/v1/endpoints/asleep", {"action": "stop"})
        before = site.used()
        assert before == ({"lamps": CALLS + 1}, 50 - CALLS)

        left_s = ended_after_s(server)
        print(f"left somebody's cluster after {left_s:.1f} s")
        assert left_s < 15
        assert httpx.get(f"{site.url}/theirs", trust_env=False).text == "theirs"
        assert site.predict("/models/lamps").status_code == 404, "saccade is still there"

        assert site.command("deploy", "--address", address).wait(120) == 0
        assert site.settled("awake", 1, key=site.key)["state"] == "ready"
        family = [head, *head.children(recursive=True)]
        kill([one for one in family if one.name() != "haproxy"])
        assert any(one.is_running() for one in family), "HAProxy ends with the others now: nothing is left to sweep up"

    server = site.command("serve", "--ray")
    said(server, "ready")
    begun = time.monotonic()
    assert site.settled("awake", 1, key=site.key)["state"] == "ready"
    print(f"an endpoint was back {time.monotonic() - begun:.1f} s after the shared API")
    assert site.used() == before
    assert site.tell("GET", "/v1/endpoints/asleep")["state"] == "stopped"
    log = site.tell("GET", "/v1/endpoints/awake/logs?limit=200")["entries"]
    assert sum("httpRequest" in entry for entry in log) == 1, "the log of the time before the loss is gone"
    assert site.predict("/endpoints/awake").status_code == 200

    family = psutil.Process(server.pid).children(recursive=True)
    assert any("haproxy" in one.name() for one in family)
    ended_s = ended_after_s(server)
    print(f"ended its own cluster after {ended_s:.1f} s")
    assert ended_s < 10
    assert [one for one in family if one.is_running()] == []


def test_a_second_ctrl_c_ends_everything_at_once(site: Site) -> None:
    server = site.command("serve", "--ray")
    said(server, "ready")
    family = psutil.Process(server.pid).children(recursive=True)
    server.send_signal(signal.SIGINT)
    time.sleep(0.3)
    begun = time.monotonic()
    server.send_signal(signal.SIGINT)
    assert server.wait(10) in (0, 128 + signal.SIGINT)
    assert time.monotonic() - begun < 3
    assert psutil.wait_procs(family, 10)[1] == []
