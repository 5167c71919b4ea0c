"""``saccade bench`` and its load generator."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from lamps import Typed

from saccade.cli.bench import _address, _print, _refusal, _target, made_photo
from saccade.cli.load import Report, drive, loopback_only
from saccade.errors import BadOptions, Error
from saccade.media import decode

Client = Callable[[str], Awaitable[Report]]


def test_figures_are_quantiles_of_the_answered_calls() -> None:
    report = Report(4, [n / 1000 for n in range(1, 101)], Counter({200: 100, 503: 2}), whole_s=2.0)
    figures = report.figures()
    assert figures == {
        "concurrency": 4, "calls": 102, "failed": 2, "refused": {"503": 2}, "per_second": 50.0,
        "p50_ms": 51.0, "p90_ms": 91.0, "p99_ms": 100.0,
    }  # fmt: skip
    assert Report(1).figures()["per_second"] == 0


@pytest.mark.parametrize("url", ["http://example.org", "http://10.0.0.7:8000", "localhost"])
def test_loads_are_never_sent_to_another_machine(url: str) -> None:
    with pytest.raises(BadOptions, match="this machine"):
        loopback_only(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999", "http://127.0.0.1:http", "http://[::1", "https://127.0.0.1:8000", "http://"]
)
def test_what_is_no_http_address_is_told_with_an_example(typed: Typed, url: str) -> None:
    told = typed("bench", "lamps", "--url", url)
    assert (told.exit_code, f"--url is '{url}'" in told.stderr) == (2, True), told.output
    assert "http://127.0.0.1:8000" in told.stderr


def served(answer: bytes, client: Client) -> tuple[Report, list[bytes]]:
    """What a client reports of a server that gives this answer to every request, and the requests' heads."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                heads.append(head)
                await reader.readexactly(4)
                writer.write(answer)
                if not answer:
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    async def both() -> Report:
        async with await asyncio.start_server(handle, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            return await client(f"http://127.0.0.1:{port}/models/x")

    return asyncio.run(both()), heads


def test_every_call_is_sent_and_counted_by_its_status() -> None:
    report, heads = served(
        b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\nno",
        lambda url: drive(url, b"abcd", {"x-a": "1"}, concurrency=3, calls=10),
    )
    assert (len(heads), report.statuses, report.seconds, report.refusal) == (10, Counter({503: 10}), [], b"no")
    assert heads[0].startswith(b"POST /models/x HTTP/1.1\r\n")
    assert b"x-a: 1" in heads[0]


def test_a_server_that_never_answers_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Error, match=r"no answer within 0\.2 s"):
            asyncio.run(drive(url, b"abcd", {}, concurrency=2, calls=2, patience_s=0.2))


def test_a_server_that_is_never_ready_is_not_waited_for_for_ever() -> None:
    words = [sys.executable, "-c", "import time; print('loading', flush=True); time.sleep(600)"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child, tempfile.TemporaryFile("w+") as log:
        with pytest.raises(Error, match=r"not ready after 0\.5 s"):
            _address(child, log, patience_s=0.5)
        assert child.wait(20) < 0


def test_a_server_that_hangs_up_is_an_error_in_words() -> None:
    with pytest.raises(Error, match="closed the connection"):
        served(b"", lambda url: drive(url, b"abcd", {}, concurrency=1, calls=1))


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail ESMTP\r\nContent-Length: 2\r\n\r\n..",
        b"HTTP/1.1\r\nContent-Length: 2\r\n\r\n..",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n..",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n..",
        b"x" * (1 << 25),
    ],
)
def test_another_program_on_the_port_is_an_error_in_words(answer: bytes) -> None:
    with pytest.raises(Error, match="is no HTTP"):
        served(answer, lambda url: drive(url, b"abcd", {}, concurrency=1, calls=1))


def test_an_address_where_nobody_listens_is_an_error_in_words(typed: Typed) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        told = typed("bench", "any", "--url", f"http://127.0.0.1:{free.getsockname()[1]}", "--calls", "5")
    assert told.exit_code == 1
    assert "Nobody listens at 127.0.0.1:" in told.stderr
    assert "saccade serve" in told.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--key", "sac_1\r\nx-more: 1"), "signs that no key has"),
        (("--precision", "f32"), "--precision changes nothing there"),
        (("--models", "."), "--models changes nothing there"),
    ],
)
def test_what_makes_no_sense_for_a_server_that_runs_is_refused(typed: Typed, words: tuple[str], says: str) -> None:
    told = typed("bench", "lamps", "--url", "http://127.0.0.1:9", *words)
    assert (told.exit_code, says in told.stderr) == (2, True), told.output


def test_a_name_of_a_model_cannot_change_the_request() -> None:
    assert _target("http://127.0.0.1:8000/", "house/a b?x#y", "cat, dog") == (
        "http://127.0.0.1:8000/models/house/a%20b%3Fx%23y?candidate_labels=cat%2C%20dog"
    )


def test_a_server_that_refuses_every_call_is_quoted() -> None:
    report = Report(1, [], Counter({404: 3}), refusal=b'{"error": "There is no model \'x\'."}')
    assert _refusal(report) == "404 There is no model 'x'."
    assert _refusal(Report(1, [], Counter({502: 3}), refusal=b"<html>")) == "502"


def test_the_made_photo_is_always_the_same() -> None:
    assert made_photo() == made_photo()
    assert decode(made_photo()).rgb.shape == (810, 1080, 3)


@pytest.mark.parametrize("levels", ["", "a", "0", "1,,2", "5000"])
def test_wrong_numbers_of_callers_exit_with_2(typed: Typed, levels: str) -> None:
    told = typed("bench", "--concurrency", levels)
    assert told.exit_code == 2
    assert "--concurrency" in told.stderr


def test_a_model_is_measured_alone_and_behind_a_server(typed: Typed, models: Path) -> None:
    told = typed("bench", "lamps", "--models", models, "--calls", "5", "--concurrency", "1,2", "--json")
    report = json.loads(told.stdout)
    assert [row["concurrency"] for row in report["http"]] == [1, 2]
    assert all(row["failed"] == 0 and row["calls"] == 5 for row in report["http"])
    assert report["bare"][0]["calls"] == 5
    assert report["memory_bytes"] > 1e7
    assert 0 < report["callers_cpu_ms"] < 100


@pytest.mark.parametrize("columns", [30, 40, 80])
def test_no_figure_is_cut_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    report = Report(16, [n / 7 for n in range(1, 101)], Counter({200: 100, 503: 2}), whole_s=0.008)
    _print({"model": "lamps", "bytes": 1, "http": [report.figures()], "callers_cpu_ms": 1.0})
    told = capsys.readouterr().out
    for figure in ("callers", "calls/s", "12500.0", "7285.7", "13000.0", "14285.7", "2 × 503"):
        assert figure in told


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP])
def test_who_ends_the_measuring_leaves_no_server_behind(
    models: Path, tmp_path: Path, sign: signal.Signals, hangup_heard: None
) -> None:
    flags = ["--models", str(models), "--home", str(tmp_path), "--calls", "200", "--concurrency", ",".join("1" * 20)]
    words = [sys.executable, "-m", "saccade", "bench", "lamps", *flags]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        servers: list[psutil.Process] = []
        try:
            end = time.monotonic() + 120
            while not servers:
                assert time.monotonic() < end
                servers = psutil.Process(child.pid).children()
                time.sleep(0.1)
            time.sleep(1)
            child.send_signal(sign)
            assert (child.wait(60), child.stderr and child.stderr.read().strip()) == (1, "Aborted!")
            assert psutil.wait_procs(servers, timeout=1)[1] == []
        finally:
            child.kill()
            for server in psutil.wait_procs(servers, timeout=1)[1]:
                server.kill()


def test_a_home_with_keys_is_measured_all_the_same(typed: Typed, models: Path) -> None:
    assert typed("keys", "create", "somebody").exit_code == 0
    told = typed("bench", "lamps", "--models", models, "--calls", "2", "--concurrency", "1", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["http"][0]["failed"] == 0


def test_a_server_that_cannot_start_is_told_in_its_own_words(typed: Typed, models: Path, tmp_path: Path) -> None:
    flags = ("--models", models, "--home", tmp_path, "--calls", "1", "--concurrency", "1")
    (tmp_path / "saccade.db").mkdir()
    told = typed("bench", "lamps", *flags)
    assert told.exit_code == 1
    assert "The server that was to be measured did not start: " in told.stderr
    assert "INFO" not in told.stderr
