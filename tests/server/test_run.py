"""The server as a process: ready line, draining, signals, and clear words when it cannot start."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from server_fakes import EchoEngine, Process, Shelf, running

from saccade.errors import BadSettings, Error
from saccade.server import run
from saccade.server.settings import Settings


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("home"), max_body_bytes=3_000_000, body_timeout_s=2) as process:
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


def test_every_line_of_the_log_tells_the_time_in_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XXX+05:30")
    process = Process(tmp_path)
    httpx.post(process.ready() + "/plain/one", content=b"hi")
    process.signal(signal.SIGTERM)
    stamps = [line.split()[0] for line in process.end()[2].splitlines()]
    assert len(stamps) >= 2
    for stamp in stamps:
        assert abs(datetime.fromisoformat(stamp).timestamp() - time.time()) < 60


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's")
def test_a_server_whose_output_cannot_be_written_serves_and_ends_well(tmp_path: Path) -> None:
    port = free_port()
    with Path("/dev/full").open("wb") as full:
        command = (sys.executable, "-m", "saccade", "serve", f"--port={port}", f"--home={tmp_path}")
        server = subprocess.Popen(command, stdout=full, stderr=subprocess.PIPE, text=True)
    try:
        assert health_of(port) in (200, 503)
        time.sleep(0.5)
        assert health_of(port) == 200
    finally:
        server.terminate()
        err = server.communicate(timeout=20)[1]
    assert server.returncode == 0
    assert "standard output takes nothing: No space left on device" in err
    assert "Traceback" not in err


def test_a_damaged_file_among_the_models_is_told_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "best.onnx").write_bytes(b"half a file")
    command = [sys.executable, "-m", "saccade", "serve", "--port=0", f"--home={tmp_path / 'home'}"]
    told = tmp_path / "log"
    with told.open("w") as sink, subprocess.Popen([*command, f"--models={tmp_path}"], stderr=sink) as server:
        try:
            assert waited(lambda: "'best' cannot be served: 'best.onnx'" in told.read_text(), 20), told.read_text()
        finally:
            server.terminate()


def test_a_default_model_that_there_is_not_is_told_in_the_log(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "saccade", "serve", "--port=0", f"--home={tmp_path / 'home'}"]
    told = tmp_path / "log"
    with told.open("w") as sink, subprocess.Popen([*command, "--default-model=picodets"], stderr=sink) as server:
        try:
            assert waited(lambda: "'default_model' is 'picodets'. There is no model" in told.read_text(), 20)
        finally:
            server.terminate()


def test_a_caller_that_speaks_tls_is_told_in_the_log_what_its_address_must_be(tmp_path: Path) -> None:
    process = Process(tmp_path)
    url = process.ready()
    with pytest.raises(httpx.ConnectError, match=r"(?i)wrong.version.number"):
        httpx.get(url.replace("http:", "https:"))
    assert httpx.post(url + "/plain/one", content=b"hi").status_code == 200
    process.signal(signal.SIGTERM)
    err = process.end()[2]
    assert err.count("must begin with http://") == 1
    assert "Invalid HTTP" not in err


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
    long = threading.Thread(target=lambda: got.append(httpx.post(url + "/plain/one", content=b"sleep3", timeout=30)))
    long.start()
    time.sleep(0.5)
    process.signal(signal.SIGTERM)
    end = time.monotonic() + 2
    while httpx.get(url + "/health").status_code == 200 and time.monotonic() < end:
        time.sleep(0.02)
    assert httpx.get(url + "/health").status_code == 503
    assert httpx.post(url + "/plain/one", content=b"x").status_code == 503
    long.join()
    assert got[0].json()["said"] == ["sleep3"]
    code, _, err = process.end()
    assert code == 0, err
    assert "a second Ctrl-C ends at once" in err


def test_calls_that_do_not_finish_in_time_are_told_so_when_the_server_stops(tmp_path: Path) -> None:
    process = Process(tmp_path, drain_timeout_s=0.5)
    url = process.ready()
    with ThreadPoolExecutor(2) as threads:
        film = threads.submit(httpx.post, url + "/plain/one?stream=1", content=b"video endless", timeout=30)
        call = threads.submit(httpx.post, url + "/plain/one", content=b"sleep30", timeout=30)
        assert waited(lambda: "saccade_inflight_requests 2.0" in httpx.get(url + "/metrics").text)
        time.sleep(0.3)  # they are counted before they are read, and what is not read yet is refused at a stop
        process.signal(signal.SIGTERM)
        code, _, err = process.end(4)
    told = {"plain": "The server is shutting down. Try again shortly."}
    assert json.loads(film.result().text.splitlines()[-1]) == told
    assert (call.result().status_code, call.result().json()) == (503, told)
    assert code == 0
    assert "Traceback" not in err
    assert err.count("error=Stopped") == 2
    assert "breaking off the calls that are not finished after 0.5 s (2)" in err


def test_a_body_that_never_comes_holds_up_no_server_that_stops(tmp_path: Path) -> None:
    process = Process(tmp_path)
    at = urlsplit(process.ready())
    with ThreadPoolExecutor(1) as threads, socket.create_connection((at.hostname or "", at.port or 0)) as line:
        line.sendall(b"POST /plain/one HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nabc")
        long = threads.submit(httpx.post, process.url + "/plain/one", content=b"sleep7", timeout=30)
        time.sleep(0.5)
        process.signal(signal.SIGTERM)
        line.settimeout(6.5)
        told = line.recv(1000)
        assert told.startswith(b"HTTP/1.1 503")
        assert b"The server is shutting down" in told
        assert long.result().json()["said"] == ["sleep7"], "who is served goes on"
    assert process.end(3)[0] == 0


def test_a_closed_terminal_ends_the_server_as_sigterm_does(tmp_path: Path) -> None:
    port, (ours, theirs) = free_port(), os.openpty()
    given = json.dumps({"port": port, "home": str(tmp_path)})
    command = [sys.executable, str(Path(__file__).with_name("server_fakes.py")), given]
    opened = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have been started with nohup\n"
        "os.close(os.open(os.ttyname(0), os.O_RDWR))\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", opened, *command], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        health_of(port)
        while httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code != 200:
            time.sleep(0.05)
        got: list[httpx.Response] = []
        url = f"http://127.0.0.1:{port}/plain/one"
        long = threading.Thread(target=lambda: got.append(httpx.post(url, content=b"sleep2", timeout=30)))
        long.start()
        time.sleep(0.5)
        os.close(ours)
        long.join()
        assert got, "the accepted call was answered"
        assert got[0].json()["said"] == ["sleep2"]
        assert server.wait(20) == 0
    finally:
        server.kill()


def started_ignoring(number: signal.Signals, home: Path) -> Process:
    """A server whose starter ignores a signal, as nohup does."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        return Process(home)
    finally:
        signal.signal(number, before)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process ignores")
def test_ends_of_workers_are_told_where_ended_children_are_ignored(tmp_path: Path) -> None:
    process = started_ignoring(signal.SIGCHLD, tmp_path)
    process.ready()
    status = Path(f"/proc/{process.child.pid}/status").read_text()
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    assert not ignored & 1 << (signal.SIGCHLD - 1)
    process.signal(signal.SIGTERM)
    assert process.end()[0] == 0


def test_nohup_keeps_the_server_when_its_terminal_is_closed(tmp_path: Path) -> None:
    process = started_ignoring(signal.SIGHUP, tmp_path)
    url = process.ready()
    process.signal(signal.SIGHUP)
    time.sleep(0.5)
    assert httpx.get(url + "/health").status_code == 200
    process.signal(signal.SIGTERM)
    assert process.end()[0] == 0


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    process = Process(tmp_path)
    url = process.ready()

    def ask() -> None:
        with contextlib.suppress(httpx.TransportError):
            httpx.post(url + "/plain/one", content=b"sleep30", timeout=30)

    call = threading.Thread(target=ask)
    call.start()
    time.sleep(0.3)
    process.signal(signal.SIGTERM)
    time.sleep(0.2)
    process.signal(signal.SIGTERM)
    assert process.end(2)[0] != 0
    call.join()


def test_a_signal_that_comes_twice_at_once_as_timeout_passes_it_on_lets_calls_finish(tmp_path: Path) -> None:
    process = Process(tmp_path)
    url = process.ready()
    with ThreadPoolExecutor() as pool:
        call = pool.submit(httpx.post, url + "/plain/one", content=b"sleep1", timeout=30)
        time.sleep(0.3)
        process.signal(signal.SIGTERM)
        time.sleep(0.03)
        process.signal(signal.SIGTERM)
        assert call.result().status_code == 200
    assert process.end()[0] == 0


def test_ctrl_c_while_loading_is_clean(tmp_path: Path) -> None:
    port = free_port()
    process = Process(tmp_path, port=port, preload=["slow"])
    assert health_of(port) == 503
    process.signal(signal.SIGINT)
    code, out, err = process.end()
    assert (code, out) == (0, "")
    assert "Traceback" not in err


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], bytes]]:
    """What a server says to systemd, word by word."""
    address = f"@saccade-test-{os.getpid()}"
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind("\0" + address[1:])
        line.settimeout(10)
        yield lambda: line.recv(100)


def test_a_server_that_is_still_fetching_a_model_ends_when_it_is_told_to(tmp_path: Path) -> None:
    port = free_port()
    process = Process(tmp_path, port=port, preload=["endless"])
    assert health_of(port) == 503
    time.sleep(0.3)
    process.signal(signal.SIGTERM)
    code, out, err = process.end(5)
    assert (code, out) == (0, "")
    assert "Traceback" not in err


def test_systemd_is_told_when_the_server_is_ready_and_when_it_stops(tmp_path: Path, told: Callable[[], bytes]) -> None:
    with running(tmp_path):
        assert told() == b"READY=1"
    assert told() == b"STOPPING=1"


def test_systemd_gets_signs_of_life_as_often_as_it_wants_and_none_of_a_loop_that_hangs(
    tmp_path: Path, told: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    with running(tmp_path) as server, ThreadPoolExecutor(1) as threads:
        while told() != b"READY=1":
            pass
        assert told() == b"WATCHDOG=1"
        begun = time.monotonic()
        assert [told() for _ in range(3)] == [b"WATCHDOG=1"] * 3
        assert time.monotonic() - begun > 0.4, "not so often that it costs anything"
        threads.submit(httpx.post, server.url + "/plain/one", content=b"hold1.5", timeout=30)
        silences = []
        for _ in range(6):
            begun = time.monotonic()
            assert told() == b"WATCHDOG=1"
            silences.append(time.monotonic() - begun)
        assert max(silences) > 1
    words = iter(told, b"STOPPING=1")
    assert set(words) <= {b"WATCHDOG=1"}


def test_signs_of_life_that_are_another_processs_to_give_are_not_given(
    tmp_path: Path, told: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    with running(tmp_path):
        assert told() == b"READY=1"
        time.sleep(0.3)
    assert told() == b"STOPPING=1"


def test_a_server_that_the_watchdog_ends_leaves_in_the_log_where_it_hung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    server = Process(tmp_path)
    url = server.ready()
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(httpx.post, url + "/plain/one", content=b"hold20", timeout=30)
        time.sleep(1)
        server.signal(signal.SIGABRT)
        code, _, err = server.end()
        assert call.exception() is not None
        assert code == -signal.SIGABRT
        assert "in predict" in err


@pytest.fixture
def log() -> Iterator[None]:
    """Leaves the log as it was: a server that starts takes it over."""
    loggers = [logging.getLogger(name) for name in ("saccade", "uvicorn")]
    before = [(logger.propagate, list(logger.handlers), logger.level) for logger in loggers]
    yield
    for logger, (propagate, handlers, level) in zip(loggers, before, strict=True):
        logger.propagate, logger.handlers = propagate, handlers
        logger.setLevel(level)


def refused(home: Path, engine: object = None, **settings: Any) -> Error:
    """Why a server with these settings does not start."""
    given = Settings(home=str(home), port=settings.pop("port", 0), **settings)
    with pytest.raises(Error) as caught:
        run.serve(given, library=Shelf(), engine=engine or EchoEngine(), dialects=[])  # type: ignore[arg-type]
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.usefixtures("log")
def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = refused(tmp_path, port=port)
    assert not isinstance(error, BadSettings)
    assert str(port) in error.message
    assert "--port" in error.message


@pytest.mark.usefixtures("log")
def test_an_unknown_model_to_preload_is_named(tmp_path: Path) -> None:
    assert "nobody" in refused(tmp_path, preload=("nobody",)).message


@pytest.mark.usefixtures("log")
def test_a_home_model_folder_or_host_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words, error in (
        ("--home", refused(tmp_path / "file" / "home")),
        ("nowhere", refused(tmp_path, models=(str(tmp_path / "nowhere"),))),
        ("~nobody-has-this-name", refused(tmp_path, models=("~nobody-has-this-name/models",))),
        (".onnx", refused(tmp_path, models=(str(tmp_path / "file"),))),
        ("'no.such.host.invalid'", refused(tmp_path, host="no.such.host.invalid", no_auth=True)),
        ("203.0.113.7", refused(tmp_path, host="203.0.113.7", no_auth=True)),
    ):
        assert isinstance(error, BadSettings)
        assert words in error.message


@pytest.mark.usefixtures("log")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    class Full(EchoEngine):
        async def start(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "/secret/path")

    error = refused(tmp_path, Full())
    assert "disk is full" in error.message
    assert "secret" not in error.message


@pytest.mark.usefixtures("log")
def test_a_file_that_the_system_refuses_is_named(tmp_path: Path) -> None:
    class Barred(EchoEngine):
        async def start(self) -> None:
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", "/home/models/.drafts")

    assert "Not a directory (/home/models/.drafts)" in refused(tmp_path, Barred()).message


@pytest.mark.usefixtures("log")
def test_an_open_host_without_keys_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, host="0.0.0.0")
    assert isinstance(error, BadSettings)
    assert "--no-auth" in error.message
    assert "saccade keys create" in error.message


def test_an_open_host_is_served_to_everybody_only_if_wanted(tmp_path: Path) -> None:
    with running(tmp_path, host="0.0.0.0", no_auth=True) as process:
        port = urlsplit(process.url).port
        assert httpx.post(f"http://127.0.0.1:{port}/plain/one", content=b"x").status_code == 200


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


def test_what_follows_a_body_in_chunks_is_no_header_of_the_request(server: Process) -> None:
    """A proxy that takes headers out of a request, or puts its own in, leaves what comes behind the body as it is."""
    call = (
        b"POST /plain/one HTTP/1.1\r\nhost: x\r\nx-request-id: mine\r\ntransfer-encoding: chunked\r\n\r\n"
        b"5;name=value\r\nhello\r\n0\r\nX-Request-Id: other\r\nContent-Encoding: nonsense\r\n\r\n"
    )
    for parts in ((call,), (call * 2,), (call[:-60], call[-60:])):
        got = raw(server.url, *parts)
        assert got.count(b"x-request-id: mine\r\n") == got.count(b'"hello"') == parts[0].count(b"POST"), got


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"


@pytest.mark.parametrize(
    "more", [b"content-length: 5\r\n\r\nhello", b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
def test_who_offers_another_protocol_as_java_does_is_answered_in_this_one(server: Process, more: bytes) -> None:
    """The rest of such a request, and what follows it, is read as if there were no offer."""
    whole = b"POST /plain/one HTTP/1.1\r\nhost: x\r\n" + OFFER + more
    for parts in ((whole,), (whole[: -len(more)], more[:-3], more[-3:]), (whole * 3,)):
        got = raw(server.url, *parts)
        assert got.count(b"HTTP/1.1 200") == got.count(b'"hello"') == parts[0].count(b"POST"), got
    for offer in (OFFER, b"Connection: Upgrade\r\nUpgrade: websocket\r\n"):
        got = raw(server.url, b"GET /health HTTP/1.1\r\nhost: x\r\n" + offer + b"\r\n")
        assert got.startswith(b"HTTP/1.1 200")


def test_http_1_0_gets_no_chunks_and_no_100(server: Process) -> None:
    call = b"POST /plain/one?stream HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\nvideo"
    head, _, told = raw(server.url, call).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert told == b'"frame 0"\n"frame 1"\n"frame 2"\n'
    assert b"chunked" in raw(server.url, call.replace(b"1.0\r\nexpect: 100-continue", b"1.1\r\nhost: x"))
    for word in (b"hello", b"fail!"):
        told = raw(server.url, call.replace(b"?stream", b"").replace(b"video", word))
        assert told.count(b"HTTP/1.1 ") == 1
        assert told.endswith(b"}")


def test_an_address_that_nobody_encoded_is_read_as_utf_8(server: Process) -> None:
    """curl and PHP send the letters as they were typed."""
    for address in ("/plain/gemüse", "/plain/gemüse?word=été"):
        call = b"POST " + address.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n\xff\xfe\n"
        got = raw(server.url, call, call)
        assert got.count("message: There is no model 'gemüse'.".encode("latin-1")) == 2, got


def test_a_body_announced_too_large_is_refused_before_it_is_sent(server: Process) -> None:
    head = b"POST /plain/one HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3000001\r\n\r\n"
    got = raw(server.url, head)
    assert got.startswith(b"HTTP/1.1 413")
    assert b"\r\nconnection: close\r\n" in got, "what came next would be read as the body"
    for path in (b"/nothing", b"/plain/one"):
        whole = head.replace(b"/plain/one", path).replace(b"3000001", b"5") + b"hello"
        got = raw(server.url, whole + b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        assert got.count(b"x-request-id: ") == 2, "this caller did not wait"
        assert b"connection: close" not in got
    response = httpx.post(server.url + "/plain/one", content=bytes(9_000_000))
    assert response.status_code == 413


@pytest.mark.parametrize("head", [b"HTTP/1.1\r\nconnection: close", b"HTTP/1.0", b"HTTP/1.1"])
@pytest.mark.parametrize("path", [b"/plain/one", b"/nothing"])
def test_who_reads_only_after_sending_all_of_a_refused_body_sees_the_refusal(
    server: Process, head: bytes, path: bytes
) -> None:
    """Without the rest being read, the connection would be reset, and the answer lost with it."""
    at = urlsplit(server.url)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=5) as line:
        line.sendall(b"POST " + path + b" " + head + b"\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n")
        for _ in range(20):
            line.sendall(bytes(1_000_000))
        assert line.recv(100).startswith(b"HTTP/1.1 413" if path == b"/plain/one" else b"HTTP/1.1 404")


def test_the_rest_of_a_refused_body_is_not_waited_for_for_ever(server: Process) -> None:
    at = urlsplit(server.url)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=8) as line:
        line.sendall(b"POST /plain/one HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413")
        line.sendall(b"x")
        while line.recv(65536):
            pass


def test_endless_heads_and_broken_requests_end_the_connection_and_nothing_else(server: Process) -> None:
    for sent, status in (
        (b"GET / HTTP/1.1\r\n" + b"a: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"nonsense\r\n\r\n", 400),
        (b"POST /plain/one HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n", 400),
    ):
        head, _, body = raw(server.url, sent).partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status}".encode())
        assert b"\r\ncontent-type: application/json\r\n" in head
        assert f"\r\ncontent-length: {len(body)}\r\n".encode() in head
        assert json.loads(body)["error"]
    assert httpx.get(server.url + "/health").status_code == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /plain/one?inputs=" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"431"),
        (b"POST /plain/one HTTP/1.1\r\nhost: x\r\na: " + b"a" * 100_000, b"431"),
        (b"POST /plain/one HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n", b"400"),
        (b"POST /plain/one HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nmany\r\n", b"400"),
    ],
)
def test_who_is_still_sending_when_its_head_is_refused_sees_the_refusal(
    server: Process, head: bytes, status: bytes
) -> None:
    """Node's fetch tells only ECONNRESET of a photo in base64 in the address, where the connection is reset."""
    at = urlsplit(server.url)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=5) as line:
        line.sendall(head)
        for _ in range(20):
            line.sendall(b"a" * 100_000)
            time.sleep(0.005)
        got = b""
        while piece := line.recv(65536):
            got += piece
    assert got.startswith(b"HTTP/1.1 " + status)
    assert got.count(b"connection: close") == 1


def test_who_goes_on_after_a_refused_head_is_not_listened_to_for_ever(server: Process) -> None:
    at = urlsplit(server.url)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=8) as line:
        line.sendall(b"nonsense\r\n\r\n")
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < began + 8:
                line.sendall(b"x")
                time.sleep(0.1)
    assert time.monotonic() < began + 8


@pytest.mark.parametrize(("version", "calls"), [(b"1.1", 1), (b"1.1", 2), (b"1.0", 1)])
def test_who_ends_its_side_right_after_asking_is_answered(server: Process, version: bytes, calls: int) -> None:
    """As ``nc -N`` does, and small devices."""
    at = urlsplit(server.url)
    call = b"POST /plain/one HTTP/" + version + b"\r\nhost: x\r\ncontent-length: 8\r\n\r\nsleep0.3"
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=5) as line:
        line.sendall(call * calls)
        line.shutdown(socket.SHUT_WR)
        got = b""
        while piece := line.recv(65536):
            got += piece
    assert got.count(b"HTTP/1.1 200") == got.count(b'"sleep0.3"') == calls, got
    assert got.count(b"connection: close") == 1


def test_who_ends_its_side_is_not_worked_for_for_ever_but_sees_the_end_of_what_has_begun(server: Process) -> None:
    """Two seconds is all the patience of this server."""
    at = urlsplit(server.url)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        lines = []
        for path, body in ((b"/plain/one", b"sleep30"), (b"/plain/one?stream=1", b"video slow")):
            line = stack.enter_context(socket.create_connection((at.hostname or "", at.port or 0), timeout=8))
            line.sendall(b"POST %b HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (path, len(body), body))
            line.shutdown(socket.SHUT_WR)
            lines.append(line)
        assert lines[0].recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        with contextlib.suppress(ConnectionResetError):
            assert lines[0].recv(100) == b""
        assert time.monotonic() < began + 5
        got = b""
        while piece := lines[1].recv(65536):
            got += piece
        assert got.endswith(b"0\r\n\r\n")
    assert waited(lambda: "saccade_inflight_requests 0.0" in httpx.get(server.url + "/metrics").text)


@pytest.mark.parametrize(("version", "body"), [(b"1.1", b"sleep"), (b"1.0", b"sleep"), (b"1.0", b"sleep30")])
def test_who_ends_its_side_in_a_body_or_speaks_the_old_version_and_waits_has_left(
    server: Process, version: bytes, body: bytes
) -> None:
    at = urlsplit(server.url)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=5) as line:
        line.sendall(b"POST /plain/one HTTP/%b\r\nhost: x\r\ncontent-length: 7\r\n\r\n" % version + body)
        time.sleep(0.3 if body == b"sleep30" else 0)
        line.shutdown(socket.SHUT_WR)
        assert line.recv(100) == b""
    assert waited(lambda: "saccade_inflight_requests 0.0" in httpx.get(server.url + "/metrics").text, 1)


def test_who_ends_its_side_while_it_waits_is_answered(server: Process) -> None:
    at = urlsplit(server.url)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=5) as line:
        line.sendall(b"POST /plain/one HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nsleep1")
        time.sleep(0.3)
        line.shutdown(socket.SHUT_WR)
        got = b""
        while piece := line.recv(65536):
            got += piece
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), got


@pytest.mark.parametrize("pause_s", [0, 0.3])
def test_who_closes_the_whole_connection_is_worked_for_no_longer(server: Process, pause_s: float) -> None:
    at = urlsplit(server.url)
    for _ in range(5):
        with socket.create_connection((at.hostname or "", at.port or 0), timeout=5) as line:
            line.sendall(b"POST /plain/one HTTP/1.1\r\nhost: x\r\ncontent-length: 7\r\n\r\nsleep30")
            time.sleep(pause_s)
    assert waited(lambda: "saccade_inflight_requests 0.0" in httpx.get(server.url + "/metrics").text, 1)


BROKEN = b"POST / HTTP/1.1\r\ncontent-length: many\r\n\r\n"


@pytest.mark.parametrize(("calls", "rest"), [(1, b"lo"), (2, b"--cut--\r\n"), (1, b"x" * 200_000), (1, BROKEN)])
def test_what_was_asked_is_answered_although_more_follows_than_was_announced(
    server: Process, calls: int, rest: bytes
) -> None:
    """Programs on small devices count the bytes of a body by hand."""
    call = b"POST /plain/one HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nsleep1"
    got = raw(server.url, call * calls + rest, pause_s=calls + 0.5)
    assert got.count(b"HTTP/1.1 ") == got.count(b"HTTP/1.1 200") == got.count(b'"sleep1"') == calls, got
    assert got.count(b"connection: close") == 1


def test_calls_that_come_one_behind_the_other_are_answered_and_only_so_many_wait(server: Process) -> None:
    """Each that waits takes a hundred times what its head took on the way."""
    call = b"POST /plain/one HTTP/1.1\r\nhost: x\r\ncontent-length: 8000\r\n\r\n" + b"x" * 8000
    assert raw(server.url, call * 250).count(b"HTTP/1.1 200") == 250
    slow = b"POST /plain/one HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nsleep1"
    got = raw(server.url, slow + b"GET /health HTTP/1.1\r\n\r\n" * 5000, pause_s=1.5)
    assert got.count(b"HTTP/1.1 200") == 101
    assert got.endswith(b'{"status":"ok"}')
    assert httpx.get(server.url + "/health").status_code == 200


def test_a_line_of_a_head_that_never_ends_is_refused_at_the_limit(server: Process) -> None:
    sent = 0
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nx-long: ")
        with contextlib.suppress(OSError):
            while sent < 20_000_000:
                line.sendall(b"a" * 65_536)
                sent += 65_536
        told = b""
        with contextlib.suppress(OSError):
            told = line.recv(1000)
    assert sent < 10_000_000
    assert not told or b" 431 " in told  # who is still sending may see a reset instead


def test_a_head_or_body_that_never_comes_does_not_hold_a_connection_for_ever(server: Process) -> None:
    at = urlsplit(server.url)
    for words in (b"", b"POST /plain/one HTTP/1.1\r\nhost:", b"POST /plain/one HTTP/1.1\r\ncontent-length: 9\r\n\r\nx"):
        with socket.create_connection((at.hostname or "", at.port or 0), timeout=8) as line:
            line.sendall(words)
            got = line.recv(1000)
            assert got == b"" or got.startswith(b"HTTP/1.1 400"), got


def test_a_second_head_that_never_comes_whole_does_not_hold_a_connection_for_ever(server: Process) -> None:
    at = urlsplit(server.url)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=8) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert line.recv(1000).startswith(b"HTTP/1.1 200")
        line.sendall(b"POST /plain/one HTTP/1.1\r\nhost:")
        assert line.recv(1000) == b""


def test_callers_who_vanish_in_a_crowd_leave_nothing_behind(server: Process) -> None:
    async def crowd() -> None:
        async with httpx.AsyncClient(timeout=0.3) as http:
            calls = [http.post(server.url + "/plain/one", content=b"sleep30") for _ in range(40)]
            await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(crowd())
    time.sleep(0.3)
    text = httpx.get(server.url + "/metrics").text
    assert "saccade_inflight_requests 0.0" in text


def test_who_takes_nothing_of_an_answer_is_let_go_and_so_is_what_was_made_for_it(server: Process) -> None:
    at = urlsplit(server.url)
    lines = []
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            line = stack.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.connect((at.hostname, at.port))
            body = b"video endless large" + bytes(1000)
            line.sendall(b"POST /plain/one?stream=1 HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            lines.append(line)
        assert waited(lambda: "saccade_inflight_requests 3.0" in httpx.get(server.url + "/metrics").text, 60)
        # What the server's system holds for each of them is filled first; then the server has patience for two seconds.
        assert waited(lambda: "saccade_inflight_requests 0.0" in httpx.get(server.url + "/metrics").text, 60)


def test_a_slow_reader_who_takes_a_little_at_a_time_gets_all_of_it(server: Process) -> None:
    at = urlsplit(server.url)
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect((at.hostname, at.port))
        line.settimeout(10)
        line.sendall(b"POST /plain/one?stream=1 HTTP/1.1\r\nconnection: close\r\ncontent-length: 10\r\n\r\nvideo long")
        got = b""
        while piece := line.recv(700):
            got += piece
            time.sleep(0.02)
    assert got.endswith(b"0\r\n\r\n")
    assert b'"frame 999"' in got


def reading(stack: contextlib.ExitStack, url: str, size: int) -> socket.socket:
    """A caller with little room, who has begun to get so large an answer."""
    at, body = urlsplit(url), b"big%d" % size
    line = stack.enter_context(socket.socket())
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    line.connect((at.hostname, at.port))
    line.settimeout(10)
    line.sendall(b"POST /plain/one HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    assert line.recv(1, socket.MSG_PEEK) == b"H"
    return line


def test_a_server_that_stops_waits_for_slow_readers_and_not_for_those_that_take_nothing(tmp_path: Path) -> None:
    process, size = Process(tmp_path), 16_000_000
    url = process.ready()
    with contextlib.ExitStack() as stack:
        dead, slow = reading(stack, url, size), reading(stack, url, size)
        time.sleep(0.3)
        process.signal(signal.SIGTERM)
        begun, got = time.monotonic(), 0
        while piece := slow.recv(65_536):
            got += len(piece)
            time.sleep(max(0.0, got / size * 7 - (time.monotonic() - begun)))
        assert got > size, "all of it, although it took seven seconds"
        code, _, err = process.end(3)
        assert code == 0
        assert "Traceback" not in err
        dead.close()


def test_who_took_nothing_long_before_the_server_stops_holds_it_up_no_longer(tmp_path: Path) -> None:
    process = Process(tmp_path)
    url = process.ready()
    with contextlib.ExitStack() as stack:
        reading(stack, url, 16_000_000)
        time.sleep(5.5)
        process.signal(signal.SIGTERM)
        assert process.end(4)[0] == 0


def waited(condition: Callable[[], bool], patience_s: float = 5.0) -> bool:
    end = time.monotonic() + patience_s
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return met


def test_callers_find_an_open_door_while_others_hold_more_connections_than_there_may_be(tmp_path: Path) -> None:
    with running(tmp_path, most_files=150) as process, contextlib.ExitStack() as stack:
        at = urlsplit(process.url)
        for _ in range(300):
            line = stack.enter_context(socket.create_connection((at.hostname or "", at.port or 0), timeout=5))
            line.sendall(b"POST /plain/one HTTP/1.1\r\nhost:")
        for _ in range(3):
            assert httpx.post(process.url + "/plain/one", content=b"hi").json()["said"] == ["hi"]
        process.signal(signal.SIGTERM)
        assert "100 connections are open" in process.end()[2]


def test_where_every_connection_is_at_work_one_more_is_told_so(tmp_path: Path) -> None:
    with running(tmp_path, most_files=90) as process, contextlib.ExitStack() as stack:
        at = urlsplit(process.url)
        busy = []
        for _ in range(60):
            line = stack.enter_context(socket.create_connection((at.hostname or "", at.port or 0), timeout=5))
            line.sendall(b"POST /plain/one HTTP/1.1\r\ncontent-length: 6\r\n\r\nsleep2")
            busy.append(line)
        assert raw(process.url).startswith(b"HTTP/1.1 503 ")
        assert all(line.recv(100).startswith(b"HTTP/1.1 200 ") for line in busy)


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    resource = pytest.importorskip("resource")
    code = (
        "import resource as r; hard = r.getrlimit(r.RLIMIT_NOFILE)[1]; r.setrlimit(r.RLIMIT_NOFILE, (64, hard));"
        "from saccade.server.crowd import descriptors as d; print(d() == r.getrlimit(r.RLIMIT_NOFILE)[0] == hard)"
    )
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 1 << 20:
        pytest.skip("no limit that could be reached")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120).stdout == "True\n"


def test_where_the_system_hides_its_limit_of_open_files_most_of_it_is_asked_for() -> None:
    resource = pytest.importorskip("resource")
    code = """
import resource as r
hard, given = r.getrlimit(r.RLIMIT_NOFILE)[1], r.setrlimit
given(r.RLIMIT_NOFILE, (64, hard))

def as_macos(what, limits):
    if limits[0] > 1000:
        raise ValueError("current limit exceeds maximum limit")
    given(what, limits)

r.setrlimit = as_macos
from saccade.server.crowd import descriptors
print(500 <= descriptors() <= 1000)
"""
    if 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= 1000:
        pytest.skip("the limit is smaller")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "True\n", done.stderr
