"""Sliding windows in Redis, for front processes on several machines."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from typing import Any

from saccade.errors import BadSettings, MissingExtra
from saccade.server.database import unusable
from saccade.server.quotas import Taken, here

NAME = "saccade:window:"

PATIENCE_S = 2.0
"""What is asked of Redis takes it microseconds; callers without a limit wait in line behind those who have one."""

PAUSE_S = 5.0
"""A Redis that hangs is left alone for so long, and who needs it is refused at once."""

TAKE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local limit, window, calls, token = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', now - window))
local live = redis.call('ZCARD', KEYS[1])
local nth, taken = 0, 0
if live + calls > limit then
  nth = live + calls - limit - 1
else
  for call = 1, calls do
    redis.call('ZADD', KEYS[1], string.format('%.6f', now), token .. ':' .. call)
  end
  redis.call('EXPIRE', KEYS[1], window + 1)
  live, taken = live + calls, 1
end
local oldest = redis.call('ZRANGE', KEYS[1], nth, nth, 'WITHSCORES')
return {taken, live, oldest[2] or string.format('%.6f', now), string.format('%.6f', now)}
"""
"""Redis runs a script as one step, so two fronts never take the same call. Times are Redis's own."""


class RedisWindows:
    """Windows in Redis; each is a sorted set of its calls by time."""

    def __init__(self, url: str) -> None:
        """Raises BadSettings when Redis does not answer, MissingExtra without its library."""
        try:
            import redis
        except ModuleNotFoundError as error:
            raise MissingExtra("Redis", extra="redis") from error
        try:
            self._redis: Any = redis.Redis.from_url(url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S)
            self._redis.ping()
        except ValueError as error:
            raise BadSettings("The setting 'redis_url' is no Redis URL, like redis://host:6379/0.") from error
        except redis.RedisError as error:
            raise BadSettings(
                f"Redis cannot be used ({type(error).__name__}). Check the setting 'redis_url', and that Redis runs."
            ) from error
        self._take = self._redis.register_script(TAKE)
        self._failures, self._silence = redis.RedisError, redis.TimeoutError
        self._rests_until = 0.0

    def take(self, key_id: str, limit: int, window_s: int, calls: int) -> Taken:
        """All of the calls, or none."""
        token = secrets.token_hex(8)
        with self._told():
            taken, live, oldest, now = self._take(keys=[NAME + key_id], args=[limit, window_s, calls, token])
            if not taken and float(oldest) > float(now):
                # Calls of the future were taken before the clock was set back; they leave the window as if made now.
                late = self._redis.zrangebyscore(NAME + key_id, f"({float(now):.6f}", "+inf")
                self._redis.zadd(NAME + key_id, dict.fromkeys(late, float(now)), xx=True)
                self._redis.expire(NAME + key_id, window_s + 1)
                oldest = now
        return Taken(f"{token}:{calls}" if taken else "", int(live), here(float(oldest) + window_s, float(now)))

    def give_back(self, key_id: str, token: str) -> None:
        """Undoes a take."""
        name, _, calls = token.partition(":")
        with self._told():
            self._redis.zrem(NAME + key_id, *(f"{name}:{call + 1}" for call in range(int(calls))))

    def look(self, key_id: str, window_s: int) -> Taken:
        """How the window stands, taking nothing."""
        with self._told():
            seconds, micros = self._redis.time()
            now = seconds + micros / 1e6
            live = self._redis.zcount(NAME + key_id, f"({now - window_s:.6f}", "+inf")
            oldest = self._redis.zrangebyscore(NAME + key_id, f"({now - window_s:.6f}", "+inf", 0, 1, withscores=True)
        return Taken("", int(live), here((oldest[0][1] if oldest else now - window_s) + window_s, now))

    def close(self) -> None:
        """Ends connections."""
        self._redis.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever Redis fails by is told in a sentence, by its kind: its words may hold an address with a password.

        Raises:
            Unreachable: it is gone, full, hangs, or may only be read.
        """
        if time.monotonic() < self._rests_until:
            raise unusable("Redis", self._silence.__name__)
        try:
            yield
        except self._failures as error:
            if isinstance(error, self._silence):
                self._rests_until = time.monotonic() + PAUSE_S
            raise unusable("Redis", type(error).__name__) from error
