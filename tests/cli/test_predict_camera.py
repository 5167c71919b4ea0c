"""``saccade predict`` before a camera: every output, until somebody ends it, and never a word of its password."""

from __future__ import annotations

import fcntl
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from lamps import Typed

from rtsp import RtspCamera
from saccade import media


def started(
    models: Path, tmp_path: Path, *words: str, python: tuple[str, ...] = ("-m", "saccade")
) -> subprocess.Popen[str]:
    fixed = ["-m", "lamps", "--models", str(models), "--home", str(tmp_path / "home")]
    return subprocess.Popen(
        [sys.executable, *python, "predict", *words, *fixed],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, text=True,
    )  # fmt: skip


def ended(child: subprocess.Popen[str], sign: signal.Signals) -> tuple[int, str, str]:
    """How it ends, and what it still says."""
    assert child.stdout is not None
    assert child.stderr is not None
    child.send_signal(sign)
    began = time.monotonic()
    with child.stdout, child.stderr:
        try:
            rest, errors = child.stdout.read(), child.stderr.read()
            status = child.wait(20)
        finally:
            child.kill()
    assert time.monotonic() - began < 5
    return status, rest, errors


def test_a_camera_is_answered_as_a_growing_document_and_its_video_is_whole(models: Path, tmp_path: Path) -> None:
    words = ("--json", "--track", "--stride", "3", "--conf", "0.1", "--save", "out")
    with RtspCamera(login="me:secret") as sender:
        child = started(models, tmp_path, sender.address("me:secret", "/live?token=secret"), *words)
        assert child.stdout is not None
        text = "".join(child.stdout.readline() for _ in range(8))
        began = time.monotonic()
        while time.monotonic() - began < 1:
            text += child.stdout.readline()
        status, rest, errors = ended(child, signal.SIGINT)
    entries: list[dict[str, Any]] = json.loads(text + rest)
    assert (status, errors) == (0, "")
    assert {entry["source"] for entry in entries} == {f"rtsp://127.0.0.1:{sender.port}/live?token=…"}
    numbers = [entry["frame"] for entry in entries]
    assert numbers == sorted(set(numbers))
    assert {number % 3 for number in numbers} == {2}
    times = [entry["time"] for entry in entries]
    assert times == sorted(times)
    assert all(len(moment) == len("2026-01-01T00:00:00.000Z") for moment in times)
    assert len({item["track_id"] for entry in entries for item in entry["results"] if "track_id" in item}) == 1
    (film,) = (tmp_path / "out").iterdir()
    assert {entry["saved"] for entry in entries} == {f"out/{film.name}"}
    assert film.name == f"camera-127.0.0.1-{sender.port}.mp4"
    assert 0.9 < media.length(film.read_bytes()) / media.reel(film.read_bytes()).fps < 6
    assert "secret" not in text + rest + errors
    assert entries[0]["shape"] == [64, 256]


def test_a_camera_is_told_line_by_line_and_its_return_too(models: Path, tmp_path: Path) -> None:
    with RtspCamera() as sender:
        child = started(models, tmp_path, sender.address("me:secret"))
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(3)]
        sender.drop()
        while sender.connections < 2 and child.poll() is None:
            lines.append(child.stdout.readline())
        lines += [child.stdout.readline() for _ in range(5)]
        status, rest, errors = ended(child, signal.SIGTERM)
    name = sender.address()
    assert status == 0
    assert all(line.startswith(f"{name} frame ") and "256×64" in line for line in lines)
    first, second = errors.splitlines()
    assert (first, second) == (f"{name} ended the connection. Connecting again in 1 s.", f"{name} is back.")
    assert "secret" not in "".join(lines) + rest + errors


@pytest.mark.skipif(sys.platform != "linux", reason="fills pipes as Linux does")
@pytest.mark.parametrize("full", [True, False], ids=["while it prints", "while it looks"])
def test_a_camera_s_video_that_there_was_no_room_for_is_told_at_the_end(
    models: Path, tmp_path: Path, full: bool
) -> None:
    limited = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (3000, 3000)); import saccade.cli as c; c.main()"
    with RtspCamera() as sender:
        child = started(models, tmp_path, sender.address(), "--save", "out", python=("-Bc", limited))
        assert child.stdout is not None
        child.stdout.readline()
        if full:
            fcntl.fcntl(child.stdout, fcntl.F_SETPIPE_SZ, 4096)
        began = time.monotonic()
        while time.monotonic() - began < 2:
            time.sleep(0.1) if full else child.stdout.readline()
        status, _, errors = ended(child, signal.SIGTERM)
    assert (status, "cannot write the video camera-" in errors, "--save" in errors) == (1, True, True), errors
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_who_ends_it_while_it_connects_waits_for_nothing(models: Path, tmp_path: Path, sign: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        child = started(models, tmp_path, f"rtsp://127.0.0.1:{door.getsockname()[1]}/live", "--json")
        caller, _ = door.accept()
        time.sleep(0.3)
        began = time.monotonic()
        status, told, errors = ended(child, sign)
        caller.close()
    assert time.monotonic() - began < 3
    assert (status, json.loads(told), errors.strip()) == (1, [], "Aborted!")


def test_a_camera_that_cannot_be_reached_is_an_error_of_the_source(typed: Typed, models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    address = f"rtsp://me:secret@127.0.0.1:{port}/live?key=secret"
    told = typed("predict", address, "-m", "lamps", "--models", models, "--json", "--save", "out")
    (entry,) = json.loads(told.stdout)
    assert (told.exit_code, entry["source"]) == (1, f"rtsp://127.0.0.1:{port}/live?key=…")
    assert "user or password" in entry["error"]
    told = typed("predict", address, "-m", "lamps", "--models", models)
    assert (told.exit_code, "not reachable" in told.stderr, told.stdout) == (1, True, "")
    assert "secret" not in told.output


def test_a_camera_is_looked_at_alone(typed: Typed, models: Path, photos: Path) -> None:
    told = typed("predict", photos, "rtsp://me:secret@127.0.0.1/live", "-m", "lamps", "--models", models)
    assert (told.exit_code, "rtsp://127.0.0.1/live is a camera" in told.stderr) == (2, True)
    assert "secret" not in told.output


def test_what_compares_pictures_takes_no_camera(typed: Typed, models: Path) -> None:
    told = typed("verify", "lamps", "rtsp://me:secret@127.0.0.1/live", "--models", models)
    assert told.exit_code == 1
    assert "rtsp://127.0.0.1/live: a camera has no end" in told.stderr
