"""Child processes of other parents, and those that end with the one that started them."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from saccade.kin import Adopted

pytestmark = pytest.mark.skipif(not hasattr(os, "WNOHANG"), reason="processes are waited for otherwise there")


def child(words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE)


def ended(process: Adopted) -> int | None:
    until = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    return process.poll()


def test_the_end_of_a_process_is_told_as_often_as_it_is_asked_for() -> None:
    adopted = Adopted(child("raise SystemExit(3)").pid)
    assert (ended(adopted), ended(adopted), adopted.known_alive) == (3, 3, False)


def test_a_process_that_has_ended_is_not_killed_for_its_number_may_be_anothers() -> None:
    adopted = Adopted(child("").pid)
    assert ended(adopted) == 0
    adopted.kill()
    alive = Adopted(child("import time; time.sleep(60)").pid)
    assert alive.poll() is None
    alive.kill()
    assert ended(alive) == -9


def test_a_process_that_somebody_else_took_out_of_the_system_has_ended() -> None:
    process = child("")
    process.wait()
    assert Adopted(process.pid).poll() == 0


def test_a_process_whose_parent_has_gone_already_does_not_stay() -> None:
    orphan = child(f"from saccade.kin import die_with; die_with({os.getpid() + 1}); print('still here')")
    out, _ = orphan.communicate(timeout=30)
    assert (out, orphan.returncode) == (b"", 0)
