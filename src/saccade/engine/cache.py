"""Answers that were given before: the same image, model, task and options give the same answer.

Kept by bytes, not by count, the least recently used leave first, and nothing is kept for ever.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec.structs import replace

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.engine import wire

OVERHEAD_BYTES = 600
"""What an entry costs beside its bytes, at most: the objects around them."""


class Shelf(Protocol):
    """Where answers are kept outside this process."""

    async def get(self, key: bytes) -> tuple[Answer, float] | None:
        """The answer and for how many seconds it will be kept, or None; also when the shelf cannot be reached."""

    async def put(self, key: bytes, answer: Answer) -> None:
        """Keeps an answer; silent when the shelf cannot be reached."""

    async def close(self) -> None:
        """Lets go of connections."""


@dataclass(slots=True)
class Kept:
    """One answer, packed: as objects it takes several times as much, and its arrays hold on to all that was read from
    the worker together with it."""

    packed: bytes
    size: int
    until: float


class Cache:
    """Answers in memory, at most ``limit_bytes`` of them, each for ``ttl_s`` seconds. Used from the event loop only."""

    def __init__(self, limit_bytes: int, ttl_s: float, shelf: Shelf | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self._ttl_s = ttl_s
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._shelf = shelf

    async def get(self, key: bytes) -> Answer | None:
        """The answer that was given before, marked as cached, or None."""
        answer = self._here(key)
        if answer is None and self._shelf is not None:
            found = await self._shelf.get(key)
            if found is not None:
                answer, left_s = found
                self._keep(key, answer, left_s)
        if answer is None:
            self.misses += 1
            return None
        self.hits += 1
        return replace(answer, cached=True)

    async def put(self, key: bytes, answer: Answer) -> None:
        """Keeps an answer, here and on the shared shelf."""
        self._keep(key, answer, self._ttl_s)
        if self._shelf is not None:
            await self._shelf.put(key, answer)

    async def close(self) -> None:
        """Forgets everything that is kept here."""
        self._kept.clear()
        self.bytes = 0
        if self._shelf is not None:
            await self._shelf.close()

    def _here(self, key: bytes) -> Answer | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until < time.monotonic():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return wire.unpacked_answer(kept.packed)

    def _keep(self, key: bytes, answer: Answer, left_s: float) -> None:
        packed = wire.packed_answer(answer)
        size = len(packed) + OVERHEAD_BYTES
        if size > self.limit_bytes // 4:
            return
        packed = bytes(memoryview(packed))  # the encoder leaves room behind what it makes
        self._drop(key)
        self._kept[key] = Kept(packed, size, time.monotonic() + min(left_s, self._ttl_s))
        self.bytes += size
        while self.bytes > self.limit_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.bytes -= kept.size


def key_of(card: Card, call: Call, precision: str) -> bytes:
    """The same for two calls only if their answers are: model, files, task, options and image."""
    digest = hashlib.sha256(call.media)
    choices = (card.name, card.revision, card.task, card.family, precision, call.annotate, call.options)
    digest.update(msgspec.msgpack.encode(choices))
    return digest.digest()
