"""Cached answers in Redis, shared by several servers."""

from __future__ import annotations

import logging
import time
from typing import Any

from msgspec import DecodeError

from saccade.call import Answer
from saccade.engine import wire
from saccade.errors import MissingExtra

log = logging.getLogger("saccade.engine")

PREFIX = b"saccade:answer:1:"
"""With the version of the form, so that servers of different versions can share one Redis."""

PATIENCE_S = 0.25
"""A cache that is slower than this is no help."""

PAUSE_S = 5.0
"""A Redis that failed is left alone for so long: while it hangs, every call would wait for it twice."""

LARGEST_BYTES = 4 << 20

LONGEST_S = 10 * 365 * 86_400
"""Redis refuses times that end beyond what it counts."""


class RedisShelf:
    """See :class:`saccade.engine.cache.Shelf`. An unreachable Redis is a cache that holds nothing."""

    def __init__(self, url: str, ttl_s: float) -> None:
        """Raises: MissingExtra."""
        try:
            import redis.asyncio as client
        except ImportError:
            raise MissingExtra("A shared cache", extra="redis") from None
        self._ttl_ms = max(1, int(min(ttl_s, LONGEST_S) * 1000))
        self._redis: Any = client.Redis.from_url(url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S)
        self._told = False
        self._rests_until = 0.0

    async def get(self, key: bytes) -> tuple[Answer, float] | None:
        """See the contract."""
        if time.monotonic() < self._rests_until:
            return None
        try:
            both = self._redis.pipeline(transaction=False).get(PREFIX + key).pttl(PREFIX + key)
            data, left_ms = await both.execute()
            return None if data is None else (wire.unpacked_answer(data), max(0, left_ms) / 1000)
        except DecodeError:
            return None
        except Exception as error:
            self._tell(error)
            return None

    async def put(self, key: bytes, answer: Answer) -> None:
        """See the contract."""
        if time.monotonic() < self._rests_until:
            return
        data = wire.packed_answer(answer)
        if len(data) > LARGEST_BYTES:
            return
        try:
            await self._redis.set(PREFIX + key, data, px=self._ttl_ms)
        except Exception as error:
            self._tell(error)

    async def close(self) -> None:
        """See the contract."""
        await self._redis.aclose()

    def _tell(self, error: Exception) -> None:
        """Once, not for every call; the type only, as the text may hold the address with its password."""
        self._rests_until = time.monotonic() + PAUSE_S
        if not self._told:
            log.warning(
                "the shared cache cannot be used (%s); answers are cached in this process only", type(error).__name__
            )
            self._told = True
