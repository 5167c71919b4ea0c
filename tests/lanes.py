"""Runs the heavy tests in two lanes side by side, for they mostly wait; what fails is tried once more, alone.

    python tests/lanes.py [WORD …]

Words go to pytest. Each lane has rooms of tests of its own and takes the other's last ones when it is done, so that
both end at about the same time on every machine. Ray clusters and browsers start in one lane alone, so that there is
one of each at a time; rooms in which checkpoints are converted give way to the others.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent
FIRST = ("cluster", "browser", "server", "engine", "stores", "benchmarks", "test_oldest.py")
SECOND = ("clients", "convert", "cli")
"""What neither lane names is the last room of the second."""
ALONE = ("cluster", "browser")
NOTHING_TO_DO = 5
"""What pytest exits with when it has no test to run."""


@dataclass(frozen=True)
class Room:
    """Tests that one pytest runs."""

    name: str
    paths: tuple[str, ...]
    stays: bool = False
    gives_way: bool = False


def main(*words: str) -> int:
    """0 when every test passed, at the latest when it was tried again."""
    failed: list[Room] = []

    def run(room: Room) -> None:
        began = time.monotonic()
        print(f"{room.name} ...", flush=True)
        line = ["nice", "-n", "19"] * room.gives_way + command(room, words)
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(f"{done.stdout}\n{room.name}: {time.monotonic() - began:.0f} s\n", flush=True)
        if done.returncode not in (0, NOTHING_TO_DO):
            failed.append(room)

    side_by_side(*lanes(), run)
    again = (*words, "--last-failed", "--last-failed-no-failures=none")
    codes = [subprocess.run(command(room, again)).returncode for room in failed]
    return max((code for code in codes if code != NOTHING_TO_DO), default=0)


def lanes() -> tuple[list[Room], list[Room]]:
    """Every test of the house is in one room."""
    named = {TESTS / name for name in (*FIRST, *SECOND)}
    others = [str(path) for path in sorted(TESTS.iterdir()) if path not in named and _holds_tests(path)]
    first = [Room(name, (str(TESTS / name),), stays=name in ALONE) for name in FIRST]
    second = [Room(name, (str(TESTS / name),), gives_way=True) for name in SECOND]
    return first, [*second, Room("the others", tuple(others), gives_way=True)]


def side_by_side(first: Sequence[Room], second: Sequence[Room], run: Callable[[Room], None]) -> None:
    """Both lanes from their first room on; who is done takes the other's last room unless that one stays there."""
    queues = deque(first), deque(second)
    taking = threading.Lock()

    def take(own: deque[Room], other: deque[Room]) -> Room | None:
        with taking:
            if own:
                return own.popleft()
            return None if not other or other[-1].stays else other.pop()

    def walk(own: deque[Room], other: deque[Room]) -> None:
        while (room := take(own, other)) is not None:
            run(room)

    beside = threading.Thread(target=walk, args=(queues[1], queues[0]))
    beside.start()
    try:
        walk(*queues)
    finally:  # also when somebody interrupts
        with taking:
            for queue in queues:
                queue.clear()
        beside.join()


def command(room: Room, words: tuple[str, ...]) -> list[str]:
    """Each room remembers by itself what failed."""
    kept = f"cache_dir=.pytest_cache/{room.name}"
    return [sys.executable, "-m", "pytest", "-m", "heavy", "-o", kept, "--durations=15", *words, *room.paths]


def _holds_tests(path: Path) -> bool:
    return path.name.startswith("test_") if path.is_file() else any(path.glob("test_*.py"))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
