"""Runs the heavy tests in two lanes side by side, for they mostly wait; what fails is tried once more, alone.

    python tests/lanes.py [WORD …]

Words go to pytest. What starts Ray clusters or browsers is in one lane, so that there is one of each at a time; what
converts checkpoints is in the other, which gives way.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent
FIRST = ("cluster", "browser", "server", "engine", "endpoints", "stores", "benchmarks", "test_oldest.py")
"""The last two so that both lanes end at about the same time."""
NOTHING_TO_DO = 5
"""What pytest exits with when it has no test to run."""


def main(*words: str) -> int:
    """0 when every test passed, at the latest when it was tried again."""
    first = [str(TESTS / name) for name in FIRST]
    second = [str(path) for path in sorted(TESTS.iterdir()) if path.name not in FIRST and _holds_tests(path)]
    with tempfile.TemporaryFile("w+") as said:
        gives_way = {"stdout": said, "stderr": subprocess.STDOUT, "preexec_fn": lambda: os.nice(19)}
        beside = subprocess.Popen(command("second", second, words), **gives_way)
        codes = {"first": subprocess.run(command("first", first, words)).returncode}
        codes["second"] = beside.wait()
        said.seek(0)
        print(said.read(), flush=True)
    for lane, paths in (("first", first), ("second", second)):
        if codes[lane] not in (0, NOTHING_TO_DO):
            again = (*words, "--last-failed", "--last-failed-no-failures=none")
            codes[lane] = subprocess.run(command(lane, paths, again)).returncode
    return max(0 if code == NOTHING_TO_DO else code for code in codes.values())


def command(lane: str, paths: list[str], words: tuple[str, ...]) -> list[str]:
    """Each lane remembers by itself what failed."""
    kept = f"cache_dir=.pytest_cache/{lane}"
    return [sys.executable, "-m", "pytest", "-m", "heavy", "-o", kept, "--durations=15", *words, *paths]


def _holds_tests(path: Path) -> bool:
    return path.name.startswith("test_") if path.is_file() else any(path.glob("test_*.py"))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
