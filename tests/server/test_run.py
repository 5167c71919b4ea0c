"""The server as a process: ready line, draining, signals, and clear words when it cannot start."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from server_fakes import Process, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("home"), max_body_bytes=3_000_000) as process:
        yield process


def test_the_ready_line_comes_once_and_alone_on_stdout(tmp_path: Path) -> None:
    process = Process(tmp_path)
    url = process.ready()
    assert httpx.post(url + "/plain/one", content=b"hi").json()["said"] == ["hi"]
    process.signal(signal.SIGTERM)
    code, out, err = process.end()
    assert (code, out) == (0, "")
    assert "Traceback" not in err
    assert "POST /plain/one 200" in err


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def health_of(port: int) -> int:
    """The status of /health, once there is one."""
    for _ in range(1000):
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health").status_code
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError("the server never listened")


def test_health_is_not_ready_before_the_preloaded_models_are(tmp_path: Path) -> None:
    port = free_port()
    process = Process(tmp_path, port=port, preload=["slow"])
    assert health_of(port) == 503
    process.ready()
    assert health_of(port) == 200
    process.signal(signal.SIGINT)
    assert process.end()[0] == 0


def test_sigterm_finishes_accepted_calls_refuses_new_ones_and_exits_cleanly(tmp_path: Path) -> None:
    process = Process(tmp_path)
    url = process.ready()
    got: list[httpx.Response] = []
    long = threading.Thread(target=lambda: got.append(httpx.post(url + "/plain/one", content=b"sleep1")))
    long.start()
    time.sleep(0.3)
    process.signal(signal.SIGTERM)
    time.sleep(0.2)
    assert httpx.get(url + "/health").status_code == 503
    assert httpx.post(url + "/plain/one", content=b"x").status_code == 503
    long.join()
    assert got[0].json()["said"] == ["sleep1"]
    code, _, err = process.end()
    assert code == 0, err


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    process = Process(tmp_path)
    url = process.ready()

    def ask() -> None:
        with pytest.raises(httpx.TransportError):
            httpx.post(url + "/plain/one", content=b"sleep30", timeout=30)

    call = threading.Thread(target=ask)
    call.start()
    time.sleep(0.3)
    process.signal(signal.SIGTERM)
    time.sleep(0.2)
    process.signal(signal.SIGTERM)
    assert process.end(2)[0] != 0
    call.join()


def test_ctrl_c_while_loading_is_clean(tmp_path: Path) -> None:
    port = free_port()
    process = Process(tmp_path, port=port, preload=["slow"])
    assert health_of(port) == 503
    process.signal(signal.SIGINT)
    code, out, err = process.end()
    assert (code, out) == (0, "")
    assert "Traceback" not in err


def test_systemd_is_told_when_the_server_is_ready_and_when_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"@saccade-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind("\0" + address[1:])
        line.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        with running(tmp_path):
            assert line.recv(100) == b"READY=1"
        assert line.recv(100) == b"STOPPING=1"


def failed(process: Process) -> tuple[int, str]:
    code, out, err = process.end()
    assert out == ""
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1, err
    return code, err


def test_a_port_in_use_is_named(tmp_path: Path, server: Process) -> None:
    port = urlsplit(server.url).port
    code, err = failed(Process(tmp_path, port=port))
    assert code == 1
    assert str(port) in err
    assert "--port" in err


def test_an_unknown_model_to_preload_is_named(tmp_path: Path) -> None:
    code, err = failed(Process(tmp_path, preload=["nobody"]))
    assert code == 1
    assert "nobody" in err


def test_a_home_or_model_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, err = failed(Process(tmp_path / "file" / "home"))
    assert (code, "--home" in err) == (2, True)
    code, err = failed(Process(tmp_path, models=[str(tmp_path / "nowhere")]))
    assert (code, "nowhere" in err) == (2, True)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    program = (
        "import errno, sys\nfrom saccade.server import run\nfrom saccade.server.settings import Settings\n"
        "from saccade.errors import Error\n"
        "class Full:\n"
        "    def __getattr__(self, name): raise OSError(errno.ENOSPC, 'No space left on device', '/secret/path')\n"
        "try: run.serve(Settings(port=0, home=sys.argv[1]), library=Full(), engine=Full(), dialects=[])\n"
        "except Error as error: sys.exit(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "disk is full" in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_an_open_host_without_keys_is_refused_unless_wanted(tmp_path: Path) -> None:
    code, err = failed(Process(tmp_path, host="0.0.0.0"))
    assert code == 2
    assert "--no-auth" in err
    assert "saccade keys create" in err
    with running(tmp_path, host="0.0.0.0", no_auth=True) as process:
        port = urlsplit(process.url).port
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200


def raw(url: str, *parts: bytes, pause_s: float = 0.1) -> bytes:
    """What the server answers to raw bytes."""
    at = urlsplit(url)
    assert at.hostname
    assert at.port
    got = b""
    with socket.create_connection((at.hostname, at.port), timeout=5) as line:
        for part in parts:
            line.sendall(part)
            time.sleep(pause_s)
        line.settimeout(0.5)
        try:
            while piece := line.recv(65536):
                got += piece
        except (TimeoutError, ConnectionError):
            pass
    return got


def test_expect_100_continue_and_chunked_bodies_work(server: Process) -> None:
    head = b"POST /plain/one HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
    got = raw(server.url, head, b"hello")
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
    chunks = (
        b"POST /plain/one HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    )
    assert b'"hello"' in raw(server.url, chunks)


def test_a_body_announced_too_large_is_refused_before_it_is_sent(server: Process) -> None:
    head = b"POST /plain/one HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3000001\r\n\r\n"
    assert raw(server.url, head).startswith(b"HTTP/1.1 413")
    response = httpx.post(server.url + "/plain/one", content=bytes(9_000_000))
    assert response.status_code == 413


def test_endless_heads_and_broken_requests_end_the_connection_and_nothing_else(server: Process) -> None:
    assert b"431" in raw(server.url, b"GET / HTTP/1.1\r\n" + b"a: " + b"x" * 70_000 + b"\r\n\r\n")
    assert raw(server.url, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert httpx.get(server.url + "/health").status_code == 200


def test_callers_who_vanish_in_a_crowd_leave_nothing_behind(server: Process) -> None:
    async def crowd() -> None:
        async with httpx.AsyncClient(timeout=0.3) as http:
            calls = [http.post(server.url + "/plain/one", content=b"sleep30") for _ in range(40)]
            await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(crowd())
    time.sleep(0.3)
    text = httpx.get(server.url + "/metrics").text
    assert "saccade_inflight_requests 0.0" in text
