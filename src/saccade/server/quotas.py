"""Sliding windows, exact for any number of callers and front processes: never one call more than the limit.

A call is taken before it is made and given back if it fails. Nothing is estimated: each taken call is remembered
until it leaves the window. (The ``limits`` library was looked at: it has no SQL storage, and cannot give back.)
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec
import sqlalchemy as sql
from sqlalchemy.engine import Connection

from saccade.server.database import Database, hits, windows

SAME_S = 1.0
"""Clocks that differ by less are the same; the time that an answer takes is no difference."""


class Taken(msgspec.Struct, frozen=True):
    """How taking went: ``token`` "" means refused. ``used`` calls are in the window, ``reset_epoch_s`` is when the
    number that was asked for (at least one) fits again, or the oldest call leaves, by this machine's clock."""

    token: str
    used: int
    reset_epoch_s: float


class Windows(Protocol):
    """Where taken calls are remembered. Blocking: call it from a thread."""

    def take(self, key_id: str, limit: int, window_s: int, calls: int) -> Taken:
        """Takes all of the calls, or none."""

    def give_back(self, key_id: str, token: str) -> None:
        """Undoes a take."""

    def look(self, key_id: str, window_s: int) -> Taken:
        """How the window stands, taking nothing."""

    def close(self) -> None:
        """Ends connections."""


class SqlWindows:
    """Windows in the database. The row in ``windows`` is the lock, and counts the rows in ``hits``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, key_id: str, limit: int, window_s: int, calls: int) -> Taken:
        """See :class:`Windows`."""
        with self._database.write() as connection:
            live, now = self._locked(connection, key_id, window_s)
            if live + calls > limit:
                self._save(connection, key_id, live)
                # Calls of the future were taken before the clock was set back; they leave the window as if made now.
                late = hits.update().where(hits.c.key_id == key_id, hits.c.at > now).values(at=now)
                connection.execute(late)
                reset = self._leaves(connection, key_id, live + calls - limit, window_s, now)
                return Taken("", live, here(reset, now))
            token = secrets.token_hex(8)
            connection.execute(hits.insert(), [{"key_id": key_id, "at": now, "token": token}] * calls)
            self._save(connection, key_id, live + calls)
            return Taken(token, live + calls, here(self._leaves(connection, key_id, 1, window_s, now), now))

    def give_back(self, key_id: str, token: str) -> None:
        """See :class:`Windows`."""
        with self._database.write() as connection:
            self._locked(connection, key_id, None)
            gone = connection.execute(hits.delete().where(hits.c.key_id == key_id, hits.c.token == token)).rowcount
            connection.execute(windows.update().where(windows.c.key_id == key_id).values(live=windows.c.live - gone))

    def look(self, key_id: str, window_s: int) -> Taken:
        """See :class:`Windows`."""
        with self._database.read() as connection:
            now = self._now(connection)
            mine, inside = hits.c.key_id == key_id, hits.c.at > now - window_s
            # What has left is soon dropped; to count what is inside takes a tenth of a second, of a million.
            left = sql.select(sql.func.count()).where(mine, ~inside).scalar_subquery()
            oldest = sql.select(sql.func.min(hits.c.at)).where(mine, inside).scalar_subquery()
            found = connection.execute(sql.select(windows.c.live - left, oldest).where(windows.c.key_id == key_id))
            used, first = found.one_or_none() or (0, None)
        return Taken("", used, here(now if first is None else first + window_s, now))

    def close(self) -> None:
        """The database is closed by who opened it."""

    def _locked(self, connection: Connection, key_id: str, window_s: int | None) -> tuple[int, float]:
        """Locks the key's window and drops what left it; how many calls are in it, and what time it is."""
        if not self._database.is_sqlite:
            # A power failure may forget the last moment's calls; waiting for the disk at every call costs far more.
            connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")
        lock = sql.select(windows.c.live).where(windows.c.key_id == key_id).with_for_update()
        live = connection.execute(lock).scalar()
        if live is None:
            fresh = self._database.upsert(windows).values(key_id=key_id, live=0)
            connection.execute(fresh.on_conflict_do_nothing())
            live = connection.execute(lock).scalar_one()
        now = self._now(connection)
        if window_s is not None:
            left = hits.delete().where(hits.c.key_id == key_id, hits.c.at <= now - window_s)
            live -= connection.execute(left).rowcount
        return live, now

    def _now(self, connection: Connection) -> float:
        """The database's clock where several machines share one."""
        if self._database.is_sqlite:
            return time.time()
        return float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())

    @staticmethod
    def _save(connection: Connection, key_id: str, live: int) -> None:
        connection.execute(windows.update().where(windows.c.key_id == key_id).values(live=live))

    @staticmethod
    def _leaves(connection: Connection, key_id: str, nth: int, window_s: int, now: float) -> float:
        """When the ``nth`` oldest call leaves the window."""
        at = connection.execute(
            sql.select(hits.c.at).where(hits.c.key_id == key_id).order_by(hits.c.at).limit(1).offset(nth - 1)
        ).scalar()
        return (now if at is None else float(at)) + window_s


def here(moment: float, now: float) -> float:
    """What this machine's clock will show at a moment of the clock that shows ``now`` where calls are remembered."""
    ahead = time.time() - now
    return moment + ahead if abs(ahead) > SAME_S else moment


def drop(connection: Connection, key_ids: sql.Select[tuple[str]] | Sequence[str]) -> None:
    """Forgets what was taken from windows that nobody can take from any more."""
    for table in (windows, hits):  # in the order in which a take locks them
        connection.execute(table.delete().where(table.c.key_id.in_(key_ids)))
