"""What goes to standard error, when that takes nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import httpx
import pytest
from server_fakes import Process

from saccade.server.outlet import MOST_BYTES, Outlet


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's")
def test_what_a_full_disk_kept_out_of_the_log_is_told_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outlet = Outlet()
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        for number in range(3):
            outlet.write(f"lost {number}\n")
    with (tmp_path / "log").open("w") as roomy:
        monkeypatch.setattr(sys, "stderr", roomy)
        outlet.write("first\nsecond\n")
        outlet.write("third\n")
    told, *lines = (tmp_path / "log").read_text().splitlines()
    assert "up to 3 lines are missing" in told
    assert lines == ["first", "second", "third"]


def test_a_reader_who_comes_back_gets_what_was_kept_in_its_order_and_is_told_what_was_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs, ours = os.pipe()
    outlet = Outlet()
    with os.fdopen(ours, "w") as pipe:
        monkeypatch.setattr(sys, "stderr", pipe)
        count = 2 * MOST_BYTES // 100
        for number in range(count):
            outlet.write(f"{number:099d}\n")
        seen = b""
        for _ in range(100):
            outlet.write("again\n")
            seen += os.read(theirs, 1 << 16)
            if b"are missing" in seen and seen.endswith(b"again\n"):
                break
    os.close(theirs)
    lines = seen.decode().splitlines()
    kept = [int(line) for line in lines if line.isdecimal()]
    assert kept == list(range(len(kept)))
    assert MOST_BYTES // 100 < len(kept) < count
    missing = next(int(line.split("up to ")[1].split()[0]) for line in lines if "are missing" in line)
    assert missing >= count - len(kept)


def test_a_server_whose_log_nobody_reads_serves_and_ends(tmp_path: Path) -> None:
    process = Process(tmp_path)
    url = process.ready()
    with httpx.Client(timeout=5, trust_env=False) as client:
        for _ in range(600):
            assert client.get(f"{url}/{'nowhere' * 25}").status_code == 404
        assert client.get(f"{url}/health").status_code == 200
    process.signal(signal.SIGTERM)
    end = time.monotonic() + 10
    while process.child.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    code = process.child.poll()
    process.end()
    assert code == 0
