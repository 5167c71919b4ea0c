"""A server as a process of its own: started, awaited, weighed, and ended with its whole tree."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

QUIET = {
    "YOLO_AUTOINSTALL": "False",
    "YOLO_OFFLINE": "True",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "PYTHONWARNINGS": "ignore",
}
PATIENCE_S = 240.0
SETTLE_S = 20.0
QUIET_HALVES = 4
"""A server counts as settled after so many half seconds in which it took less than a tenth of a core."""


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], log: Path, **pipes: int
) -> Iterator[subprocess.Popen[str]]:
    """The process, which is ended together with all that it started."""
    environ = {**os.environ, **QUIET, **variables}
    # A development environment's own path would lead a peer to our libraries.
    environ.pop("VIRTUAL_ENV", None)
    with log.open("w") as errors:
        streams = {"stdin": subprocess.DEVNULL, "stdout": errors, "stderr": errors, **pipes}
        child = subprocess.Popen(command, cwd=folder, env=environ, start_new_session=True, text=True, **streams)
    try:
        yield child
    finally:
        _end(child)


def await_port(child: subprocess.Popen[str], port: int, log: Path) -> None:
    """Returns when something listens there.

    Raises:
        RuntimeError: the process ended before, or takes too long.
    """
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if child.poll() is not None:
            raise RuntimeError(f"it ended with {child.returncode} before it was ready: {last_words(log)}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("it was not ready in time")


def await_idle(pid: int) -> None:
    """Returns when what the tree does late (compiles, spare processes) is done, or after a while."""
    until = time.monotonic() + SETTLE_S
    quiet = 0
    while quiet < QUIET_HALVES and time.monotonic() < until:
        before = cpu_s(pid)
        time.sleep(0.5)
        quiet = quiet + 1 if cpu_s(pid) - before < 0.05 else 0


def last_words(log: Path) -> str:
    """The last line that a process wrote."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:160] if lines else "it said nothing"


def cpu_s(pid: int) -> float:
    """User and system seconds of a process and all that it started."""
    total = 0.0
    for one in _tree(pid):
        try:
            total += sum(one.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


def memory_bytes(pid: int) -> int:
    """What the whole tree holds, pages that several share counted once (PSS)."""
    total = 0
    for one in _tree(pid):
        try:
            facts = one.memory_full_info()
        except psutil.Error:
            continue
        total += int(getattr(facts, "pss", facts.rss))
    return total


def machine_busy_s() -> float:
    """Seconds of all cores in which they did not idle, since the machine started; stolen ones count."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - times.guest - times.guest_nice)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        top = psutil.Process(pid)
        return [one for one in (top, *top.children(recursive=True)) if one.is_running()]
    except psutil.NoSuchProcess:
        return []


def _end(child: subprocess.Popen[str]) -> None:
    tree = _tree(child.pid)
    child.terminate()
    psutil.wait_procs(tree, timeout=15)
    for one in tree:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    child.wait()
