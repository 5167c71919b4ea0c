"""One model in memory: its line of waiting calls, its replicas, and what happens when one of those dies."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Literal, TypeAlias

from saccade.call import Call
from saccade.card import Card
from saccade.engine.admission import Counts, Entry, Line, expired
from saccade.engine.files import Files
from saccade.engine.job import Done, Failed, Frame, Job, Reply
from saccade.engine.link import Link, OnLost, OnReply
from saccade.engine.rules import Rules
from saccade.errors import Changed, Error, ModelError, Overloaded, RunFailed, Stopped, anew

log = logging.getLogger("saccade.engine")

State = Literal["loading", "warm", "failed", "gone"]
Connect: TypeAlias = Callable[[Card, OnReply, OnLost], Link]

CLIPS = 2
"""Videos that one replica takes at one time; each of them uses all streams."""

CREDIT = 4
"""Frames of a video that may be ready before they are asked for."""

ATTEMPTS = 2
"""How often a call is sent before it is given up, for it may be what its workers die of; and how often a model is
opened whose worker is killed over that."""

PATIENCE = 4
"""How often it is sent when its workers were killed from outside, which is hardly its fault."""

FRUITLESS = 5
"""After so many replicas in a row that died without one answer, the model is reported as failed."""

RENEW_PAUSE_S = 60.0
"""Between two renewals because of memory: a model that simply is so large must not be opened again and again."""

LONG_LIFE_S = 10.0
"""A replica that lived so long did not die of being loaded."""

BACK_OFF_S = (0.5, 30.0)
"""The first and the longest pause before another try."""

SLEPT_S = 2.0
"""When nobody looked after the replicas for so long, it was this process that was stopped, or all of them."""

SLOW = 20
"""A call that takes so many times the usual is taken for hung, if it also takes longer than the rules' ``hang_s``."""

FIRST = 3
"""What is usual is not known before the first answer; loading runs the model, too, and a first call may take so many
times as long as that."""

_ids = count(1)


class Resident:
    """Used from the event loop only. ``load`` first; ``retire`` last."""

    def __init__(
        self, card: Card, rules: Rules, connect: Connect, room: Callable[[], int], replicas: int | None = None
    ) -> None:
        """``replicas`` are those of the rules where none are given."""
        self.card = card
        self.wanted = max(1, rules.replicas if replicas is None else replicas)
        self.state: State = "loading"
        self.reason: Error | None = None
        self.counts = Counts()
        self.line = Line(card.name, rules.queue_calls, self.counts, rules.dry_run)
        self.clips = Line(card.name, rules.queue_calls, self.counts, rules.dry_run)
        self.loaded_at = self.last_used = time.monotonic()
        self.load_s = 0.0
        self.files: Files | None = None
        """What it is opened from; not known where None."""
        self.stale = False
        """Other files lie there by now: no further replica can be opened."""
        self._rules = rules
        self._connect = connect
        self._room = room
        self._flying: dict[Link, dict[int, Entry]] = {}
        self._leaving: set[Link] = set()
        self._renewing: set[Link] = set()
        self._ending: set[Link] = set()
        self._coming = 0
        self._scaling = asyncio.Lock()
        self._fruitless = 0
        self._renew_from = 0.0
        self._born: dict[Link, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._checked_at = self._tended_at = self._woke_at = time.monotonic()
        self._empty = asyncio.Event()
        self._empty.set()
        self._loop = asyncio.get_running_loop()

    @property
    def memory_bytes(self) -> int:
        """What all replicas hold."""
        return sum(link.memory_bytes for link in self._flying)

    @property
    def in_flight(self) -> int:
        """Calls that are in a replica now."""
        return sum(map(len, self._flying.values()))

    @property
    def busy(self) -> bool:
        """Whether calls wait or are in a replica."""
        return bool(len(self.line) or len(self.clips) or self.in_flight)

    @property
    def _staying(self) -> list[Link]:
        """The replicas that are neither on their way out nor about to be."""
        return [link for link in self._flying if link not in self._leaving | self._renewing]

    @property
    def _patience_s(self) -> float:
        """How long a replica may take for one picture."""
        service_s = self.line.pace.service_s
        return max(self._rules.hang_s, FIRST * self.load_s if service_s is None else SLOW * service_s)

    def facts(self) -> list[dict[str, str | int | float]]:
        """One line per replica, for /info."""
        return [
            {"memory_bytes": link.memory_bytes, "in_flight": len(flying), "slots": link.slots, **link.facts}
            for link, flying in self._flying.items()
        ]

    async def load(self) -> None:
        """Opens all replicas, one after another.

        Raises:
            ModelError, SetupError: the model cannot be opened.
        """
        begun = time.monotonic()
        try:
            for _ in range(self.wanted):
                await self._add(ATTEMPTS)
        except BaseException as error:
            self.state = "failed"
            self.reason = anew(error) if isinstance(error, Error) else None
            await self._close_links()
            raise
        self.state = "warm"
        self.loaded_at = self.last_used = time.monotonic()
        self.load_s = self.loaded_at - begun
        for _ in range(self.wanted - len(self._flying)):  # lost while the others were opened
            self._start(self._revive())

    def submit(self, call: Call, deadline: float) -> Entry:
        """Takes a call into the line and starts it if it can be started.

        Raises:
            Overloaded: it was refused at the door.
            ModelError: the model has failed.
        """
        if self.state != "warm":
            raise anew(self.reason or Stopped(f"The model '{self.card.name}' is being put away. Try again."))
        now = time.monotonic()
        self.last_used = now
        entry = Entry(next(_ids), call, self._loop.create_future(), now, deadline)
        line = self.line
        if call.clip is not None:
            entry.frames = asyncio.Queue()
            line = self.clips
        slots = sum(CLIPS if call.clip is not None else link.slots for link in self._flying)
        line.admit(entry, slots, self._taken(call.clip is not None), self._room())
        entry.timer = self._loop.call_later(max(0.0, deadline - now), self._expire, entry)
        self._empty.clear()
        self._pump()
        return entry

    def drop(self, entry: Entry) -> None:
        """The caller has left: the call is taken out wherever it is. Harmless after the answer."""
        if entry.timer is not None:
            entry.timer.cancel()
        here = self._line_of(entry).discard(entry)
        link = next((link for link, flying in self._flying.items() if entry.id in flying), None)
        if link is not None:
            link.cancel(entry.id)
        if here or link is not None:
            entry.answer.cancel()
        if entry.answer.cancelled():  # perhaps by who waited for it, just before the answer came that nobody counted
            self.counts.cancelled += 1
        self._rest()

    def grant(self, entry: Entry, frames: int = 1) -> None:
        """The consumer of a video took so many frames."""
        for link, flying in self._flying.items():
            if entry.id in flying:
                link.grant(entry.id, frames)

    async def scale(self, replicas: int) -> None:
        """Brings up so many replicas, with those that take a lost one's place, or lets the surplus finish and leave.

        Raises:
            ModelError, SetupError: a further one cannot be opened; those that are up go on.
        """
        async with self._scaling:
            wanted = max(1, replicas)
            while len(self._staying) + self._coming < wanted:
                await self._add()
                self.wanted = max(self.wanted, len(self._staying))  # these stay, though the next cannot be opened
                self._pump()
            self.wanted = wanted
            self._thin_out()

    async def idle(self) -> None:
        """Returns when nothing waits and nothing is in flight."""
        await self._empty.wait()

    async def retire(self) -> None:
        """Finishes what was accepted, then closes the replicas."""
        if self.state == "warm":
            await self.idle()
        await self.close(Stopped(f"The model '{self.card.name}' was put away. Try again."))

    async def close(self, error: Error) -> None:
        """Closes the replicas now; what still waits is answered with the error."""
        self.state = "gone" if self.state != "failed" else "failed"
        self.reason = self.reason or anew(error)
        for task in tuple(self._tasks):
            # A model that is put away may be closed a second time; a second cancellation would cut short the task that
            # cleans up after the first, and leave its worker's process behind.
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_all(error)
        await self._close_links()

    def tend(self) -> None:
        """Looks after the replicas; called about once a second."""
        now = time.monotonic()
        if now - self._tended_at > SLEPT_S:
            self._woke_at = now
        self._tended_at = now
        for link, flying in tuple(self._flying.items()):
            waits = [entry.sent for entry in flying.values() if entry.frames is None]
            if waits and now - max(self._woke_at, min(waits)) > self._patience_s:
                hung = f"it gave no answer for {self._patience_s:.0f} s (hang_timeout_s)"
                self._start(self._replace(link, hung))
            elif 0 < self._rules.worker_memory_bytes < link.memory_bytes and now > self._renew_from:
                self._renew_from = now + RENEW_PAUSE_S
                self._start(self._renew(link, f"it holds {link.memory_bytes >> 20} MiB"))
        if self._rules.check_s and now - self._checked_at > self._rules.check_s and self.state == "warm":
            self._checked_at = now
            for link in tuple(self._flying):
                if link not in self._leaving:
                    self._start(self._look_at(link))

    async def _add(self, attempts: int = 1) -> Link:
        link = await self._opened(attempts)
        if self.state not in ("loading", "warm"):  # put away meanwhile
            await self._close_link(link)
            raise anew(self.reason or Stopped(f"The model '{self.card.name}' was put away."))
        self._flying[link] = {}
        self._born[link] = time.monotonic()
        return link

    async def _opened(self, attempts: int) -> Link:
        """A new replica. One that is killed from outside meanwhile is tried anew: that is hardly the model's fault."""
        link = self._connect(self.card, self._on_reply, self._on_lost)
        try:
            await link.open()
        except BaseException as error:
            self.stale |= isinstance(error, Changed)
            killed = link.killed  # by somebody else: it is ended now in any case
            with suppress(Exception):
                await link.close()
            if isinstance(error, RunFailed) and killed and attempts > 1:
                log.warning("%s Another one is tried.", error.message)
                return await self._opened(attempts - 1)
            raise
        return link

    def _pump(self) -> None:
        """Sends what can be sent, to the replica that has most room."""
        while len(self.line):
            link = self._roomiest(lambda link: link.slots - self._count(link, clips=False))
            entry = self.line.take() if link else None
            if link is None or entry is None:
                break
            self._send(link, entry)
        while len(self.clips):
            link = self._roomiest(lambda link: CLIPS - self._count(link, clips=True))
            entry = self.clips.take() if link else None
            if link is None or entry is None:
                break
            self._send(link, entry)

    def _roomiest(self, room: Callable[[Link], int]) -> Link | None:
        """Among replicas with the same room the one whose oldest call was sent first: it will be done first."""
        links = [link for link in self._flying if link not in self._leaving]
        best = max(links, key=lambda link: (room(link), -self._busy_since(link)), default=None)
        return best if best is not None and room(best) > 0 else None

    def _busy_since(self, link: Link) -> float:
        return next((entry.sent for entry in self._flying[link].values()), 0.0)

    def _count(self, link: Link, clips: bool) -> int:
        flying = self._flying[link]
        films = sum(entry.frames is not None for entry in flying.values()) if flying else 0
        return films if clips else len(flying) - films

    def _taken(self, clips: bool) -> int:
        return sum(self._count(link, clips) for link in self._flying)

    def _send(self, link: Link, entry: Entry) -> None:
        entry.sent = time.monotonic()
        entry.attempts += 1
        self._flying[link][entry.id] = entry
        call = entry.call
        link.send(
            Job(
                id=entry.id,
                options=call.options,
                left_s=entry.deadline - entry.sent,
                annotate=call.annotate,
                clip=call.clip,
                credit=CREDIT if call.clip is not None else 0,
                skip=entry.delivered,
            ),
            call.media,
        )

    def _on_reply(self, link: Link, reply: Reply) -> None:
        flying = self._flying.get(link)
        if flying is None:
            return
        if isinstance(reply, Frame):
            entry = flying.get(reply.id)
            if entry is not None and entry.frames is not None:
                entry.delivered += 1
                entry.frames.put_nowait(reply.answer)
            return
        entry = flying.pop(reply.id, None)
        if entry is None:
            return
        self._fruitless = 0
        if entry.timer is not None:
            entry.timer.cancel()
        if isinstance(reply, Done):
            self.line.pace.note(time.monotonic() - entry.sent)
            size = reply.answer.batch_size
            self.counts.batches[size] = self.counts.batches.get(size, 0) + 1
            if not entry.answer.done():
                self.counts.answered += 1
                entry.answer.set_result(reply.answer)
        elif isinstance(reply, Failed):
            if not entry.answer.done():
                self.counts.failed += 1
                entry.fail(reply.error)
        elif entry.frames is not None and not entry.answer.done():
            self.counts.answered += 1
            entry.frames.put_nowait(None)
        self._pump()
        self._rest()

    def _on_lost(self, link: Link, reason: str) -> None:
        """A replica died: its calls go to another one, or to the next."""
        flying = self._flying.pop(link, None)
        if flying is None:
            return
        log.warning("a worker of '%s' was lost: %s", self.card.name, reason)
        replaced = link in self._leaving | self._renewing  # another is here or on its way, or none is wanted
        self._leaving.discard(link)
        self._renewing.discard(link)
        self.counts.crashes += 1
        lived_s = time.monotonic() - self._born.pop(link, 0.0)
        if link.culprit is None:  # else one call is to blame, and not the model
            self._fruitless = 0 if lived_s > LONG_LIFE_S else self._fruitless + 1
        for entry in reversed(flying.values()):
            self._again(entry, link, reason)
        if self._fruitless >= FRUITLESS:
            self._give_up(RunFailed(f"The workers of '{self.card.name}' die without an answer: {reason}."))
        if self.state == "warm" and not replaced:
            self._start(self._revive())
        self._pump()
        self._rest()

    def _again(self, entry: Entry, link: Link, reason: str) -> None:
        """Puts a call of a lost replica back into the line, unless it is to blame or has had its chances."""
        if link.culprit is not None:
            if link.culprit[0] == entry.id:
                self._end(entry, link.culprit[1])
                return
            entry.attempts -= 1  # another call is known to be to blame
        if entry.answer.done():
            return
        if self.state != "warm" or entry.attempts >= (PATIENCE if link.killed else ATTEMPTS):
            self._end(entry, RunFailed(f"The worker of '{self.card.name}' died while it ran this call: {reason}."))
        else:
            self.counts.retried += 1
            self._line_of(entry).put_back(entry)

    def _end(self, entry: Entry, error: Error) -> None:
        if entry.answer.done():  # its caller left, or was told that its time was over
            return
        self.counts.failed += 1
        if entry.timer is not None:
            entry.timer.cancel()
        entry.fail(error)

    async def _revive(self) -> None:
        """Brings a new replica, with a growing pause while they die without an answer."""
        with self._on_its_way():
            await self._bring()
        self._thin_out()

    async def _bring(self) -> None:
        failures = 0  # of this replica; those that answer meanwhile say nothing about it
        while self.state == "warm":
            least, most = BACK_OFF_S
            if (fruitless := max(failures, self._fruitless)) > 1:
                await asyncio.sleep(min(most, least * 2 ** (min(fruitless, 20) - 2)))
            try:
                await self._add()
            except (ModelError, Overloaded, OSError) as error:
                failures += 1
                self._fruitless += 1
                if self._fruitless >= FRUITLESS:
                    self._give_up(error if isinstance(error, Error) else _not_started(self.card.name, error))
                continue
            except Error as error:
                self._give_up(error)
                return
            self._pump()
            return

    @contextmanager
    def _on_its_way(self) -> Iterator[None]:
        """Counts a replica that is being brought."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1

    def _give_up(self, error: Error) -> None:
        if self._flying or self.state != "warm":
            return
        if not isinstance(error, Changed):
            log.error("the model '%s' has failed: %s", self.card.name, error.message)
        self.state = "failed"
        self.reason = anew(error)
        self._fail_all(error)

    async def _replace(self, link: Link, reason: str) -> None:
        """Ends a replica that cannot be trusted; its calls are run again elsewhere."""
        if link in self._flying:
            self._on_lost(link, reason)
            link.kill()
            await self._close_link(link)

    async def _renew(self, link: Link, reason: str) -> None:
        """Brings a fresh replica first, while the old one still takes calls, then lets that finish and leave."""
        if link in self._leaving | self._renewing or link not in self._flying or self.state != "warm":
            return
        log.warning("a worker of '%s' is renewed: %s", self.card.name, reason)
        self._renewing.add(link)
        try:
            with self._on_its_way():
                await self._add()
        except (Error, OSError) as error:
            log.warning("the worker of '%s' could not be renewed: %s", self.card.name, error)
            self._renewing.discard(link)
            if link not in self._flying:  # it was lost meanwhile
                self._start(self._revive())
            return
        self._renewing.discard(link)
        self._leaving.add(link)
        self._pump()
        await self._depart(link)

    def _thin_out(self) -> None:
        """Lets replicas beyond those that are wanted finish and leave; one stays while others are on their way."""
        for link in self._staying[max(1, self.wanted - self._coming) :]:
            self._leaving.add(link)
            self._start(self._depart(link))

    async def _depart(self, link: Link) -> None:
        """Lets a replica that gets no more calls finish those it has, and closes it."""
        while self._flying.get(link):
            await asyncio.sleep(0.05)
        self._flying.pop(link, None)
        self._born.pop(link, None)
        self._leaving.discard(link)
        await self._close_link(link)

    async def _look_at(self, link: Link) -> None:
        wrong = await link.check(self._patience_s)
        if wrong is not None and link in self._flying:
            await self._replace(link, f"it sees otherwise than when it was loaded: {wrong}")

    def _expire(self, entry: Entry) -> None:
        if entry.answer.done():
            return
        self.counts.expired += 1
        if not self._line_of(entry).discard(entry):
            for link, flying in self._flying.items():
                if entry.id in flying:
                    link.cancel(entry.id)
        entry.fail(expired())
        self._rest()

    def _line_of(self, entry: Entry) -> Line:
        return self.line if entry.frames is None else self.clips

    def _fail_all(self, error: Error) -> None:
        for line in (self.line, self.clips):
            while (entry := line.take()) is not None:
                self._end(entry, error)
        for flying in self._flying.values():
            for entry in flying.values():
                self._end(entry, error)
            flying.clear()
        self._rest()

    async def _close_link(self, link: Link) -> None:
        """Whoever cuts this short has it done by :meth:`close`, which leaves no process behind."""
        self._ending.add(link)
        await link.close()
        self._ending.discard(link)

    async def _close_links(self) -> None:
        self._ending.update(self._flying)
        self._flying = {}
        await asyncio.gather(*map(self._close_link, tuple(self._ending)), return_exceptions=True)

    def _rest(self) -> None:
        if not self.busy:
            self._empty.set()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _not_started(name: str, error: OSError) -> Error:
    return RunFailed(f"No worker for '{name}' could be started: {error.strerror or type(error).__name__}.")
