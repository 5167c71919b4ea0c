"""Servers as processes of their own, for clients that are processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.clients.environments import ROOT

READY = "saccade ready on "


@dataclass(frozen=True)
class Served:
    """A running server: its address, and the file into which it writes its log."""

    url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def lines(self, *words: str, wait_s: float = 1.0) -> list[str]:
        """The log's lines that hold all words; the log is written in bunches, so this waits first."""
        time.sleep(wait_s)
        return [line for line in self.log.read_text().splitlines() if all(word in line for word in words)]


def canned(home: Path, **settings: object) -> contextlib.AbstractContextManager[Served]:
    """A server with the made engine of :mod:`tests.clients.canned_house`."""
    return running("tests.clients.canned_house", {"port": 0, **settings}, home)


def running(module: str, given: dict[str, object], home: Path) -> contextlib.AbstractContextManager[Served]:
    """A server that a module of these tests starts from settings in JSON."""
    return _running([sys.executable, "-m", module, json.dumps({"home": str(home), **given})], home)


def served(home: Path, models: Sequence[Path] = (), *flags: str) -> contextlib.AbstractContextManager[Served]:
    """``saccade serve`` with folders of models."""
    command = [sys.executable, "-m", "saccade", "serve", "--port", "0", "--home", str(home)]
    for folder in models:
        command += ["--models", str(folder)]
    return _running([*command, *flags], home)


@contextlib.contextmanager
def _running(command: Sequence[str], home: Path, ready_s: float = 120) -> Iterator[Served]:
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SACCADE_")}
    with log.open("w") as sink:
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=sink, text=True, env=environ)
        try:
            yield Served(_address(child, log, ready_s), log)
        finally:
            child.terminate()
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()


def _address(child: subprocess.Popen[str], log: Path, ready_s: float) -> str:
    assert child.stdout is not None
    end = time.monotonic() + ready_s
    while time.monotonic() < end:
        if select.select([child.stdout], [], [], 0.5)[0]:
            line = child.stdout.readline()
            if line.startswith(READY):
                return line.removeprefix(READY).strip()
            if not line:
                break
    raise AssertionError(f"the server did not become ready: {log.read_text()[-3000:]}")
