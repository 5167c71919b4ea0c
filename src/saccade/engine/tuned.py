"""How many streams and threads a model is fastest with on this machine: measured on request, remembered, used.

Without a measurement a model has as many streams as there are threads, which is best for most models on most
processors; a graph with large layers and little cache may be faster with fewer.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

from saccade.card import Card
from saccade.model import Model
from saccade.runtimes.session import Compute

FILE = "tuned.json"
CLEARLY = 1.05
"""Another way must be so much faster than the usual one to be kept."""

ROUND_S = 1.0
ROUNDS = 3


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run a model, and its pace: images a second side by side, and milliseconds of a lone image."""

    streams: int
    threads: int
    precision: str
    per_second: float
    lone_ms: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """All trials, the usual way first, and the best of them."""

    model: str
    trials: tuple[Trial, ...]
    best: Trial


def tune(
    card: Card,
    compute: Compute,
    progress: Callable[[int, int], None] = lambda done, total: None,
    round_s: float = ROUND_S,
) -> Outcome:
    """Tries every sensible way with an image of noise and remembers the best.

    ``compute.threads`` is the whole budget; ``compute.precision`` "auto" also tries f32. The model should be alone on
    the machine meanwhile. The runs are interleaved, so that a disturbance meets all ways alike.

    Raises:
        CorruptFiles, UnsupportedModel, MissingExtra, RunFailed: as the model does.
    """
    _write(compute, _kept(compute))  # what cannot be kept is told now, and not after minutes
    ways = list(dict.fromkeys(_ways(compute)))
    rates: list[list[float]] = [[] for _ in ways]
    lone: list[list[float]] = [[] for _ in ways]
    with contextlib.ExitStack() as stack:
        models = [stack.enter_context(contextlib.closing(Model(card, way))) for way in ways]
        image = np.random.default_rng(7).integers(0, 255, (480, 640, 3), np.uint8)
        tensors = models[0].prepare(image, models[0].trial).tensors
        for number in range(ROUNDS):
            for place, (way, model) in enumerate(zip(ways, models, strict=True)):
                model.run(tensors)
                begun = time.perf_counter()
                model.run(tensors)
                lone[place].append((time.perf_counter() - begun) * 1e3)
                rates[place].append(_rate(lambda model=model: model.run(tensors), way.streams, round_s))  # type: ignore[misc]
                progress(number * len(ways) + place + 1, ROUNDS * len(ways))
    trials = tuple(
        Trial(
            streams=way.streams,
            threads=way.threads,
            precision=way.precision,
            per_second=round(sorted(rates[place])[ROUNDS // 2], 2),
            lone_ms=round(min(lone[place]), 2),
        )
        for place, way in enumerate(ways)
    )
    fastest = max(trials, key=lambda trial: trial.per_second)
    best = fastest if fastest.per_second > CLEARLY * trials[0].per_second else trials[0]
    _write(compute, _kept(compute) | {_key(card, compute): best})
    return Outcome(model=card.name, trials=trials, best=best)


def tuned(card: Card, compute: Compute) -> Compute:
    """The same with what was found best for these files on this machine; unchanged if nothing was measured."""
    found = _kept(compute).get(_key(card, compute))
    if found is None:
        return compute
    precision = "f32" if found.precision == "f32" else compute.precision
    return msgspec.structs.replace(compute, streams=found.streams, threads=found.threads, precision=precision)


def _ways(compute: Compute) -> Iterator[Compute]:
    """The usual way, then fewer streams, fewer threads, and exact arithmetic."""
    budget = compute.threads
    usual = msgspec.structs.replace(compute, streams=budget, lone=False, shapes=0)
    yield usual
    for streams in (max(1, budget // 2), max(1, budget // 4), 1):
        yield msgspec.structs.replace(usual, streams=streams)
    if budget > 2:
        yield msgspec.structs.replace(usual, streams=budget // 2, threads=budget // 2)
    if compute.precision == "auto":
        yield msgspec.structs.replace(usual, precision="f32")


def _rate(run: Callable[[], object], side_by_side: int, round_s: float) -> float:
    """Runs per second, so many side by side."""
    begun = time.perf_counter()
    end = begun + round_s

    def until() -> int:
        count = 0
        while count == 0 or time.perf_counter() < end:
            run()
            count += 1
        return count

    with ThreadPoolExecutor(side_by_side) as pool:
        try:
            runs = sum(done.result() for done in [pool.submit(until) for _ in range(side_by_side)])
        except BaseException:  # with Ctrl-C nobody waits for the end of the round
            end = begun
            raise
    return runs / (time.perf_counter() - begun)


def _kept(compute: Compute) -> dict[str, Trial]:
    if compute.cache_dir is None:
        return {}
    try:
        return msgspec.json.decode((Path(compute.cache_dir) / FILE).read_bytes(), type=dict[str, Trial])
    except (OSError, msgspec.MsgspecError):
        return {}


def _write(compute: Compute, kept: dict[str, Trial]) -> None:
    if compute.cache_dir is None:
        return
    path = Path(compute.cache_dir) / FILE
    draft = path.with_suffix(f".{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(kept)))
    draft.replace(path)


def _key(card: Card, compute: Compute) -> str:
    parts = (card.name, card.revision, card.runtime, compute.device, compute.precision, compute.threads, processor())
    return " ".join(map(str, parts))


def processor() -> str:
    """This machine's processor, in the system's words."""
    import platform

    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
