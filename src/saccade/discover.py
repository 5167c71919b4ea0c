"""What this process may use: CPU threads and memory, as the container, the affinity mask and the machine allow.

Libraries count the cores of the machine; in a container with a quota of four of 128 cores they would start 128 threads
and be throttled. So the budget is read once, here, and handed down.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from saccade.errors import BadSettings

BLAS_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
    "MKL_Set_Num_Threads",
)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Numbers of glibc's settings."""

LARGE_BYTES = 1 << 20
"""More than a usual photo, which comes and goes too often to be taken from the system each time."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What this process may use.

    ``threads`` is what to plan with. ``quota`` is the container's limit in cores (None: none), ``affinity`` how many
    cores the process may run on. ``memory_bytes`` is the smallest limit that holds for this process, or the machine's
    memory.
    """

    threads: int
    affinity: int
    quota: float | None
    memory_bytes: int


def budget(root: Path = Path("/")) -> Budget:
    """The budget of this process; ``root`` is where /proc and /sys are found."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    # Half a core more than whole ones is worth a thread; less would only be throttled.
    allowed = affinity if quota is None else min(affinity, math.floor(quota + 0.5))
    return Budget(
        threads=max(1, allowed),
        affinity=affinity,
        quota=quota,
        memory_bytes=memory_limit(root),
    )


def machine_load() -> float:
    """The machine's load of the last minute; 0 where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The tightest CPU limit of this process's control groups, in cores; None without one."""
    quotas: list[float] = []
    for folder in _groups(root, "cpu"):
        words = _words(folder / "cpu.max")
        if len(words) == 2 and words[0] != "max":
            quotas.append(int(words[0]) / int(words[1]))
        v1_quota, v1_period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
        if v1_quota and v1_period and int(v1_quota[0]) > 0:
            quotas.append(int(v1_quota[0]) / int(v1_period[0]))
    return min(quotas, default=None)


def memory_limit(root: Path = Path("/")) -> int:
    """The tightest memory limit of this process's control groups, or the machine's memory, in bytes."""
    limits = [_machine_memory(root)]
    for folder in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            words = _words(folder / name)
            # "max" is no limit, nor is the huge number that version 1 writes for none.
            if words and words[0].isdecimal():
                limits.append(int(words[0]))
    return min(limits)


def resident_bytes(pid: int | None = None, root: Path = Path("/")) -> int:
    """Memory that a process (None: this one) really holds; 0 when it is gone."""
    words = _words(root / "proc" / ("self" if pid is None else str(pid)) / "statm")
    if len(words) > 1:
        return int(words[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0 if sys.platform == "linux" else _told_resident_bytes(pid)


def trim() -> None:
    """Gives back to the machine what the C library keeps of memory that was freed, where it can be asked to."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def hold_little() -> None:
    """Has the C library take large blocks from the system, to which they go back as soon as they are freed.

    By itself it learns from the first of them to take the next ones from its heap, which a small block at its end keeps
    from shrinking: for a process that only passes large bodies on.
    """
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_TRIM_THRESHOLD, 2 * LARGE_BYTES)
        library.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def share_heaps(count: int) -> None:
    """Has all threads of this process share so many of the C library's heaps, of which it makes eight per core.

    What is large and stays, as the tensors of a model do, keeps holes of its own in each heap that it was taken from,
    and decoders of videos start new threads for each of them. To be called before there are threads.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, count)


def nvidia_driver() -> None:
    """Returns where there is a driver for NVIDIA's cards.

    Raises:
        BadSettings: there is none.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(name)
    except OSError:
        raise BadSettings(
            f"The device 'cuda' was asked for, but this machine has no NVIDIA driver ({name} was not found). "
            "Install it, give the container its card (docker run --gpus all), or use --device cpu."
        ) from None


def share_out(threads: int) -> None:
    """Gives the helpers of this process (OpenCV, BLAS) at most so many threads each.

    Calls run side by side already, so one thread each is right in a worker.
    """
    import cv2

    cv2.setNumThreads(threads)
    for path in _loaded("blas", "mkl_rt"):
        library = ctypes.CDLL(path)
        for name in BLAS_SETTERS:
            if hasattr(library, name):
                getattr(library, name)(ctypes.c_int(threads))
                break


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups that bind this process, from the innermost outwards (v1 and v2)."""
    base = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mount = base
        elif controller in controllers.split(","):
            mount = next((base / name for name in (controllers, controller) if (base / name).is_dir()), base)
        else:
            continue
        inner = mount / path.lstrip("/")
        yield inner
        while inner != mount and mount in inner.parents:
            inner = inner.parent
            yield inner
    # Inside a container the path above may be the host's; the mount itself is then the container's own group.
    yield from (base, base / controller, base / "cpu,cpuacct")


def _told_resident_bytes(pid: int | None) -> int:
    import psutil  # workers on Linux need it not

    with suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def _machine_memory(root: Path) -> int:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _loaded(*names: str) -> set[str]:
    """Paths of the shared libraries in this process whose file name holds one of the names."""
    paths = {
        line.split(maxsplit=5)[-1].strip() for line in _text(Path("/proc/self/maps")).splitlines() if ".so" in line
    }
    return {path for path in paths if any(name in Path(path).name for name in names)}


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
