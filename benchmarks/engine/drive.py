"""Callers for the benchmarks, and how their figures are told."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from saccade.errors import Error

One = Callable[[int], Awaitable[Any]]


class Figures:
    """What a run of calls came to; latencies in seconds, of answered calls only."""

    def __init__(self, keep: int | None = None) -> None:
        """``keep`` the last so many latencies only, so that the measurement itself does not grow."""
        self.answered = 0
        self.latencies: deque[float] = deque(maxlen=keep)
        self.refusals: deque[float] = deque(maxlen=keep)
        self.errors: Counter[str] = Counter()
        self.seconds = 0.0

    def note(self, seconds: float) -> None:
        """One more answer, which took so long."""
        self.answered += 1
        self.latencies.append(seconds)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answered / self.seconds if self.seconds else 0.0

    def ms(self, part: float, of: Iterable[float] | None = None) -> float:
        """A percentile in milliseconds; 0.5 is the median."""
        values = sorted(self.latencies if of is None else of)
        return values[min(len(values) - 1, int(len(values) * part))] * 1e3 if values else 0.0

    def row(self) -> dict[str, float]:
        """As numbers for a table."""
        return {
            "per_s": round(self.rate, 1),
            "p50_ms": round(self.ms(0.5), 3),
            "p90_ms": round(self.ms(0.9), 3),
            "p99_ms": round(self.ms(0.99), 3),
        }


async def one_call(figures: Figures, work: Awaitable[Any]) -> Any:
    """Awaits one call and notes what came of it."""
    begun = time.perf_counter()
    try:
        answer = await work
    except Error as error:
        figures.errors[type(error).__name__] += 1
        figures.refusals.append(time.perf_counter() - begun)
        return None
    figures.note(time.perf_counter() - begun)
    return answer


async def closed(one: One, concurrency: int, count: int) -> Figures:
    """``count`` calls by so many callers, each waiting for its answer before the next."""
    figures = Figures()
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await one_call(figures, one(number))

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    figures.seconds = time.perf_counter() - begun
    return figures


async def offered(one: One, per_s: float, seconds: float, chance: random.Random | None = None) -> Figures:
    """Calls at a rate, whether or not earlier ones were answered; in even steps, or as chance (a Poisson process) has
    them come."""
    figures = Figures()
    tasks: set[asyncio.Task[Any]] = set()
    begun = time.perf_counter()
    number, due = 0, 0.0
    while (now := time.perf_counter() - begun) < seconds:
        while due < now:
            task = asyncio.create_task(one_call(figures, one(number)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
            due += 1 / per_s if chance is None else chance.expovariate(per_s)
        await asyncio.sleep(min(0.002, 1 / per_s))
    figures.seconds = time.perf_counter() - begun
    await asyncio.gather(*tasks)
    return figures


def cpu_s() -> float:
    """CPU time of this process and its workers."""
    here = psutil.Process()
    return float(sum(sum(process.cpu_times()[:2]) for process in [here, *here.children(recursive=True)]))


def tree_bytes() -> int:
    """Memory that would come back if this process and its workers ended: their private pages (USS).

    Shares of common pages would move with what else runs on the machine.
    """
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            total += process.memory_full_info().uss
        except psutil.Error:
            continue
    return total


def arguments(what: str, **defaults: float) -> argparse.Namespace:
    """The command line of a benchmark: its own numbers, and where the figures go."""
    parser = argparse.ArgumentParser(description=what)
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    return parser.parse_args()


def tell(what: str, figures: dict[str, Any], path: Path | None) -> None:
    """Prints a benchmark's figures with what is needed to judge them."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    head = {
        "benchmark": what,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "cpu": f"{len(os.sched_getaffinity(0))} × {_cpu()}",
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }
    text = json.dumps(head | figures, indent=2, ensure_ascii=False)
    sys.stdout.write(text + "\n")
    if path is not None:
        path.write_text(text + "\n")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
