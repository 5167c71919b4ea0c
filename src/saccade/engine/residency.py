"""Which models are in memory: loaded when first asked for, once, off the serving path, within a budget of bytes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from saccade.card import Card
from saccade.engine.aside import aside
from saccade.engine.files import Files, seen
from saccade.engine.link import Link, OnLost, OnReply
from saccade.engine.memory import Memory
from saccade.engine.resident import Resident
from saccade.engine.rules import Rules
from saccade.errors import Changed, Error, OutOfMemory, Overloaded, StillLoading, Stopped, anew

log = logging.getLogger("saccade.engine")

GUESS_FACTOR = 2.5
GUESS_BYTES = 120 << 20
"""What a model is thought to need before it was measured: its files times the factor, and so many bytes more."""
TORCH_BYTES = 360 << 20
"""What torch and transformers take in a worker, which imports them for its model alone."""

FORGIVE_S = 30.0
"""How long a model that failed to load is reported as failed before it is tried again."""

LOAD_GUESS_S = 5.0
RELOAD_PAUSE_S = 5.0
"""Between two tries to load changed files while the old ones serve."""

LEAVE_S = 5.0
"""How long another model waits for the memory of those that leave; a video that they still answer may take long."""

Connect: TypeAlias = Callable[[Card, OnReply, OnLost, Files | None], Link]
"""A way to a further replica, which is opened from these files or not at all."""

Ready: TypeAlias = Callable[[Card], Card]
"""The Card whose files can be opened at once: a checkpoint's becomes that of its graph, which may take minutes."""

Still: TypeAlias = Callable[[Card], Awaitable[bool]]
"""Whether the model's files are those of the Card, as far as is known."""


class Residency:
    """Used from the event loop only."""

    def __init__(
        self,
        rules: Rules,
        memory: Memory,
        connect: Connect,
        room: Callable[[], int],
        ready: Ready = lambda card: card,
        is_still: Still | None = None,
    ) -> None:
        self.memory = memory
        self.residents: dict[str, Resident] = {}
        self.pins = set(rules.pins)
        self.loads = 0
        self.evictions = 0
        self._rules = rules
        self._connect = connect
        self._room = room
        self._ready = ready
        self._is_still = is_still
        self._loading: dict[str, asyncio.Task[Resident]] = {}
        self._waiting: Counter[str] = Counter()
        self._abandoned: set[str] = set()
        """Loads that callers waited for, all of whom have left."""
        self._began: dict[str, float] = {}
        self._failed: dict[str, tuple[str, float, Error]] = {}
        self._needs: dict[str, int] = {}
        self._took: dict[str, float] = {}
        self._reload_from: dict[str, float] = {}
        self._too_large: dict[str, str] = {}
        """Models, by revision, that found too little memory also when all had left that may: nobody leaves for them."""
        self._refused: dict[str, tuple[str, str]] = {}
        """Of which revision, and why, changed files of a model in memory cannot take over."""
        self._coming_bytes = 0
        self._order = asyncio.Lock()
        self._retiring: dict[asyncio.Task[None], Resident] = {}
        self._closed: Error | None = None
        """What they are told who come after the end."""

    @property
    def everyone(self) -> tuple[Resident, ...]:
        """All models in memory, also those that finish what they accepted before they leave."""
        return *self.residents.values(), *self._retiring.values()

    @property
    def used_bytes(self) -> int:
        """What all models in memory hold."""
        return sum(resident.memory_bytes for resident in self.everyone)

    @property
    def held_bytes(self) -> int:
        """What they hold, and what those will need that are being opened."""
        return self.used_bytes + self._coming_bytes

    def state(self, name: str) -> str:
        """cold, loading, warm or failed."""
        resident = self.residents.get(name)
        if resident is not None:
            return "warm" if resident.state == "warm" else "failed"
        if name in self._loading:
            return "loading"
        return "failed" if name in self._failed else "cold"

    def is_warm(self, card: Card) -> bool:
        """Whether this very revision is in memory."""
        resident = self.residents.get(card.name)
        return resident is not None and resident.state == "warm" and resident.card.revision == card.revision

    def refusal(self, name: str) -> str | None:
        """Why the changed files of a model in memory have not taken over."""
        return self._refused[name][1] if name in self._refused else None

    def failures(self) -> list[dict[str, str]]:
        """The models that failed and are not in memory: which, of which revision, and why."""
        return [
            {"name": name, "revision": revision, "reason": error.message}
            for name, (revision, _, error) in self._failed.items()
            if name not in self.residents
        ]

    def warm(self, card: Card) -> Resident | None:
        """The model if it is in memory. When its files have changed, the new ones are loaded behind its back."""
        resident = self.residents.get(card.name)
        if resident is None or resident.state != "warm":
            return None
        changed = resident.stale or resident.card.revision != card.revision
        if not changed:
            self._refused.pop(card.name, None)
        elif card.name not in self._loading and self._may_reload(card):
            self._begin(card)
        return resident

    def _may_reload(self, card: Card) -> bool:
        """Not again and again while there is no room for two of it, or the new files are broken."""
        now = time.monotonic()
        if self._objection(card) is not None or now < self._reload_from.get(card.name, 0.0):
            return False
        self._reload_from[card.name] = now + RELOAD_PAUSE_S
        return True

    def begin(self, card: Card) -> asyncio.Task[Resident]:
        """Starts loading, or finds the load that is under way.

        Raises:
            ModelError, SetupError: it failed a moment ago.
            Stopped: nothing is loaded any more.
        """
        self._abandoned.discard(card.name)
        task = self._loading.get(card.name)
        if task is None:
            error = self._objection(card)
            if error is not None:
                raise anew(error)
            task = self._begin(card)
        return task

    async def opened(self, task: asyncio.Task[Resident], name: str) -> Resident:
        """The outcome of a load that others wait for, too; leaving does not end it, but unloading does."""
        self._waiting[name] += 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Stopped(f"The model '{name}' was put away while it was loading. Try again.") from None
            raise
        finally:
            self._waiting[name] -= 1
            if not self._waiting[name]:
                del self._waiting[name]
                if not task.done():
                    self._abandoned.add(name)

    def estimate_s(self, name: str) -> float:
        """How long loading will still take, if it takes as long as last time."""
        passed_s = time.monotonic() - self._began[name] if name in self._loading else 0.0
        return max(0.0, self._took.get(name, LOAD_GUESS_S) - passed_s)

    def forgive(self, name: str) -> None:
        """Lets a model that failed be tried again at once."""
        self._failed.pop(name, None)

    async def unload(self, name: str) -> bool:
        """Puts a model away after it has finished what it accepted; False if it was not there."""
        task = self._loading.get(name)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self.forgive(name)
        self._refused.pop(name, None)
        resident = self.residents.pop(name, None)
        if resident is None:
            return task is not None
        self._needs[name] = resident.memory_bytes
        await asyncio.shield(self._retire(resident))
        return True

    async def scale(self, resident: Resident, replicas: int) -> None:
        """Another number of replicas of a model in memory, for which others may have to leave.

        Raises:
            Overloaded: there is no room for so many.
            ModelError, SetupError: a further one cannot be opened; those that are up go on.
        """
        up = max(1, len(resident.facts()))
        need = max(0, replicas - up) * resident.memory_bytes // up
        if need:
            await self._make_room(resident.card.name, need)
        with self._on_its_way(need):
            await resident.scale(replicas)

    async def make_way(self, name: str) -> bool:
        """Puts the model away that was used longest ago, for one of another engine; False: all of them stay."""
        free = self._spare()
        if free:
            await self._evict(free, name)
        return bool(free)

    @property
    def spare_bytes(self) -> int:
        """What those hold that may leave for a model of another engine."""
        return sum(resident.memory_bytes for resident in self._spare())

    def _spare(self) -> list[Resident]:
        return [resident for resident in self.residents.values() if resident.card.name not in self.pins]

    def tend(self) -> None:
        """Looks after the residents; called about once a second."""
        for resident in self.everyone:
            resident.tend()
            self._put_away_if_failed(resident)

    async def close(self, error: Error) -> None:
        """Closes everything now; whoever still comes is told the error."""
        self._closed = error
        for task in tuple(self._loading.values()):
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        residents, self.residents = self.everyone, {}
        await asyncio.gather(*(resident.close(error) for resident in residents), return_exceptions=True)
        # Those that were leaving have nothing to wait for any more; cut short, they would leave processes behind.
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _objection(self, card: Card) -> Error | None:
        """The error of a load that failed a moment ago, as long as the files are the same, and that of the end."""
        if self._closed is not None:
            return self._closed
        resident = self.residents.get(card.name)
        if resident is not None:
            self._put_away_if_failed(resident)
        failed = self._failed.get(card.name)
        if failed is None:
            return None
        revision, when, error = failed
        if revision != card.revision or time.monotonic() - when > FORGIVE_S:
            del self._failed[card.name]
            return None
        return error

    def _put_away_if_failed(self, resident: Resident) -> None:
        name = resident.card.name
        if resident.state == "failed" and self.residents.get(name) is resident:
            if not isinstance(resident.reason, Changed):
                self._failed[name] = (resident.card.revision, time.monotonic(), resident.reason or _broken(name))
            del self.residents[name]
            self._retire(resident)

    def _begin(self, card: Card) -> asyncio.Task[Resident]:
        task = asyncio.create_task(self._load(card))
        self._loading[card.name] = task
        self._began[card.name] = time.monotonic()
        task.add_done_callback(lambda done: self._loaded(card, done))
        return task

    def _loaded(self, card: Card, task: asyncio.Task[Resident]) -> None:
        if self._loading.get(card.name) is task:
            del self._loading[card.name]
            self._abandoned.discard(card.name)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Error) and not isinstance(error, Stopped) and card.name in self.residents:
            self._refuse(card, error)
        if isinstance(error, Error) and not isinstance(error, Overloaded | Stopped):
            self._failed[card.name] = (card.revision, time.monotonic(), anew(error))

    def _refuse(self, card: Card, error: Error) -> None:
        """Notes why changed files do not take over; once, however often they are tried."""
        found = (card.revision, error.message)
        if self._refused.get(card.name) != found:
            self._refused[card.name] = found
            log.warning("the model '%s' stays what it was, for its new files cannot be used: %s", card.name, error)

    async def _load(self, card: Card) -> Resident:
        """Makes room and opens the model; a resident of an older revision serves until then."""
        asked = card
        card = await aside(lambda: self._ready(asked))
        # One at a time: two models that are opened together would both think that the memory is theirs.
        async with self._order:
            if self._others_wait():
                self._check_wanted(card.name)
            before = self.residents.get(card.name)
            replicas = before.wanted if before is not None else self._rules.replicas
            need = self._needs.get(card.name, guessed(card) * replicas)
            await self._make_room(card.name, need)
            with self._on_its_way(need):
                resident = await self._opened_beside(card, asked, replicas)
        self.loads += 1
        self._refused.pop(card.name, None)
        self._too_large.pop(card.name, None)
        self._needs[card.name] = resident.memory_bytes
        self._took[card.name] = resident.load_s
        old = self.residents.get(card.name)
        self.residents[card.name] = resident
        if old is not None:
            self._retire(old)
        log.info("model '%s' is ready: %.1f s, %d MiB", card.name, resident.load_s, resident.memory_bytes >> 20)
        return resident

    async def _opened_beside(self, card: Card, asked: Card, replicas: int) -> Resident:
        """The model, opened; where it finds too little memory all the same (a card's is not measured), others leave."""
        while True:
            try:
                return await self._opened_once(card, asked, replicas)
            except OutOfMemory:
                if self._too_large.get(card.name) == card.revision:
                    raise
                if not await self._one_leaves(card.name):
                    if self.pins.issuperset(name for name in self.residents if name != card.name):
                        self._too_large[card.name] = card.revision
                    raise

    async def _opened_once(self, card: Card, asked: Card, replicas: int) -> Resident:
        resident = Resident(
            card,
            self._rules,
            lambda card, on_reply, on_lost: self._connect(card, on_reply, on_lost, resident.files),
            self._room,
            replicas,
        )
        try:
            async with asyncio.timeout(self._rules.load_timeout_s):
                await self._open(resident, asked)
        except BaseException as error:
            # It may be open, and nobody else knows of it yet.
            await asyncio.shield(self._retire(resident))
            if isinstance(error, TimeoutError):
                raise StillLoading(
                    f"The model '{card.name}' was not loaded within {self._rules.load_timeout_s:g} s.",
                    retry_after_s=60,
                ) from None
            raise
        return resident

    def _others_wait(self) -> bool:
        return any(not task.done() for name, task in self._loading.items() if name in self._waiting)

    def _check_wanted(self, name: str) -> None:
        """Raises Stopped: all who waited for it have left while it stood in line."""
        if name in self._abandoned:
            log.info("model '%s' is not loaded: nobody waits for it any more", name)
            raise Stopped(f"The model '{name}' was not loaded, for nobody waited for it any more. Try again.")

    async def _open(self, resident: Resident, card: Card) -> None:
        """Opens the model, and looks whether its files stayed the same. Raises Changed, or what opening it raises."""
        files = await aside(lambda: seen(card))
        resident.files = files if resident.card is card else await aside(lambda: seen(resident.card))
        try:
            await resident.load()
        except Error:
            await self._check_still(card, files)
            raise
        await self._check_still(card, files)

    async def _check_still(self, card: Card, files: Files) -> None:
        """Raises Changed; ``files`` are :func:`seen` before they were opened, for one may be put back meanwhile."""
        same = await aside(lambda: seen(card)) == files and (self._is_still is None or await self._is_still(card))
        if not same:
            raise Changed(f"The files of the model '{card.name}' changed while it was opened. Try again.")

    async def _make_room(self, name: str, need: int) -> None:
        """Puts away what was used longest ago until there are so many bytes, after those that are leaving anyway.

        Raises:
            Overloaded: what is in memory may not leave, or not yet.
            Stopped: something would have to leave for a model that nobody waits for any more.
        """
        if self._retiring and self.memory.lack(self, need):
            await asyncio.wait(self._retiring, timeout=LEAVE_S)
        while self.memory.lack(self, need):
            if await self._one_leaves(name, need):
                continue
            others = [resident for other, resident in self.residents.items() if other != name]
            if not others and not self._retiring and not self.memory.taken(self):
                return  # one that is larger than the budget is opened alone
            raise Overloaded(
                f"There is no room for the model '{name}' {self._why_none(others)}",
                retry_after_s=self._next_leave_s(others),
            )

    def _why_none(self, others: Sequence[Resident]) -> str:
        """What is in the way of a further model."""
        if self._retiring or not self.pins.issuperset(resident.card.name for resident in others):
            return "now: other models are in use."
        whom, way_out = "those that are preloaded and stay", "preload fewer"
        if self.memory.taken(self):
            whom, way_out = "the dedicated endpoints and what is preloaded", "stop an endpoint"
        return (
            f"beside {whom}: all models together may hold {self.memory.budget_bytes >> 20} MiB. Raise "
            f"'memory_bytes', or {way_out}."
        )

    async def _one_leaves(self, name: str, need: int = 0) -> bool:
        """Puts one model away for another that needs so much, if one may leave.

        Raises:
            Stopped: nobody waits for the other any more.
        """
        free = self._free_beside(name)
        if free:
            self._check_wanted(name)  # nothing leaves for it
            await self._evict(free, name)
        return bool(free) or await self.memory.make_way(self, name, need)

    @contextmanager
    def _on_its_way(self, need: int) -> Iterator[None]:
        """Counts what is being opened."""
        self._coming_bytes += need
        try:
            yield
        finally:
            self._coming_bytes -= need

    def _free_beside(self, name: str) -> list[Resident]:
        """The other models that may leave."""
        others = (resident for other, resident in self.residents.items() if other != name)
        return [resident for resident in others if not self._must_stay(resident)]

    async def _evict(self, free: Sequence[Resident], name: str) -> None:
        """Puts away the one of these that was used longest ago."""
        victim = min(free, key=lambda resident: (resident.busy, resident.last_used))
        self.evictions += 1
        log.info("model '%s' makes room for '%s'", victim.card.name, name)
        del self.residents[victim.card.name]
        # More than when it was loaded: some of what makes it faster came later.
        self._needs[victim.card.name] = victim.memory_bytes
        # Others may be waiting for their turn who need no room.
        await asyncio.wait({self._retire(victim)}, timeout=LEAVE_S)

    def _must_stay(self, resident: Resident) -> bool:
        return resident.card.name in self.pins or self._age_s(resident) < self._rules.min_residency_s

    def _age_s(self, resident: Resident) -> float:
        return time.monotonic() - resident.loaded_at

    def _next_leave_s(self, residents: Iterable[Resident]) -> float:
        waits = [
            self._rules.min_residency_s - self._age_s(resident)
            for resident in residents
            if resident.card.name not in self.pins
        ]
        return max(1.0, min(waits, default=LEAVE_S if self._retiring else 60.0))

    def _retire(self, resident: Resident) -> asyncio.Task[None]:
        """Lets a model leave; whoever waits for that may be cut short, the leaving not."""
        task = asyncio.create_task(resident.retire())
        self._retiring[task] = resident
        task.add_done_callback(self._retiring.pop)
        return task


def guessed(card: Card) -> int:
    """The bytes that one replica of a model may need that was never open."""
    return int(card.size_bytes * GUESS_FACTOR) + GUESS_BYTES + (TORCH_BYTES if card.runtime == "torch" else 0)


def _broken(name: str) -> Error:
    return Stopped(f"The model '{name}' has failed.")
