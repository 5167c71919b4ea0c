"""Many calls → few runs: finds the model, the cached answer or a place in the line, and brings the answer back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Hashable
from contextlib import suppress
from typing import Any, Literal, Protocol, cast

from msgspec.structs import replace

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.discover import budget, machine_load, nvidia_driver, share_out
from saccade.engine.admission import Entry
from saccade.engine.aside import aside
from saccade.engine.cache import Cache, key_of
from saccade.engine.files import Files
from saccade.engine.fork_server import ForkServer
from saccade.engine.link import Link, OnLost, OnReply
from saccade.engine.local import LocalLink
from saccade.engine.memory import Memory
from saccade.engine.process import ProcessLink
from saccade.engine.replica import Duty
from saccade.engine.residency import Residency
from saccade.engine.resident import Resident
from saccade.engine.rules import Rules
from saccade.engine.tuned import tuned
from saccade.errors import (
    BadSettings,
    Changed,
    Error,
    Overloaded,
    StillLoading,
    Stopped,
    UnknownModel,
    WrongTask,
    place,
)
from saccade.runtimes.session import Compute

log = logging.getLogger("saccade.engine")

FRESH_S = 1.0
"""How long a Card is believed before the library is asked again, in the background."""

MEMORY_SHARE = 0.6
"""The part of the machine's (or the container's) memory that models may hold, unless the rules say otherwise."""

TEND_S = 0.5
LOOK_S = 20.0
"""Between two looks whether the models in memory are still on this machine: nobody asks for one that is gone."""

RUNTIME = "openvino"
"""What most models on processors run on, and is imported before any of them is opened. Workers that use a card are
started from nothing: what a driver makes of a copied process was never tried."""

State = Literal["cold", "loading", "warm", "failed"]


class Library(Protocol):
    """Where Cards come from."""

    def card(self, ref: str) -> Card:
        """The Card of a model whose files are on this machine. May take a while. Raises UnknownModel."""


class Engine:
    """All methods are called from one event loop, the one that ran :meth:`start`."""

    def __init__(
        self, library: Library, rules: Rules | None = None, host: Engine | None = None, share: Hashable = None
    ) -> None:
        """``host`` is another engine in this process, which shares with this one what makes workers, and the memory.

        Its models leave for those of its guests. Of the guests with one ``share`` one replaces the other.
        """
        self._library = library
        self.rules = rules = Rules() if rules is None else rules
        self.budget = budget()
        self.threads = rules.threads or self.budget.threads
        self._cards: dict[str, tuple[Card, float]] = {}
        self._asking: dict[str, asyncio.Task[Card]] = {}
        self._unloading: set[asyncio.Task[bool]] = set()
        self._looked_at = time.monotonic()
        self._cache = Cache(rules.cache_bytes, rules.cache_ttl_s)
        self._guest = host is not None
        copies = rules.fork_workers and rules.isolate and rules.device == "cpu"
        self.forks: ForkServer = host.forks if host is not None else ForkServer(RUNTIME, wanted=copies)
        budget_bytes = rules.memory_bytes or int(self.budget.memory_bytes * MEMORY_SHARE)
        self.memory: Memory = host.memory if host is not None else Memory(budget_bytes, self._beside)
        self._residency = Residency(
            rules,
            self.memory,
            self._connect,
            self._room,
            getattr(library, "ready", lambda card: card),
            self._is_still,
        )
        self.memory.join(self._residency, share)
        self._draining = False
        self._started = time.monotonic()
        self._tending: asyncio.Task[None] | None = None
        self._serving = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def start(self) -> None:
        """Returns when the pinned models are warm.

        Raises:
            BadSettings: one of them is not known or cannot be loaded; the message names it. Or models are to run on a
                card, and there is no driver.
        """
        if self.rules.device == "cuda":
            nvidia_driver()
        if self.rules.redis_url:
            from saccade.engine.redis import RedisShelf

            self._cache = Cache(
                self.rules.cache_bytes, self.rules.cache_ttl_s, RedisShelf(self.rules.redis_url, self.rules.cache_ttl_s)
            )
        if not self.rules.isolate:
            share_out(1)
        self._tending = asyncio.create_task(self._tend())
        if not self._guest:
            self.forks.start()
        for ref in self.rules.pins:
            try:
                self._residency.pins.add((await self.load(ref)).name)
            except Overloaded as error:
                raise BadSettings(
                    f"The model '{ref}', which is to be preloaded, does not fit beside those before it: all models "
                    f"together may hold {self.memory.budget_bytes >> 20} MiB. Raise 'memory_bytes', or preload "
                    "fewer."
                ) from error
            except Error as error:
                raise BadSettings(f"The model '{ref}', which is to be preloaded, cannot be: {error.message}") from error

    async def predict(self, call: Call) -> Answer:
        """The answer to a call about one image.

        Raises:
            CallError: the image, the options or the model's name are wrong.
            Busy: overloaded, still loading, stopping, or too late.
            ModelError, SetupError: the model cannot be run.
        """
        card = await self._card(call)
        key = None
        if call.use_cache and self.rules.cache_bytes:
            key = key_of(card, call, self.rules.precision)
            kept = await self._cache.get(key)
            if kept is not None:
                return kept
        deadline = self._deadline(call)
        self._enter()
        came = time.monotonic()
        try:
            while True:
                resident, entry = await self._submitted(card, call, deadline)
                try:
                    answer = await entry.answer
                    break
                except asyncio.CancelledError:
                    resident.drop(entry)
                    raise
                except Changed:  # and its worker was lost, which could not be followed by another
                    card, key = await self._fitting(call), None
        finally:
            self._leave()
        load_ms = (entry.arrived - came) * 1e3
        waited_ms = (entry.sent - entry.arrived) * 1e3 + answer.timings.queue_ms
        answer = replace(answer, timings=replace(answer.timings, load_ms=load_ms, queue_ms=waited_ms))
        if key is not None and resident.card.revision == card.revision:  # the former one answers while it is replaced
            await self._cache.put(key, answer)
        return answer

    async def stream(self, call: Call) -> AsyncGenerator[Answer]:
        """The answers to a video, frame by frame; a slow reader slows the model down, a closed one stops it.

        Raises:
            The same as :meth:`predict`; also between frames.
        """
        card = await self._card(call)
        deadline = self._deadline(call)
        self._enter()
        begun = False
        try:
            while True:
                resident, entry = await self._submitted(card, call, deadline)
                try:
                    while isinstance(item := await entry.next_frame(), Answer):
                        begun = True
                        yield item
                        resident.grant(entry)
                finally:
                    resident.drop(entry)
                if item is None:
                    return
                if begun or not isinstance(item, Changed):
                    raise item
                card = await self._fitting(call)
        finally:
            self._leave()

    async def load(self, ref: str) -> Card:
        """Loads a model now, also one that failed before; returns when it is warm.

        Raises:
            UnknownModel, ModelError, SetupError, Busy
        """
        while True:
            card = await self._resolve(ref)
            self._residency.forgive(card.name)
            if self._residency.warm(card) is not None:
                return card
            with suppress(Changed):  # other files lie there by now: they are what is wanted
                await self._residency.opened(self._residency.begin(card), card.name)
                return card

    async def unload(self, ref: str) -> bool:
        """Puts a model away once it has finished what it accepted; False if it was not in memory."""
        kept = self._cards.get(ref)
        return await self._residency.unload(kept[0].name if kept else ref)

    async def scale(self, ref: str, replicas: int) -> None:
        """Another number of replicas for a model that is in memory; nothing happens if it is not.

        Raises:
            Overloaded: there is no room for so many.
            ModelError, SetupError: a further replica cannot be opened; those that are up go on.
        """
        kept = self._cards.get(ref)
        resident = self._residency.residents.get(kept[0].name if kept else ref)
        if resident is not None and resident.state == "warm":
            await self._residency.scale(resident, replicas)

    def state(self, ref: str) -> State:
        """Whether the model is in memory."""
        kept = self._cards.get(ref)
        return cast(State, self._residency.state(kept[0].name if kept else ref))

    def info(self) -> dict[str, Any]:
        """What the engine has and does: numbers at the top, then a list of models."""
        residents = self._residency.residents
        return {
            "isolated": self.rules.isolate,
            "device": self.rules.device,
            "precision": self.rules.precision,
            "threads": self.threads,
            "cpu_affinity": self.budget.affinity,
            "cpu_quota": self.budget.quota,
            "machine_load": machine_load(),
            "memory_budget_bytes": self.memory.budget_bytes,
            "memory_used_bytes": self.memory.used_bytes,
            "resident_bytes": self._residency.used_bytes,
            "fork_server": not self._guest and self.forks.ready,
            "fork_server_bytes": self._beside(),
            "resident_models": len(residents),
            "loads": self._residency.loads,
            "evictions": self._residency.evictions,
            "queued_calls": self._queued(),
            "in_flight_calls": sum(resident.in_flight for resident in self._residency.everyone),
            "cache_bytes": self._cache.bytes,
            "cache_hits": self._cache.hits,
            "cache_misses": self._cache.misses,
            "draining": self._draining,
            "models": [self._model_info(resident) for resident in residents.values()],
            "failed_models": self._residency.failures(),
        }

    async def drain(self) -> None:
        """Refuses new calls and returns when all accepted ones are answered."""
        self._draining = True
        await self._quiet.wait()

    async def close(self) -> None:
        """Ends everything now; calls that still wait are answered with Stopped."""
        self._draining = True
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
        await self._residency.close(_stopping())
        self.memory.leave(self._residency)
        if not self._guest:  # after those who may wait for a worker
            await self.forks.close()
        await self._cache.close()

    async def _card(self, call: Call) -> Card:
        if self._draining:
            raise _stopping()
        return await self._fitting(call)

    async def _fitting(self, call: Call) -> Card:
        card = await self._resolve(call.model)
        if call.task is not None and call.task != card.task:
            raise WrongTask(f"The model '{card.name}' does the task '{card.task}', not '{call.task}'.")
        return card

    async def _resolve(self, ref: str) -> Card:
        """The Card behind a ref; a model in memory is believed in, and looked up again behind the caller's back."""
        kept = self._cards.get(ref)
        if kept is not None and time.monotonic() - kept[1] < FRESH_S:
            return self._cards.get(kept[0].name, kept)[0]  # asked by another name, it may have changed since
        task = self._look_up(ref)
        if kept is not None and self._residency.is_warm(kept[0]):
            return kept[0]
        return await asyncio.shield(task)  # what is opened now should be what lies there now

    def _look_up(self, ref: str) -> asyncio.Task[Card]:
        task = self._asking.get(ref)
        if task is None:
            task = self._asking[ref] = asyncio.create_task(self._ask(ref))
            # Nobody may be waiting for it; its error is then told by the next call.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _ask(self, ref: str) -> Card:
        try:
            card = await aside(lambda: self._library.card(ref))
        except Error as error:
            kept = self._cards.pop(ref, None)
            if isinstance(error, UnknownModel):
                # It finishes what it accepted, for which nobody who asks for it now should wait.
                unloading = asyncio.create_task(self._residency.unload(kept[0].name if kept else ref))
                self._unloading.add(unloading)
                unloading.add_done_callback(self._unloading.discard)
            raise
        finally:
            del self._asking[ref]
        self._cards[ref] = self._cards[card.name] = (card, time.monotonic())
        return card

    async def _is_still(self, card: Card) -> bool:
        """Whether the library, asked now, has the same files under this name."""
        try:
            if card.name in self._asking:  # that was asked before
                await asyncio.shield(self._asking[card.name])
            return (await asyncio.shield(self._look_up(card.name))).revision == card.revision
        except Error:
            return True  # it is told by who asks for it next

    async def _submitted(self, card: Card, call: Call, deadline: float) -> tuple[Resident, Entry]:
        """The call in the line of its model."""
        while True:
            resident = self._residency.warm(card) or await self._load(card, call, deadline)
            if resident.state != "gone":  # it had to make room for another as soon as it was there
                return resident, resident.submit(call, deadline)

    async def _load(self, card: Card, call: Call, deadline: float) -> Resident:
        """The model, once it is warm, if the caller wants to wait for that."""
        if not call.load_model:
            raise self._still_loading(card, "is not loaded.")
        task = self._residency.begin(card)
        if not call.wait_for_model:
            raise self._still_loading(card, "is being loaded.")
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                while True:
                    try:
                        return await self._residency.opened(task, card.name)
                    except Changed:
                        card = await self._fitting(call)
                        task = self._residency.begin(card)
        except TimeoutError:
            raise self._still_loading(card, "is being loaded, and that takes longer than the call may.") from None

    def _still_loading(self, card: Card, words: str) -> StillLoading:
        return StillLoading(f"The model '{card.name}' {words}", retry_after_s=self._residency.estimate_s(card.name))

    def _connect(self, card: Card, on_reply: OnReply, on_lost: OnLost, files: Files | None) -> Link:
        """A replica of a model, not yet opened."""
        rules = self.rules
        compute = Compute(
            precision=rules.precision,
            device=rules.device,
            threads=self.threads,
            streams=self.threads if rules.device == "cpu" else 1,
            cache_dir=rules.cache_dir,
            lone=rules.lone,
            shapes=rules.shapes,
            # A replica that has a limit should show at once what it holds.
            hasty=not rules.worker_memory_bytes,
        )
        compute = tuned(card, compute)
        duty = Duty(limits=rules.limits, max_batch=rules.max_batch, files=files)
        if not rules.isolate:
            return LocalLink(card, compute, duty, on_reply)
        return ProcessLink(
            card,
            compute,
            duty,
            on_reply,
            on_lost,
            forks=self.forks,
            decode_s=rules.decode_s,
            hang_s=rules.hang_s,
            memory_bytes=rules.worker_memory_bytes,
        )

    def _deadline(self, call: Call) -> float:
        limit_s = self.rules.request_timeout_s if call.clip is None else self.rules.video_timeout_s
        return time.monotonic() + limit_s if call.deadline is None else call.deadline

    def _queued(self) -> int:
        return sum(len(resident.line) + len(resident.clips) for resident in self._residency.everyone)

    def _room(self) -> int:
        return self.rules.queue_total - self._queued()

    def _beside(self) -> int:
        """Memory that belongs to no model."""
        return 0 if self._guest else self.forks.memory_bytes

    def _enter(self) -> None:
        if self._draining:  # since the model was looked up
            raise _stopping()
        self._serving += 1
        self._quiet.clear()

    def _leave(self) -> None:
        self._serving -= 1
        if not self._serving:
            self._quiet.set()

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            try:
                self._residency.tend()
                if time.monotonic() - self._looked_at > LOOK_S:
                    self._looked_at = time.monotonic()
                    for name in self._residency.residents:
                        self._look_up(name)
                    self._forget_cards()
            except Exception as error:
                log.error("the engine's housekeeping failed: %s", place(error))

    def _forget_cards(self) -> None:
        """Those of models that are not in memory and were not asked for lately: many may come and go in a year."""
        now, state = time.monotonic(), self._residency.state
        self._cards = {
            ref: kept for ref, kept in self._cards.items() if now - kept[1] < LOOK_S or state(kept[0].name) != "cold"
        }

    def _model_info(self, resident: Resident) -> dict[str, Any]:
        counts = resident.counts
        pace = resident.line.pace.service_s
        return {
            "name": resident.card.name,
            "state": resident.state,
            "reason": resident.reason.message if resident.reason else self._residency.refusal(resident.card.name),
            "task": resident.card.task,
            "revision": resident.card.revision,
            "memory_bytes": resident.memory_bytes,
            "load_s": round(resident.load_s, 3),
            "queued": len(resident.line) + len(resident.clips),
            "in_flight": resident.in_flight,
            "service_ms": None if pace is None else round(pace * 1e3, 2),
            "accepted": counts.accepted,
            "answered": counts.answered,
            "refused": counts.refused,
            "would_refuse": counts.would_refuse,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
            "expired": counts.expired,
            "retried": counts.retried,
            "crashes": counts.crashes,
            "batch_sizes": dict(sorted(counts.batches.items())),
            "replicas": resident.facts(),
        }


def _stopping() -> Stopped:
    return Stopped("The server is shutting down and takes no new calls. Try again in a moment.", retry_after_s=5.0)
