"""How long the first answer takes when no process holds the model: over HTTP, its compiled graph on the disk.

    python -m benchmarks.engine.cold [--model NAME ...] [--models DIR] [--image FILE] [--rounds 7] [--serve FLAGS]

Each round is a fresh server: the first call for a model; the first call after ``kill -9`` of its worker, sent at once;
the same again before the server had time to recover in full; the first call for a dedicated endpoint that sleeps. In
between the server rests for ``--rest`` seconds. ``--serve`` hands further flags to the server, so that ways to serve
can be compared in one run; given several times, they take turns.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from benchmarks.engine.drive import tell

from saccade.cli.bench import made_photo

READY = re.compile(r"saccade ready on http://127.0.0.1:(\d+)")
PATIENCE_S = 120.0
ENDPOINT = "cold"


def main() -> None:
    parser = asking(__doc__ or "", rounds=7, rest=2.5)
    parser.add_argument("--model", action="append", help="given several times: each in turn (default: picodet-s)")
    given = parser.parse_args()
    photo, folder, ways = chosen(given)
    taken: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as home:
        for model in given.model or ["picodet-s"]:
            compiled(model, folder, photo, home)
            for _ in range(given.rounds):
                for way in ways:
                    rows = taken.setdefault(" ".join([model, *shlex.split(way)]), {})
                    for what, figure in measured(model, [*folder, *shlex.split(way)], photo, home, given.rest):
                        rows.setdefault(what, []).append(figure)
    tell(
        "cold",
        {way: {what: told(figures) for what, figures in rows.items()} for way, rows in taken.items()},
        given.json,
    )


def asking(what: str, rounds: int, rest: float) -> argparse.ArgumentParser:
    """The command line of a benchmark that serves afresh in every round, in one or several ways."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="a folder of own models")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--rest", type=float, default=rest, help="quiet seconds before a look")
    parser.add_argument("--serve", action="append", help="further flags of 'saccade serve'")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    return parser


def chosen(given: argparse.Namespace) -> tuple[bytes, list[str], list[str]]:
    """The picture, the flags of every way, and the ways."""
    photo = given.image.read_bytes() if given.image else made_photo()
    return photo, ["--models", given.models] if given.models else [], given.serve or [""]


def told(figures: list[float]) -> list[float]:
    """Median, least and most."""
    return [round(value, 3) for value in (statistics.median(figures), min(figures), max(figures))]


def compiled(model: str, flags: list[str], photo: bytes, home: str) -> None:
    """Has everything compiled that the rounds meet, and makes the endpoint that they wake."""
    with served(flags, home) as server:
        for _ in range(8):
            server.predict(f"/models/{model}", photo)
        server.ask("DELETE", f"/v1/endpoints/{ENDPOINT}")
        plan = {"name": ENDPOINT, "model": model, "replicas": "0:1", "idle_stop_s": 1}
        server.ask("POST", "/v1/endpoints", plan)
        server.until(lambda: server.endpoint()["state"] == "ready")
        server.predict(f"/endpoints/{ENDPOINT}/", photo)
        time.sleep(3.0)


def measured(model: str, flags: list[str], photo: bytes, home: str, rest: float) -> Iterator[tuple[str, float]]:
    """The figures of one fresh server: seconds, and MiB."""
    with served(flags, home) as server:
        server.until(lambda: server.endpoint()["state"] == "ready")
        server.until(lambda: server.endpoint()["replicas_now"] == 0)
        time.sleep(rest)
        yield "MiB of all processes, no model in memory", server.mib()
        yield "first answer of a model not in memory", server.predict(f"/models/{model}", photo)
        yield "the next answer", server.predict(f"/models/{model}", photo)
        time.sleep(rest)
        yield "MiB of all processes, the model in memory", server.mib()
        server.kill_worker()
        yield "kill -9 of the worker, next answer", server.predict(f"/models/{model}", photo)
        server.kill_worker()
        yield "kill -9 at once again, next answer", server.predict(f"/models/{model}", photo)
        time.sleep(rest)
        yield "endpoint asleep, first answer", server.predict(f"/endpoints/{ENDPOINT}/", photo)


class Server:
    """A server of this machine, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self._port = port

    def predict(self, path: str, photo: bytes) -> float:
        """Seconds from the call to its whole answer."""
        begun = time.perf_counter()
        self._call("POST", path, photo, {"content-type": "image/jpeg", "x-use-cache": "false"})
        return time.perf_counter() - begun

    def ask(self, method: str, path: str, body: dict[str, object] | None = None) -> Any:
        """The JSON of one of the server's own pages."""
        data = json.dumps(body).encode() if body is not None else b""
        return json.loads(self._call(method, path, data, {"content-type": "application/json"}, strict=False) or b"null")

    def endpoint(self) -> Any:
        """How the endpoint is."""
        return self.ask("GET", f"/v1/endpoints/{ENDPOINT}")

    def kill_worker(self) -> None:
        """Ends the process of the shared API's only model, the hard way."""
        models = self.ask("GET", "/info")["engine"]["models"]
        os.kill(models[0]["replicas"][0]["pid"], signal.SIGKILL)

    def mib(self) -> float:
        """Memory of the server and its workers, what several share counted once (PSS)."""
        front = psutil.Process(self._process.pid)
        return sum(one.memory_full_info().pss for one in [front, *front.children(recursive=True)]) / 2**20

    def until(self, fact: Callable[[], bool]) -> None:
        """Waits for something to become true."""
        end = time.monotonic() + PATIENCE_S
        while not fact():
            if time.monotonic() > end:
                raise SystemExit("the server does not come to where the benchmark waits for it")
            time.sleep(0.1)

    def _call(self, method: str, path: str, body: bytes, headers: dict[str, str], *, strict: bool = True) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            if strict and answer.status != 200:
                raise SystemExit(f"{path} answered {answer.status}: {data[:200]!r}")
            return data
        finally:
            connection.close()


@contextmanager
def served(flags: list[str], home: str) -> Iterator[Server]:
    """A server, ready; it is asked to leave at the end."""
    words = [sys.executable, "-m", "saccade", "serve", "--port", "0", "--home", home, "--no-access-log"]
    # As installed for users: the byte code is written once, and an editor's environment does not matter.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        [*words, *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ
    )
    assert process.stdout is not None
    try:
        found = READY.search(process.stdout.readline())
        if found is None:
            raise SystemExit("the server did not start")
        yield Server(process, int(found[1]))
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        process.stdout.close()


if __name__ == "__main__":
    main()
