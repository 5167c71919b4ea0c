"""Hours in small: the whole server, and everything at once that callers do to it.

    python -m benchmarks.engine.soak --models FOLDER --data FOLDER --minutes 30

Six models of five tasks, of which not all fit into memory at one time; every dialect; photos of many formats, large
ones, videos; answers out of the cache; broken bodies and broken images; callers who leave in the middle; deadlines that
cannot be met; and every now and then a worker is killed. Each answer must have a status that its kind of call may have,
and as many objects as the first one to the same call had.

Told is how memory, descriptors, threads, latency and CPU time per answer moved: the slope of a straight line through
the samples without the first fifth, in which caches fill. Latency is that of one kind of call among all the others.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from benchmarks.engine.drive import tell
from benchmarks.engine.soak_calls import Kind, kinds
from benchmarks.peers.caller import Connection, objects

CALLERS = 6
MORTAL = "yolo11n-pose"
"""The model whose workers are killed; the others may grow old, so that their own leaks would show."""

MEMORY_BYTES = 1400 << 20
"""Room for the four models that are called often, and for one of the two that are called seldom."""

NO_ROOM = b"There is no room for the model"
"""How a call is refused whose model could only be loaded in place of one that is at work."""

READY = re.compile(r"saccade ready on http://127\.0\.0\.1:(\d+)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="a folder with the six models")
    parser.add_argument("--data", type=Path, required=True, help="a folder with images and videos")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--kill-every", type=float, default=45.0, help="seconds")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args()
    # Whoever ends this program ends its server, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before its time"))
    tell("soak", measure(given.models, given.data, given.minutes, given.kill_every), given.json)


def measure(models: Path, data: Path, minutes: float, kill_every_s: float = 45.0) -> dict[str, object]:
    """Everything that a run came to."""
    with served(models) as (port, server):
        run = Run(port, server, kinds(data, port), minutes * 60, kill_every_s)
        asyncio.run(run.whole())
        return run.told(minutes)


@dataclass
class Sample:
    """The server at one moment; ``workers`` are the private bytes of each worker by process id."""

    moment: float
    front_bytes: int
    tree_bytes: int
    descriptors: int
    tree_descriptors: int
    threads: int
    processes: int
    latency_s: float
    cpu_s_per_answer: float
    workers: dict[int, int]


@dataclass
class Run:
    """Callers, a killer and a watcher over one server."""

    port: int
    server: psutil.Process
    kinds: Sequence[Kind]
    seconds: float
    kill_every_s: float
    answered: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    left: int = 0
    kills: int = 0
    no_room: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=5000))
    known: dict[tuple[str, int], int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)

    async def whole(self) -> None:
        """Runs until the time is over."""
        self.rng = random.Random(7)
        self.begun = time.monotonic()
        self.until = self.begun + self.seconds
        await asyncio.gather(self.killer(), self.watch(), *(self.caller() for _ in range(CALLERS)))
        self.info = await self.fact()

    async def caller(self) -> None:
        """One caller: keeps a connection for some calls, then takes a new one."""
        weights = [kind.weight for kind in self.kinds]
        connection: Connection | None = None
        while time.monotonic() < self.until:
            kind = self.rng.choices(self.kinds, weights)[0]
            number = self.rng.randrange(len(kind.requests))
            if connection is None or connection.closed or self.rng.random() < 0.1:
                if connection is not None:
                    connection.leave()
                connection = await self.connected()
            if kind.leaves:
                await self.leaves(connection, kind, kind.requests[number])
                connection = None
            else:
                await self.asks(connection, kind, number)
            await asyncio.sleep(self.rng.random() * 0.01)
        if connection is not None:
            connection.leave()

    async def connected(self) -> Connection:
        return (await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.port))[1]

    async def asks(self, connection: Connection, kind: Kind, number: int) -> None:
        begun = time.perf_counter()
        try:
            status, body = await connection.ask(kind.requests[number])
        except ConnectionError:
            self.note(kind, 0, b"")
            return
        if kind.probe:
            self.latencies.append(time.perf_counter() - begun)
        self.note(kind, status, body)
        if status == 200 and kind.counted:
            found = objects(body)
            if self.known.setdefault((kind.name, number), found) != found:
                self.wrong[f"{kind.name} {number}: {found} instead of {self.known[kind.name, number]}"] += 1

    def note(self, kind: Kind, status: int, body: bytes) -> None:
        self.answered[kind.name] += 1
        if status == 503 and NO_ROOM in body:
            self.no_room += 1
        elif status not in kind.statuses:
            self.unexpected[f"{kind.name}: {status} {body[:160].decode('utf-8', 'replace')}"] += 1

    async def leaves(self, connection: Connection, kind: Kind, request: bytes) -> None:
        """Sends all or half of a request and is gone before the answer."""
        self.left += 1
        connection.say(request if kind.leaves == "sent" else request[: len(request) // 2])
        await asyncio.sleep(self.rng.random() * 0.06)
        connection.leave()

    async def killer(self) -> None:
        while time.monotonic() + self.kill_every_s < self.until:
            await asyncio.sleep(self.kill_every_s)
            models = (await self.fact()).get("models", [])
            pids = [replica["pid"] for model in models if model["name"] == MORTAL for replica in model["replicas"]]
            for pid in pids[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.kills += 1

    async def watch(self) -> None:
        answered, spent = 0, 0.0
        while time.monotonic() < self.until:
            await asyncio.sleep(max(1.0, self.seconds / 200))
            total, cpu = sum(self.answered.values()), tree_cpu_s(self.server)
            per_answer = (cpu - spent) / max(1, total - answered) if cpu > spent else float("nan")
            answered, spent = total, cpu
            fresh = sorted(self.latencies) or [float("nan")]
            self.latencies.clear()
            self.samples.append(sample(self.server, time.monotonic() - self.begun, fresh[len(fresh) // 2], per_answer))

    async def fact(self) -> dict[str, Any]:
        connection = await self.connected()
        _, body = await connection.ask(b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.leave()
        told: dict[str, Any] = json.loads(body)
        return told.get("engine", told)

    def told(self, minutes: float) -> dict[str, object]:
        """The figures."""
        kept = [one for one in self.samples if one.moment > self.seconds / 5]

        def slope(of: Any, scale: float = 1.0) -> float:
            points = [(one.moment, of(one)) for one in kept if np.isfinite(of(one))]
            times, values = np.array(points, dtype=float).T
            return round(float(np.polyfit(times, values, 1)[0]) * 3600 * scale, 3)

        mib = 1 / 2**20
        middle, last = thirds(kept)
        return {
            "minutes": round(minutes, 1),
            "answered": sum(self.answered.values()),
            "by_kind": dict(self.answered.most_common()),
            "unexpected": dict(self.unexpected.most_common(20)),
            "wrong": dict(self.wrong.most_common(20)),
            "callers_who_left": self.left,
            "kills": self.kills,
            "no_room_refused": self.no_room,
            **{key: self.info.get(key) for key in ("loads", "evictions", "cache_hits", "cache_misses")},
            "front_mib": [round(float(np.median([s.front_bytes for s in part])) * mib, 1) for part in (middle, last)],
            "front_mib_per_hour": slope(lambda one: one.front_bytes, mib),
            "tree_mib": [round(float(np.median([s.tree_bytes for s in part])) * mib, 1) for part in (middle, last)],
            "tree_mib_per_hour": slope(lambda one: one.tree_bytes, mib),
            "oldest_workers": self.workers(),
            "descriptors": [min(s.descriptors for s in kept), max(s.descriptors for s in kept)],
            "descriptors_per_hour": slope(lambda one: one.descriptors),
            "tree_descriptors_per_hour": slope(lambda one: one.tree_descriptors),
            "threads": [min(s.threads for s in kept), max(s.threads for s in kept)],
            "threads_per_hour": slope(lambda one: one.threads),
            "processes": [min(s.processes for s in kept), max(s.processes for s in kept)],
            "latency_ms": round(float(np.nanmedian([s.latency_s for s in kept])) * 1e3, 1),
            "latency_ms_per_hour": slope(lambda one: one.latency_s, 1e3),
            "cpu_ms_per_answer": round(float(np.nanmedian([s.cpu_s_per_answer for s in kept])) * 1e3, 1),
            "cpu_ms_per_answer_per_hour": slope(lambda one: one.cpu_s_per_answer, 1e3),
        }

    def workers(self) -> list[dict[str, float]]:
        """How the workers that lived longest grew; without the first fifth of their lives."""
        lives: dict[int, list[tuple[float, int]]] = {}
        for one in self.samples:
            for pid, held in one.workers.items():
                lives.setdefault(pid, []).append((one.moment, held))
        oldest = sorted(lives.values(), key=len, reverse=True)[:4]
        return [
            {
                "minutes": round((life[-1][0] - life[0][0]) / 60, 1),
                "mib": round(life[len(life) // 5][1] / 2**20, 1),
                "mib_at_the_end": round(life[-1][1] / 2**20, 1),
                "mib_per_hour": round(
                    float(np.polyfit(*np.array(life[len(life) // 5 :], dtype=float).T, 1)[0]) * 3600 / 2**20, 1
                ),
            }
            for life in oldest
            if len(life) > 20
        ]


def thirds(samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
    """The middle third and the last: what one compares where a slope would be mostly noise."""
    third = max(1, len(samples) // 3)
    return samples[third : 2 * third] or samples, samples[-third:]


def sample(server: psutil.Process, moment: float, latency_s: float, cpu_s_per_answer: float) -> Sample:
    """What the server's processes hold now."""
    workers: dict[int, int] = {}
    descriptors = processes = 0
    for child in server.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            workers[child.pid] = child.memory_full_info().uss
            descriptors += child.num_fds()
            processes += 1
    front = server.memory_full_info().uss
    return Sample(
        moment, front, front + sum(workers.values()), server.num_fds(), server.num_fds() + descriptors,
        server.num_threads(), 1 + processes, latency_s, cpu_s_per_answer, workers,
    )  # fmt: skip


def tree_cpu_s(server: psutil.Process) -> float:
    """CPU seconds of the server and of all children that it ever had and waited for."""
    total = sum(server.cpu_times()[:4])
    for child in server.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += sum(child.cpu_times()[:2])
    return float(total)


@contextlib.contextmanager
def served(models: Path) -> Iterator[tuple[int, psutil.Process]]:
    """A server of our own on a free port."""
    with tempfile.TemporaryDirectory() as home:
        words = ["--models", str(models), "--home", home, "--port", "0", "--no-access-log", "--precision", "f32"]
        words += ["--memory-bytes", str(MEMORY_BYTES)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SACCADE_")}
        with (Path(home) / "log").open("w+") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "saccade", "serve", *words],
                stdout=subprocess.PIPE, stderr=log, text=True, env={**environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
            try:
                found = next((READY.search(line) for line in child.stdout or () if READY.search(line)), None)
                if found is None:
                    raise SystemExit(f"the server did not start: {(Path(home) / 'log').read_text()[-500:]}")
                yield int(found[1]), psutil.Process(child.pid)
            finally:
                child.terminate()
                try:
                    child.wait(30)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


if __name__ == "__main__":
    main()
