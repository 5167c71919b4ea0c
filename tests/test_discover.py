"""The CPU and memory budget, read from invented machines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from saccade.discover import budget, cpu_quota, memory_limit, resident_bytes, share_out

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": "MemTotal:       16384 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    found = budget(machine(tmp_path, {}))
    assert (found.threads, found.affinity, found.quota) == (CORES, CORES, None)
    assert found.memory_bytes == 16384 * 1024


def test_a_quota_of_version_two_is_read(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.max": "150000 100000\n"}
    assert cpu_quota(machine(tmp_path, files)) == 1.5


@pytest.mark.parametrize("tightest", ["a/b/", "a/", ""])
def test_the_tightest_limits_of_the_parents_count(tmp_path: Path, tightest: str) -> None:
    files = {"proc/self/cgroup": "0::/a/b\n", "proc/meminfo": "MemTotal: 8 kB\n"}
    for folder in ("a/b/", "a/", ""):
        files[f"sys/fs/cgroup/{folder}cpu.max"] = f"{50000 if folder == tightest else 800000} 100000\n"
        files[f"sys/fs/cgroup/{folder}memory.max"] = "4096\n" if folder == tightest else "6144\n"
    root = machine(tmp_path, files)
    assert cpu_quota(root) == 0.5
    assert budget(root).threads == 1
    assert memory_limit(root) == 4096


def test_inside_a_container_the_mount_itself_counts(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/docker/abc\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}
    assert cpu_quota(machine(tmp_path, files)) == 2.0


def test_a_quota_of_version_one_is_read(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:cpu,cpuacct:/box\n2:memory:/box\n",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "300000\n",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "1048576\n",
    }
    root = machine(tmp_path, files)
    assert cpu_quota(root) == 3.0
    assert memory_limit(root) == 1048576


def test_no_limit_is_no_limit_in_both_versions(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:cpu:/box\n3:memory:/box\n0::/box\n",
        "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/box/cpu.max": "max 100000\n",
        "sys/fs/cgroup/box/memory.max": "max\n",
    }
    root = machine(tmp_path, files)
    assert cpu_quota(root) is None
    assert memory_limit(root) == 16384 * 1024


@pytest.mark.parametrize(("quota", "threads"), [("20000", 1), ("140000", 1), ("160000", min(2, CORES))])
def test_a_broken_core_is_rounded(tmp_path: Path, quota: str, threads: int) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota} 100000\n"}
    assert budget(machine(tmp_path, files)).threads == threads


def test_what_a_process_holds_is_not_what_it_has_addresses_for(tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/7/statm": "900 25 3 1 0 80 0\n"})
    assert resident_bytes(7, root) == 25 * os.sysconf("SC_PAGE_SIZE")


def test_this_process_holds_memory() -> None:
    assert resident_bytes() > 1 << 20
    assert resident_bytes(pid=2**22 + 1) == 0


def test_threads_of_helpers_are_limited() -> None:
    import cv2

    before = cv2.getNumThreads()
    try:
        share_out(1)
        assert cv2.getNumThreads() == 1
    finally:
        share_out(before)


HELD = """
import sys
from saccade.discover import hold_little, resident_bytes
if sys.argv[1] == "little":
    hold_little()
bytearray(9 << 20)
before, small = resident_bytes(), []
for size in range(4 << 20, 9 << 20, 1 << 20):
    body = bytearray(b"x") * size
    small.append(bytearray(100_000))
    del body
print(resident_bytes() - before >> 20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_large_bodies_go_back_to_the_system_though_small_blocks_came_after_them() -> None:
    command = [sys.executable, "-c", HELD]
    usual, little = (
        int(subprocess.run([*command, word], capture_output=True, text=True, check=True, timeout=60).stdout)
        for word in ("usual", "little")
    )
    assert little < 4 <= usual


HEAPS = """
import ctypes, re, sys, threading
from saccade.discover import share_heaps
if sys.argv[1] == "shared":
    share_heaps(2)
library, meet = ctypes.CDLL(None), threading.Barrier(7)
library.malloc.restype = ctypes.c_void_p
def take():
    library.malloc(50_000)
    meet.wait()
for _ in range(6):
    threading.Thread(target=take).start()
meet.wait()
ctypes.CDLL(None).malloc_info(0, ctypes.c_void_p.in_dll(library, "stdout"))
library.fflush(None)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_threads_share_the_heaps_that_they_are_told_to() -> None:
    command = [sys.executable, "-c", HEAPS]
    usual, shared = (
        subprocess.run([*command, word], capture_output=True, text=True, check=True, timeout=60).stdout.count("<heap ")
        for word in ("usual", "shared")
    )
    assert shared == 2 < usual


@pytest.mark.parametrize("known", [True, False])
def test_a_system_without_proc_tells_what_a_process_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    held = psutil.Process().memory_info().rss
    assert resident_bytes(os.getpid() if known else None, machine(tmp_path, {})) == pytest.approx(held, rel=0.1)


def test_a_system_without_proc_tells_of_no_process_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert resident_bytes(gone.pid, machine(tmp_path, {})) == 0
