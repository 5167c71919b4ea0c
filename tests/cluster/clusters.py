"""Clusters as processes of their own, and loads that count what came back."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from tests.clients.environments import ROOT, environment
from tests.services import free_port

RAY = ("ray[serve]==2.60.0", "onnx>=1.18", "psycopg[binary]>=3.2,<4", "redis>=6,<9")
READY_S = 180.0
PICTURE = b"P6\n4 4\n255\n" + bytes([100]) * 48
NAMED = "cars.example"
FIFTY_MS = {"ms": 50, "parallel": 1, "batchable": False}
DEVICES = {"cars": {"ms": 5}, "birds": {"ms": 5}, "fifty": FIFTY_MS, "broken": {"corrupt": True}}
SLOW = {"slow": {"ms": 300, "parallel": 8, "batchable": False}}
RARE = {f"rare-{i}": {"ms": 1} for i in range(6)}


def python() -> Path:
    """The interpreter of an environment that holds Ray and what saccade itself needs."""
    core = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return environment("ray", *core, *RAY)


class Server:
    """A server that can be asked; ``url`` and ``port`` say where."""

    port: int
    url: str

    def ask(self, method: str, path: str, body: object = None, key: str = "") -> Any:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        answer = httpx.request(method, self.url + path, json=body, headers=headers, timeout=120, trust_env=False)
        assert answer.is_success, f"{answer.status_code} {answer.text}"
        return answer.json()

    def settled(self, name: str, replicas: int | None = None, wait_s: float = 120, key: str = "") -> Any:
        """The endpoint once it is up (with so many replicas)."""
        end = time.monotonic() + wait_s
        row: Any = None
        while time.monotonic() < end:
            row = self.ask("GET", f"/v1/endpoints/{name}", None, key)
            enough = replicas is None or row["replicas_now"] == replicas
            if row["state"] == "failed" or (row["state"] == "ready" and enough):
                return row
            time.sleep(0.1)
        raise AssertionError(f"the endpoint never settled: {row}")


class Cluster(Server):
    """A cluster of raylets on this machine with saccade on it; see :mod:`tests.cluster.house`."""

    def __init__(self, home: Path, nodes: list[int], devices: dict[str, Any] | None = None, **settings: Any) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.loads: list[Load] = []
        self.log = home / "cluster.log"
        given = {"port": self.port, "home": str(home), "access_log": False, **settings}
        words = json.dumps({"nodes": nodes, "settings": given, "devices": devices or {}})
        self._child = subprocess.Popen(
            [str(python()), "-m", "tests.cluster.house", words],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
        )
        self._answer("ready")

    def kill_a_node(self) -> None:
        """The last node ends as when its machine loses power."""
        self._say("kill")
        self._answer("killed")

    def standings(self) -> dict[str, list[Any]]:
        """State and replicas of every application, as Serve tells."""
        self._say("standings")
        told: dict[str, list[Any]] = json.loads(self._answer("{"))
        return told

    def processes(self, name: str) -> int:
        """How many replicas of an application there are, also those that leave."""
        self._say(f"processes {name}")
        return int(self._answer(""))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._say("quit")
        try:
            self._child.wait(90)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _say(self, word: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(word + "\n")
        self._child.stdin.flush()

    def _answer(self, start: str) -> str:
        assert self._child.stdout is not None
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            if select.select([self._child.stdout], [], [], 0.5)[0]:
                line = self._child.stdout.readline()
                if line.startswith(start):
                    return line
                if not line:
                    break
        raise AssertionError(f"the cluster did not say '{start}': {self.log.read_text()[-3000:]}")


@contextlib.contextmanager
def running(home: Path, nodes: list[int], **given: Any) -> Iterator[Cluster]:
    """A cluster, ended at the end."""
    cluster = Cluster(home, nodes, **given)
    try:
        yield cluster
    finally:
        cluster.close()


@contextlib.contextmanager
def alone(home: Path, devices: dict[str, Any]) -> Iterator[Server]:
    """The server on one machine, with the same simulated devices."""
    given = {"port": 0, "home": str(home), "isolate": False, "cache_bytes": 0, "devices": devices}
    house = ROOT / "tests" / "server" / "simulated_house.py"
    with (
        (home / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, str(house), json.dumps(given)], stdout=subprocess.PIPE, stderr=log, text=True
        ) as child,
    ):
        try:
            assert child.stdout is not None
            server = Server()
            server.url = child.stdout.readline().split()[-1]
            server.port = int(server.url.rpartition(":")[2])
            yield server
        finally:
            child.terminate()


class Load:
    """So many callers, each with a connection of its own, call until :meth:`stop`.

    Bodies follow their heads after ``pause_s``, as those of large pictures and far callers do.
    """

    def __init__(
        self, cluster: Cluster, path: str, callers: int, body: bytes, deadline_s: float = 30, pause_s: float = 0
    ) -> None:
        self.seen: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._at = ("127.0.0.1", cluster.port)
        self._path, self._body, self._deadline_s, self._pause_s = path, body, deadline_s, pause_s
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(callers)
        self._work = [self._pool.submit(self._call) for _ in range(callers)]
        cluster.loads.append(self)

    def answered(self) -> int:
        with self._lock:
            return self.seen["200"]

    def stop(self) -> Counter[str]:
        """How often each status came; what broke the connection counts by the name of its exception."""
        self._done.set()
        for work in self._work:
            work.result()
        self._pool.shutdown()
        return self.seen

    def _call(self) -> None:
        line = http.client.HTTPConnection(*self._at, timeout=self._deadline_s)
        headers = {"content-type": "application/octet-stream", "content-length": str(len(self._body))}
        while not self._done.is_set():
            begun = time.monotonic()
            try:
                line.request("POST", self._path, headers=headers)
                time.sleep(self._pause_s)
                line.send(self._body)
                answer = line.getresponse()
                said = answer.read()
                word = str(answer.status) if answer.status == 200 else f"{answer.status} {said[:80]!r}"
            except (OSError, http.client.HTTPException) as error:
                word = type(error).__name__
                line.close()
                time.sleep(0.01)
            with self._lock:
                self.seen[word] += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
