"""Whether a model is faster with images side by side or in batches; measured on this machine, and remembered.

On a processor parallel streams usually win, on a graphics card batches do; a model with much small work may differ.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from saccade.card import Card
from saccade.errors import Error
from saccade.runtimes.session import Compute

log = logging.getLogger("saccade.engine")

FILE = "paces.json"
SIZES = (4, 8, 16, 32)
CLEARLY = 1.1
"""A batch must be so much faster to be worth the wait for each other."""

PATIENCE_S = 1.5
"""No more time than this is spent on measuring."""

Tensors = Mapping[str, NDArray[Any]]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured: images per second one by one, and in batches of the best size (1: batches are no faster)."""

    singles_per_s: float
    batches_per_s: float
    batch: int


def measured(run: Callable[[Tensors], Any], tensors: Tensors, streams: int, largest: int) -> Pace:
    """The pace of a session with ``streams`` runs side by side, on one image's tensors."""
    begun = time.monotonic()
    once = _timed(run, tensors)
    repeats = max(1, min(8, int(PATIENCE_S / 4 / max(once, 1e-6))))
    singles = _rate(run, tensors, streams, repeats)
    best_rate, best = singles, 1
    for size in SIZES:
        expected = size / singles * streams
        if size > largest or time.monotonic() - begun + 2 * expected > PATIENCE_S:
            break
        stacked = {name: np.repeat(tensor, size, axis=0) for name, tensor in tensors.items()}
        try:
            _timed(run, stacked)
            rate = _rate(run, stacked, streams, 1) * size
        except (Error, MemoryError):
            break
        if rate > best_rate * CLEARLY:
            best_rate, best = rate, size
    return Pace(singles_per_s=singles, batches_per_s=best_rate, batch=best)


def recall(card: Card, compute: Compute) -> Pace | None:
    """What was measured for these files on this machine before."""
    path = _path(compute)
    if path is None:
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Pace]).get(_key(card, compute))
    except (OSError, msgspec.MsgspecError):
        return None


def remember(card: Card, compute: Compute, pace: Pace) -> None:
    """Keeps a measurement; losing one to another process that writes now costs a second measurement, no more."""
    path = _path(compute)
    if path is None:
        return
    kept: dict[str, Pace] = {}
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        kept = msgspec.json.decode(path.read_bytes(), type=dict[str, Pace])
    kept[_key(card, compute)] = pace
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(kept)))
        draft.replace(path)
    except OSError as error:
        log.warning("what was measured cannot be kept: %s", error.strerror)


def _timed(run: Callable[[Tensors], Any], tensors: Tensors) -> float:
    begun = time.monotonic()
    run(tensors)
    return time.monotonic() - begun


def _rate(run: Callable[[Tensors], Any], tensors: Tensors, side_by_side: int, repeats: int) -> float:
    """Runs per second, so many side by side, each repeated."""

    def several() -> None:
        for _ in range(repeats):
            run(tensors)

    begun = time.monotonic()
    with ThreadPoolExecutor(side_by_side) as pool:
        for done in [pool.submit(several) for _ in range(side_by_side)]:
            done.result()
    return side_by_side * repeats / max(1e-9, time.monotonic() - begun)


def _path(compute: Compute) -> Path | None:
    return None if compute.cache_dir is None else Path(compute.cache_dir) / FILE


def _key(card: Card, compute: Compute) -> str:
    parts = (
        card.name,
        card.revision,
        card.runtime,
        compute.device,
        compute.precision,
        compute.threads,
        compute.streams,
    )
    return " ".join(map(str, parts))
