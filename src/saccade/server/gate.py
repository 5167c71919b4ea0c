"""The gates of a server: who may call what, how often, and how much they did."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import sqlalchemy as sql

from saccade.call import Answer
from saccade.dialects.yolo_refusals import iso_time
from saccade.errors import Forbidden, NoKey, Unreachable
from saccade.server.access import ANYBODY, Caller, OpenGate, Standing, Ticket, key_in, spent
from saccade.server.database import Database, unusable, usage
from saccade.server.keys import Key, Keys
from saccade.server.quotas import SqlWindows, Taken, Windows
from saccade.server.settings import Settings
from saccade.server.shapes import UsedOnDay

log = logging.getLogger("saccade.server")

T = TypeVar("T")

OPEN_S = 0.5
"""How long a server without keys believes that it still has none. Keys themselves are looked up at every request, so
that a revoked one is refused everywhere at once."""

PATIENCE_S = 20.0
"""Longest wait for the database, in line behind others too; longer than a writer waits for another process."""

COUNT_S = 1.0
"""How often counted usage is written down."""

AGAIN_S = 5.0
"""How often is tried again what the database did not take."""

WRONG = "Missing or invalid key. Send yours in the header 'x-api-key', or as 'Authorization: Bearer KEY'."
"""One sentence for missing, unknown, expired and revoked keys: nobody learns which it is."""


class Counting:
    """What the gates have in common: windows in which calls are counted, and threads that wait for the database."""

    def __init__(self, database: Database, windows: Windows | None = None) -> None:
        self.database = database
        self.windows = windows or SqlWindows(database)
        self._threads = ThreadPoolExecutor(1 if database.is_sqlite else 8, "saccade-keys")
        # Whoever else writes to SQLite, a backup for instance, holds up who writes here; keys are looked up meanwhile.
        self._writers = ThreadPoolExecutor(1, "saccade-writes") if database.is_sqlite else self._threads
        # Nor does anybody wait for who reads thousands of rows.
        self._readers = ThreadPoolExecutor(1, "saccade-reads")
        self._owed: list[tuple[str, str]] = []
        self._paying: asyncio.Future[None] | None = None

    async def take_from(self, window: str, limit: int, window_s: int, caller: Caller, models: Sequence[str]) -> Ticket:
        """See :class:`saccade.server.access.Gate`."""
        tokens: list[str] = []
        left, deciding = False, threading.Lock()

        def take() -> Taken:
            taken = self.windows.take(window, limit, window_s, len(models))
            with deciding:
                if not left:
                    tokens.append(taken.token)
            if left and taken.token:
                self.windows.give_back(window, taken.token)
            return taken

        try:
            taken = await self.written(take)
        except BaseException:  # nobody waits any more for what may be taken all the same, or was a moment ago
            with deciding:
                left = True
            if any(tokens):
                self._owe(window, tokens[0], 0.0)
            raise
        standing = _standing(taken, limit, window_s)
        if not taken.token:
            raise spent(standing, len(models))
        return Ticket(caller, standing, taken.token, tuple(models), window)

    async def give_back(self, ticket: Ticket) -> Ticket:
        """See :class:`saccade.server.access.Gate`. What cannot be given back now is given back later."""
        before, token = ticket.standing, ticket.token
        if token and before is not None:
            ticket.token = ""
            window = ticket.window or ticket.caller.id
            try:
                ticket.standing = await self.written(lambda: self._given_back(window, token, before))
            except BaseException as error:  # or its caller leaves just now
                unreachable = isinstance(error, Unreachable)
                self._owe(window, token, AGAIN_S if unreachable else 0.0)
                if not unreachable:
                    raise
        return ticket

    async def standing_of(self, window: str, limit: int, window_s: int) -> Standing:
        """See :class:`saccade.server.access.Gate`."""
        return _standing(await self.threaded(lambda: self.windows.look(window, window_s)), limit, window_s)

    async def threaded(self, work: Callable[[], T]) -> T:
        """Runs something that reads from the database off the event loop. Raises Unreachable."""
        return await self._within_patience(self._threads, work)

    async def listed(self, work: Callable[[], T]) -> T:
        """The same for what may take seconds, as a list of all there is. Raises Unreachable."""
        return await self._within_patience(self._readers, work)

    async def written(self, work: Callable[[], T]) -> T:
        """Runs something that writes to the database off the event loop. Raises Unreachable."""
        return await self._within_patience(self._writers, work)

    async def close(self) -> None:
        """Ends connections."""
        if self._paying is not None:
            self._paying.cancel()
        with contextlib.suppress(Unreachable):
            await self._pay()
        for threads in (self._threads, self._readers, self._writers):
            threads.shutdown(cancel_futures=True)
        self.windows.close()
        self.database.close()

    async def _within_patience(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        waiting = loop.run_in_executor(threads, work)
        late = loop.call_later(PATIENCE_S, waiting.cancel)
        try:
            return await waiting
        except asyncio.CancelledError:
            if late.when() > loop.time():
                raise
            raise unusable("database", "it does not answer in time") from None
        finally:
            late.cancel()

    def _owe(self, window: str, token: str, pause_s: float) -> None:
        """What was taken is given back after a pause, and tried again until it is."""
        self._owed.append((window, token))
        if self._paying is None:
            self._paying = asyncio.ensure_future(self._pay_later(pause_s))

    async def _pay_later(self, pause_s: float) -> None:
        while self._owed:
            await asyncio.sleep(pause_s)
            pause_s = AGAIN_S
            with contextlib.suppress(Unreachable, RuntimeError):
                await self._pay()
        self._paying = None

    async def _pay(self) -> None:
        while self._owed:
            await self.written(functools.partial(self.windows.give_back, *self._owed[0]))
            del self._owed[0]

    def _given_back(self, window: str, token: str, before: Standing) -> Standing:
        self.windows.give_back(window, token)
        return _standing(self.windows.look(window, before.window_s), before.limit, before.window_s)


class CountingOpenGate(Counting, OpenGate):
    """Lets everybody in, for a server without keys; the limits of its endpoints hold all the same."""


class KeyGate(Counting):
    """Keys from the database, quotas from windows; ``open_without_keys``: everybody may until the first key exists."""

    def __init__(
        self, database: Database, settings: Settings, windows: Windows | None = None, *, open_without_keys: bool = False
    ) -> None:
        super().__init__(database, windows)
        self.keys = Keys(database)
        self._default = (settings.quota_calls, settings.quota_window_s)
        self._may_open = open_without_keys
        self._open, self._open_checked = False, float("-inf")
        self._counts: Counter[tuple[str, str, str, bool]] = Counter()
        self._used: dict[str, float] = {}
        self._counting: asyncio.Future[None] | None = None
        self._tallying = threading.Lock()
        self._writing = threading.Lock()
        self._unwritten: tuple[Counter[tuple[str, str, str, bool]], dict[str, float]] = (Counter(), {})

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """See :class:`saccade.server.access.Gate`."""
        if self._may_open and await self.is_open():
            return ANYBODY
        secret = key_in(headers)
        if not secret:
            raise NoKey(WRONG)
        key = await self.threaded(lambda: self.keys.find(secret))
        if key is None or not key.valid(time.time()):
            raise NoKey(WRONG)
        return self._caller(key)

    async def take(self, caller: Caller, models: Sequence[str]) -> Ticket:
        """See :class:`saccade.server.access.Gate`."""
        if caller is ANYBODY:
            return Ticket(caller, models=tuple(models))
        caller, limit, window_s = await self.threaded(lambda: self._allowed(caller.id, models))
        if limit == 0:
            return Ticket(caller, models=tuple(models))
        return await self.take_from(caller.id, limit, window_s, caller, models)

    async def standing(self, caller: Caller) -> Standing | None:
        """See :class:`saccade.server.access.Gate`."""
        return None if caller is ANYBODY else await self.threaded(lambda: self._standing(caller))

    def count(self, ticket: Ticket, answers: Sequence[Answer]) -> None:
        """See :class:`saccade.server.access.Gate`."""
        day = datetime.now(UTC).date().isoformat()
        with self._tallying:
            for model in ticket.models or {answer.model for answer in answers}:
                self._counts[day, ticket.caller.id, model, not answers] += 1
            self._used[ticket.caller.id] = time.time()
        if self._counting is None:
            self._counting = asyncio.ensure_future(self._count_later())

    async def usage(self, caller: Caller, days: int = 30, everybody: bool = False) -> dict[str, Any]:
        """See :class:`saccade.server.access.Gate`."""
        await self.written(self._write_counts)
        return await self.listed(lambda: self._usage(caller, days, everybody))

    async def is_open(self) -> bool:
        """Whether no key exists, on a server that is open until then."""
        now = time.monotonic()
        if self._may_open and now - self._open_checked > OPEN_S:
            self._open = self._may_open = not await self.threaded(self.keys.exist)
            self._open_checked = now
        return self._open

    def forget(self) -> None:
        """Looks anew whether keys exist: they were changed in this process."""
        self._open_checked = float("-inf")

    async def settle(self) -> None:
        """Writes down what was counted until now."""
        await self.written(self._write_counts)

    async def close(self) -> None:
        """Writes down what was counted and ends connections."""
        if self._counting is not None:
            self._counting.cancel()
        with contextlib.suppress(Unreachable):
            await self.written(self._write_counts)
        lost = self._unwritten[0].total()
        if lost:
            log.error("the usage of the last calls (%d) could not be written down, and is lost", lost)
        await super().close()

    @staticmethod
    def _caller(key: Key) -> Caller:
        return Caller(
            id=key.id,
            name=key.name,
            admin="admin" in key.scopes,
            models=key.models if "models" in key.scopes else (),
            endpoints=key.endpoints if "endpoints" in key.scopes else (),
        )

    def _allowed(self, key_id: str, models: Sequence[str]) -> tuple[Caller, int, int]:
        """Whose key it is, and its limit: calls and seconds."""
        key = self.keys.by_id(key_id)
        if key is None or not key.valid(time.time()):
            raise NoKey(WRONG)
        caller = self._caller(key)
        for model in models:
            if not any(fnmatchcase(model, pattern) for pattern in caller.models):
                raise Forbidden(f"This key may not call the model '{model}'. Ask for a key with the right scope.")
        return caller, *self._limits(key)

    def _limits(self, key: Key) -> tuple[int, int]:
        calls = self._default[0] if key.quota_calls is None else key.quota_calls
        return calls, key.quota_window_s or self._default[1]

    async def _count_later(self) -> None:
        await asyncio.sleep(AGAIN_S if self._unwritten[0] else COUNT_S)
        with contextlib.suppress(Unreachable, RuntimeError):  # or there is no thread for it; what was counted is kept
            await self.written(self._write_counts)
        left = self._counts or self._unwritten[0]
        self._counting = asyncio.ensure_future(self._count_later()) if left else None

    def _write_counts(self) -> None:
        """What cannot be written now is kept for the next time."""
        with self._writing:
            with self._tallying:
                counts, self._counts = self._counts, Counter()
                used, self._used = self._used, {}
            used.pop(ANYBODY.id, None)
            before, self._unwritten = self._unwritten, (Counter(), {})
            counts, used = counts + before[0], {**before[1], **used}
            try:
                self._write(counts)
                counts = Counter()
                self.keys.touch(used)
            except Unreachable as error:
                if not before[0]:
                    log.warning("usage is written down later: %s", error.message)
                self._unwritten = counts, used
            else:
                if before[0]:
                    log.info("usage is written down again")

    def _write(self, counts: Counter[tuple[str, str, str, bool]]) -> None:
        rows = [
            {"day": day, "key_id": key_id, "model": model[:200]}
            | {"calls": 0 if failed else number, "errors": number if failed else 0}
            # In the same order everywhere, or two servers that share a database would wait for one another.
            for (day, key_id, model, failed), number in sorted(counts.items())
        ]
        if rows:
            insert = self.database.upsert(usage)
            more = {name: usage.c[name] + insert.excluded[name] for name in ("calls", "errors")}
            keyed = [usage.c.day, usage.c.key_id, usage.c.model]
            with self.database.write() as connection:
                connection.execute(insert.on_conflict_do_update(index_elements=keyed, set_=more), rows)

    def _usage(self, caller: Caller, days: int, everybody: bool) -> dict[str, Any]:
        since = (datetime.now(UTC).date() - timedelta(days=days - 1)).isoformat()
        query = sql.select(usage).where(usage.c.day >= since).order_by(usage.c.day, usage.c.key_id, usage.c.model)
        if not everybody:
            query = query.where(usage.c.key_id == caller.id)
        names = {key.id: key.name for key in self.keys.all(revoked=True)}
        with self.database.read() as connection:
            rows = [
                UsedOnDay(day, names.get(key_id, key_id), key_id, model, calls, errors)
                for day, key_id, model, calls, errors in connection.execute(query)
            ]
        return {**self._left(caller, sum(row.calls for row in rows)), "days": rows}

    def _standing(self, caller: Caller) -> Standing | None:
        key = self.keys.by_id(caller.id)
        limit, window_s = self._limits(key) if key is not None else (0, 0)
        return _standing(self.windows.look(caller.id, window_s), limit, window_s) if limit else None

    def _left(self, caller: Caller, counted: int) -> dict[str, Any]:
        name = {"id": caller.id, "name": caller.name} if caller.name else None
        standing = None if caller is ANYBODY else self._standing(caller)
        if standing is None:
            return {"key": name, "limit": None, "window_s": None, "used": counted, "remaining": None, "reset": None}
        return {
            "key": name,
            "limit": standing.limit,
            "window_s": standing.window_s,
            "used": standing.limit - standing.remaining,
            "remaining": standing.remaining,
            "reset": iso_time(standing.reset_epoch_s),
        }


def _standing(taken: Taken, limit: int, window_s: int) -> Standing:
    return Standing(limit, max(0, limit - taken.used), taken.reset_epoch_s, window_s)
