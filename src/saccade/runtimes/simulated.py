"""A device that computes nothing: for drills and for measuring the engine itself, never for users' models.

A Card with the family and the runtime "simulated" needs no files. What it does is in ``card.config["simulated"]``:
``ms`` is how long one run takes (``per_image_ms`` more for every image of a batch beyond the first), ``parallel`` how
many runs the device does at one time, ``load_ms`` how long opening takes, ``mib`` how much memory it holds,
``card_mib`` how much of a card's, which those of one process share. What goes wrong is there, too: ``crash_after``,
``abort_after``, ``hang_after`` and ``blind_after`` count runs.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from saccade.card import Card, Pixels
from saccade.errors import CorruptFiles, OutOfMemory, RunFailed
from saccade.ops.grids import Grids
from saccade.runtimes.session import Compute

LAST_WORDS = b"simulated(): damaged heap in /home/somebody\n"
"""What an allocator would say before it ends the process."""

CARD_MIB = 1000

_on_the_card: list[SimulatedSession] = []


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """See the module's own description."""

    ms: float = 0.0
    per_image_ms: float = 0.0
    parallel: int = 0
    load_ms: float = 0.0
    mib: int = 0
    card_mib: int = 0
    batchable: bool = True
    crash_on_load: bool = False
    corrupt: bool = False
    crash_after: int = 0
    abort_after: int = 0
    hang_after: int = 0
    blind_after: int = 0
    fail_above: float = 0.0


def RUNTIME(card: Card, pixels: Mapping[str, Pixels], compute: Compute, grids: Grids | None = None) -> SimulatedSession:
    """See :class:`saccade.runtimes.session.Runtime`."""
    return SimulatedSession(msgspec.convert(card.config.get("simulated", {}), Behaviour))


class SimulatedSession:
    """See :class:`saccade.runtimes.session.Session`; its one output (n, 1) is the mean of each image."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.batchable = behaviour.batchable
        self._behaviour = behaviour
        self._runs = 0
        self._lock = threading.Lock()
        self._device = threading.Semaphore(behaviour.parallel) if behaviour.parallel else None
        self._ballast: NDArray[np.uint8] | None = np.ones(behaviour.mib << 20, dtype=np.uint8)
        if behaviour.crash_on_load:
            os.kill(os.getpid(), signal.SIGKILL)
        if behaviour.corrupt:
            raise CorruptFiles("The simulated model is made to be corrupt.")
        if behaviour.card_mib + sum(one._behaviour.card_mib for one in _on_the_card) > CARD_MIB:
            raise OutOfMemory("The simulated card has no more memory.")
        _on_the_card.append(self)
        time.sleep(behaviour.load_ms / 1e3)

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """See the contract."""
        images = tensors[""]
        if self._device is None:
            self._take_time(len(images))
        else:
            with self._device:
                self._take_time(len(images))
        seen = images.reshape(len(images), -1).mean(axis=1, dtype=np.float32, keepdims=True)
        if self._behaviour.fail_above and seen.max() > self._behaviour.fail_above:
            raise RunFailed("The simulated model is made to fail on bright images.")
        blind = 0 < self._behaviour.blind_after < self._runs
        return [np.zeros_like(seen) if blind else seen]

    def close(self) -> None:
        """See the contract."""
        self._ballast = None
        if self in _on_the_card:
            _on_the_card.remove(self)

    def _take_time(self, count: int) -> None:
        with self._lock:
            self._runs += 1
            runs = self._runs
        if 0 < self._behaviour.crash_after < runs:
            os.kill(os.getpid(), signal.SIGKILL)
        if 0 < self._behaviour.abort_after < runs:
            os.write(2, LAST_WORDS)
            os.abort()
        if 0 < self._behaviour.hang_after < runs:
            time.sleep(3600)
        pause_ms = self._behaviour.ms + self._behaviour.per_image_ms * (count - 1)
        if pause_ms:
            time.sleep(pause_ms / 1e3)
