"""All dedicated endpoints of this server; after a restart they are as they were."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeAlias, TypeVar

from msgspec.structs import replace

from saccade.call import Call
from saccade.card import Card
from saccade.endpoints.drawer import Drawer
from saccade.endpoints.endpoint import PROBE, Endpoint, Plan, Record, Records, State, checked_name
from saccade.endpoints.figures import Figures, Line, Report
from saccade.engine.aside import aside
from saccade.errors import BadOptions, CallError, Error, Stopped, UnknownModel, Unreachable, place, short_of

log = logging.getLogger("saccade.endpoints")

T = TypeVar("T")

Resolve: TypeAlias = Callable[[Plan], Card]
"""The Card of the plan's model; may take a while, so it is called in a thread. Raises UnknownModel."""

RETRY_S = 15.0
"""How long after a region did not answer it is asked again to start an endpoint."""

MEASURE_S = 5.0
"""How often is looked what the endpoints use of their processors and memory."""

KEEP_S = 15.0
"""How often what the endpoints did is written down; so much of it may be lost when the server is killed."""

REWRITE_S = 5.0
"""How often is tried again to write down what became of endpoints, when that failed."""

LOOK_S = 0.02
"""Between two looks whether an endpoint has stopped."""

AT_ONCE = 4
"""So many endpoints of the server before are brought up on this machine at one time: each opens its model with all
processors, and hundreds together would all take too long."""

LEAVE_S = 1.0
"""So long is waited for changes that the end of the server breaks off."""

PICTURE = b"P6\n64 64\n255\n" + bytes([114]) * (64 * 64 * 3)
"""What an endpoint is asked about to see whether it answers."""


class Fleet:
    """The endpoints by name. Changes to one endpoint happen one after the other; different ones do not wait."""

    def __init__(
        self,
        records: Records,
        resolve: Resolve,
        endpoint: Callable[[Record], Endpoint],
        drawer: Drawer | None = None,
    ) -> None:
        """``endpoint`` makes an endpoint that is not running yet, on this machine or in the plan's region.

        Without a ``drawer`` figures live as long as this process.
        """
        self._records = records
        self._resolve = resolve
        self._make = endpoint
        self._drawer = drawer
        self._here: dict[str, Record] = {}
        self._running: dict[str, Endpoint] = {}
        self._figures: dict[str, Figures] = {}
        self._served: set[str] = set()
        """Ids of endpoints that were ready when the server before this one ended, and are to be so again."""
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._unread: set[str] = set()
        """Ids of endpoints whose figures of before lie in the drawer alone: a month of them takes 2.6 MB in memory."""
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._retries: dict[str, asyncio.TimerHandle] = {}
        self._edits: dict[str, asyncio.Lock] = {}
        self._unwritten: dict[str, Record | None] = {}
        self._writing = asyncio.Lock()
        self._writes: set[asyncio.Task[None]] = set()

    def recall(self) -> None:
        """Knows the endpoints of the server before this one, so that their callers are told to come again."""
        for record in self._records.all():
            runs = record.state in ("ready", "deploying", "creating") or (record.state == "failed" and record.unreached)
            state: State = "deploying" if runs else "stopped" if record.state == "stopping" else record.state
            self._here[record.name] = replace(record, state=state)
            self._unread.add(record.id)
            if record.state == "ready":
                self._served.add(record.id)

    async def open(self) -> None:
        """Brings back what ran before the server stopped; endpoints come up in the background."""
        if not self._here:
            self.recall()
        for record in self.records():
            if record.state == "deploying":
                self._spawn(self._bring_back(record))
        self._spawn(self._measure())
        self._spawn(self._keep())
        self._spawn(self._keep_writing())

    async def close(self) -> None:
        """Stops the engines; the records keep saying what should run."""
        for retry in self._retries.values():
            retry.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:  # a start writes down how far it came
            await asyncio.wait(self._tasks, timeout=LEAVE_S)
        for name in self._unwritten:
            self._write_soon(name)
        if self._writes:
            await asyncio.wait(self._writes, timeout=LEAVE_S)
        await self._write_figures()
        await asyncio.gather(*(one.leave() for one in self._running.values()), return_exceptions=True)
        self._running.clear()

    def records(self) -> list[Record]:
        """Every endpoint, oldest first."""
        return sorted(self._here.values(), key=lambda record: record.created)

    def knows(self, name: str) -> bool:
        """Whether this process knows an endpoint of this name."""
        return name in self._here

    async def meet(self, name: str) -> bool:
        """Whether there is an endpoint of this name; from now on this process knows it, whoever made it.

        Raises:
            Unreachable: it cannot be looked up now.
        """
        return self.knows(name)

    def record(self, name: str) -> Record:
        """One endpoint.

        Raises:
            UnknownModel: there is none of this name.
        """
        if name in self._here:
            return self._here[name]
        raise UnknownModel(f"There is no endpoint '{name[:60]}'. `saccade endpoints list` shows those that exist.")

    async def current(self, name: str) -> Record:
        """One endpoint before it is changed: as it is now, whoever else may change it.

        Raises:
            UnknownModel: there is none of this name.
        """
        return self.record(name)

    def figures(self, name: str) -> Figures:
        """Where this process counts what the endpoint does."""
        self.record(name)
        return self._figures.setdefault(name, Figures())

    def counted(self) -> dict[str, Report]:
        """What was counted in this process since this was last asked, by endpoint id; it is forgotten here."""
        taken = {name: figures.take() for name, figures in self._figures.items()}
        return {self._here[name].id: one for name, one in taken.items() if one is not None and name in self._here}

    def recount(self, reports: Mapping[str, Report]) -> None:
        """Gives back what :meth:`counted` gave and nobody took."""
        for name, record in self._here.items():
            if record.id in reports:
                self.figures(name).add(reports[record.id])

    async def metrics(self, name: str, span: str) -> dict[str, Any]:
        """What the endpoint did, wherever it ran; see :meth:`Figures.metrics`."""
        return (await self._whole(name)).metrics(span)

    async def sparkline(self, name: str) -> dict[str, Any]:
        """See :meth:`Figures.sparkline`."""
        return (await self._whole(name)).sparkline()

    async def lines(
        self, name: str, limit: int, severity: str | None = None, before: float | None = None
    ) -> list[Line]:
        """See :meth:`Figures.lines`."""
        return (await self._whole(name)).lines(limit, severity, before)

    def replicas(self, name: str) -> int:
        """How many replicas are up now."""
        running = self._running.get(name)
        return running.replicas() if running else 0

    def facts(self) -> dict[str, dict[str, Any]]:
        """For metrics: of each endpoint whether it is ready, how many replicas it has, and what its engine tells."""
        told = {name: one.facts() for name, one in self._running.items()}
        return {
            name: {**told.get(name, {}), "ready": int(record.state == "ready"), "replicas": self.replicas(name)}
            for name, record in self._here.items()
        }

    def running(self, name: str) -> Endpoint | None:
        """The endpoint if it runs."""
        return self._running.get(name)

    def serving(self, name: str) -> Endpoint:
        """The running endpoint.

        Raises:
            UnknownModel: there is none of this name.
            Stopped: it is not running; the text is the documented one.
        """
        record = self.record(name)
        running = self._running.get(name)
        if running is not None:
            return running
        wait_s = 2 if record.state in ("creating", "deploying") else 30
        why = f" ({record.reason})" if record.reason else ""
        raise Stopped(f"Service Unavailable: the endpoint '{name}' is {record.state}{why}.", retry_after_s=wait_s)

    async def check(self, name: str) -> None:
        """Asks the endpoint about a small picture; one that sleeps is left to sleep.

        Raises:
            Error: it does not answer, with the reason.
        """
        running = self.serving(name)
        if not running.replicas() and not self.record(name).plan.min_replicas:
            return
        with contextlib.suppress(CallError):  # It answers, though this model wants to be asked in another way.
            await running.predict(Call(model="", media=PICTURE, caller=PROBE))

    async def create(self, name: str, plan: Plan, *, title: str = "", project: str = "") -> Record:
        """A new endpoint that comes up in the background; one that is down and had the same model gets the new plan.

        Raises:
            BadOptions: the name is taken or cannot be used, or its port or host name is another endpoint's.
            UnknownModel: there is no such model.
            Unreachable: it cannot be written down; then it is not made.
        """
        return await self._to_the_end(self._create(name, plan, title, project))

    async def start(self, name: str, plan: Plan | None = None) -> Record:
        """Starts a stopped or failed endpoint in the background, with its plan or another; a running one is left.

        One that is being stopped is waited for.
        """
        return await self._to_the_end(self._started(name, plan))

    async def describe(self, name: str, title: str | None, metadata: dict[str, Any] | None) -> Record:
        """What people want to know of it, beside its name."""
        record = await self.current(name)
        fields: dict[str, Any] = {"title": title, "metadata": metadata}
        await self._save(record.name, **{field: value for field, value in fields.items() if value is not None})
        return self.record(name)

    async def stop(self, name: str) -> Record:
        """Finishes its calls and frees its memory; the URL stays and answers 503.

        Raises:
            Unreachable: its region does not answer; it runs on.
        """
        return await self._to_the_end(self._stop(name))

    async def replace(self, name: str, model: str, *, title: str = "", project: str = "") -> Record:
        """Puts another model behind the same URL; the old one serves until the new one is healthy.

        One that has failed is started with it in the background, one that is stopped stays so. ``title`` and
        ``project`` change with the model, if they are given.

        Raises:
            Error: the new model cannot serve; the old one goes on.
        """
        return await self._to_the_end(self._replace(name, model, title, project))

    async def resize(self, name: str, plan: Plan) -> Record:
        """Another number of replicas, memory, idle time or limit, without an outage."""
        return await self._to_the_end(self._resize(name, plan))

    async def remove(self, name: str) -> str:
        """Stops it and forgets it; what may be left of it in its region, in words, or "".

        Raises:
            Unreachable: its region does not answer, and it was up there; it stays. One that is down is forgotten.
        """
        await self.current(name)
        return await self._to_the_end(self._remove(name))

    async def _create(self, name: str, plan: Plan, title: str, project: str) -> Record:
        async with self._edit(checked_name(name)):
            if name not in self._here:
                await self._check_unclaimed(name)
            self._check_addresses(name, plan)
            known = self.knows(name)
            if not known:
                record = Record(
                    id=secrets.token_hex(12), name=name, plan=plan, created=time.time(), title=title, project=project
                )
                await self._put(name, record)
        if known:
            try:
                return await self._again(name, plan)
            except UnknownModel:  # it was removed meanwhile
                return await self._create(name, plan, title, project)
        try:
            await aside(lambda: self._resolve(plan))
        except Exception:
            await self._drop(record)
            raise
        self._spawn(self._start(name))
        return self.record(name)

    async def _check_unclaimed(self, name: str) -> None:
        """Raises BadOptions when another server with the same database has an endpoint of this name."""
        kept = await asyncio.to_thread(lambda: {one.name for one in self._records.all()})
        if name in kept and name not in self._unwritten and not await self.meet(name):
            raise BadOptions(
                f"Another server with the same database has an endpoint '{name}'. Choose another name, or change it "
                "there."
            )

    def _check_addresses(self, name: str, plan: Plan) -> None:
        """Raises BadOptions when a port or host name of the plan is another endpoint's."""
        for other in (record for record in self._here.values() if record.name != name):
            if plan.port and other.plan.port == plan.port:
                raise BadOptions(f"Port {plan.port} is that of the endpoint '{other.name}'. Choose another.")
            if plan.hostname and other.plan.hostname == plan.hostname:
                raise BadOptions(f"{plan.hostname} is the host name of '{other.name}'. Choose another.")

    async def _started(self, name: str, plan: Plan | None) -> Record:
        record = await self._at_rest(name)
        if record.state in ("stopped", "failed"):
            await self._save(name, plan=plan or record.plan, state="deploying", reason="")
            self._spawn(self._start(name))
        return self.record(name)

    async def _stop(self, name: str) -> Record:
        async with self._lock(name):
            await self._end(await self.current(name))
        return self.record(name)

    async def _remove(self, name: str) -> str:
        async with self._lock(name):
            record, left = await self.current(name), ""
            try:
                await self._end(record)
                await self._make(self.record(name)).remove()
            except Error as error:
                if not record.plan.region or record.state not in ("stopped", "failed"):
                    raise
                if record.region_id or record.started:
                    why = error.message.partition(". ")[0].rstrip(".")
                    left = f"{why}, so an endpoint '{name}' may be left there."
            await self._erase(name)
            self._running.pop(name, None)
            self._figures.pop(name, None)
            self._unread.discard(record.id)
            if self._drawer is not None:
                await asyncio.to_thread(self._drawer.remove, record.id)
        return left

    async def _end(self, record: Record) -> None:
        """It runs no more; if that fails it is what it was, with its reason.

        Raises:
            Unreachable: its region does not answer, or it cannot be written down.
        """
        name = record.name
        running = self._running.get(name) or self._left_over(record)
        if running is None:
            await self._save(name, state="stopped", reason="")
            return
        await self._save(name, state="stopping", reason="")
        served = self._running.pop(name, None)
        try:
            await running.stop()
        except Exception:
            if served is not None:
                self._running[name] = served
            await self._tell(name, state=record.state, reason=record.reason)
            raise
        await self._tell(name, state="stopped")

    async def _replace(self, name: str, model: str, title: str, project: str) -> Record:
        async with self._lock(name):
            record = await self.current(name)
            plan = replace(record.plan, model=model)
            words = {"title": title, "project": project}
            fields: dict[str, Any] = {"plan": plan, **{word: text for word, text in words.items() if text}}
            card = await aside(lambda: self._resolve(plan))
            running = self._running.get(name)
            if running is None:
                failed = record.state == "failed"
                fresh: dict[str, Any] = {"state": "deploying", "reason": ""} if failed else {}
                await self._save(name, **fields, **fresh)
                if failed:
                    self._spawn(self._start(name))
                return self.record(name)
            await self._save(name, state="deploying", reason="")
            try:
                await running.replace(card, plan)
            except Exception as error:
                self.figures(name).note("ERROR", f"Replacing the model by {model} failed: {_words(error)}")
                await self._tell(name, state="ready")
                raise
            await self._tell(name, **fields, state="ready", revision=running.revision, started=time.time())
            self.figures(name).note("INFO", f"The model is now {model}.")
        return self.record(name)

    async def _resize(self, name: str, plan: Plan) -> Record:
        async with self._lock(name):
            record = await self.current(name)
            running = self._running.get(name)
            if running is None or not self._matters(record.plan, plan):
                await self._save(name, plan=plan)
                return self.record(name)
            card = await aside(lambda: self._resolve(plan))
            await self._save(name, plan=plan)
            try:
                await running.replace(card, plan)
            except Exception:
                await self._tell(name, plan=record.plan)
                raise
        return self.record(name)

    async def _to_the_end(self, change: Coroutine[None, None, T]) -> T:
        """What a change returns; it goes on when its caller leaves, or an endpoint would stay halfway."""
        task = self._spawn(change)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    def _matters(self, old: Plan, new: Plan) -> bool:
        """Whether what runs must be told of the change."""
        return replace(new, calls_per_hour=0) != replace(old, calls_per_hour=0)

    async def _again(self, name: str, plan: Plan) -> Record:
        """Starts an endpoint that is down with a new plan. Raises BadOptions for one that is not, or is another."""
        record = await self._at_rest(name)
        same = (record.plan.model, record.plan.region) == (plan.model, plan.region)
        if same and record.state in ("stopped", "failed"):
            return await self.start(name, plan)
        raise BadOptions(
            f"An endpoint '{name}' exists already. Choose another name, or change it: "
            f"saccade endpoints replace {name} {plan.model}, saccade endpoints start {name} --replicas MIN:MAX"
        )

    async def _at_rest(self, name: str) -> Record:
        """The record, when no stop is under way any more."""
        while (record := await self.current(name)).state == "stopping":
            await self._while_stopping(record)
            await asyncio.sleep(LOOK_S)
        return record

    def _left_over(self, record: Record) -> Endpoint | None:
        """What may run of the endpoint though this process does not hold it: in its region, what failed on the way."""
        failed = record.plan.region and record.state == "failed" and (record.region_id or record.started)
        return self._make(record) if failed else None

    async def _while_stopping(self, record: Record) -> None:
        async with self._lock(record.name):
            pass

    async def _bring_back(self, record: Record) -> None:
        light = record.plan.region or (record.id in self._served and record.plan.may_sleep)
        async with contextlib.nullcontext() if light else self._turns:
            await self._start(record.name)

    async def _start(self, name: str) -> None:
        async with self._lock(name):
            try:
                record = await self.current(name)
            except UnknownModel:
                return
            if name in self._running or record.state == "stopped":  # by somebody who was quicker
                return
            await self._tell(name, state="deploying", reason="")
            try:
                endpoint = await self._up(record)
            except Exception as error:
                again = isinstance(error, Unreachable)
                await self._tell(name, state="failed", reason=(why := _words(error)), unreached=again)
                self.figures(name).note("ERROR", f"Starting failed: {why}")
                if again:
                    self._start_later(name)
                return
            self._running[name] = endpoint
            await self._tell(name, state="ready", reason="", revision=endpoint.revision, started=time.time())
            self.figures(name).note("INFO", f"Ready with {record.plan.model}.")

    async def _up(self, record: Record) -> Endpoint:
        """The endpoint once it serves; what its region has of it is written down, however that ends."""
        endpoint = self._make(record)
        card = await aside(lambda: self._resolve(record.plan))
        served = record.id in self._served
        self._served.discard(record.id)
        try:
            await (endpoint.recall if served else endpoint.start)(card, record.plan)
        finally:
            if endpoint.region_id != record.region_id:
                await self._tell(record.name, region_id=endpoint.region_id)
        return endpoint

    def _start_later(self, name: str) -> None:
        """Another try for an endpoint whose region did not answer; one, however often it is tried by hand meanwhile."""
        if name in self._retries:
            self._retries[name].cancel()
        self._retries[name] = asyncio.get_running_loop().call_later(RETRY_S, self._start_again, name)

    def _start_again(self, name: str) -> None:
        del self._retries[name]
        if name in self._here and self._here[name].state == "failed":
            self._spawn(self._start(name))

    async def _measure(self) -> None:
        """Fills the plots of what running endpoints use."""
        while True:
            await asyncio.sleep(MEASURE_S)
            for name, running in tuple(self._running.items()):
                try:
                    self.figures(name).measured(*running.load(), running.replicas())
                except Exception as error:  # the next look may see more
                    log.error("what the endpoint '%s' uses cannot be measured now: %s", name, place(error))

    async def _keep(self) -> None:
        """Writes down what running endpoints do."""
        while True:
            await asyncio.sleep(KEEP_S)
            await self._write_figures()

    async def _write_figures(self) -> None:
        if self._drawer is None:
            return
        for name in tuple(self._figures):  # not what they name: all would be held until the last is written
            if name not in self._here or name not in self._figures:
                continue
            id, figures = self._here[name].id, self._figures[name]
            if figures.changed:
                with contextlib.suppress(RuntimeError):  # no thread to read what was kept before: next time
                    await self._drawer.keep(id, await self._whole(name))
            rests = self._figures.get(name) is figures and not self.replicas(name)
            if rests and not figures.changed and id not in self._unread:
                self._unread.add(id)
                self._figures[name] = Figures()

    async def _whole(self, name: str) -> Figures:
        """What was counted here, and before this process. Raises UnknownModel."""
        figures, id = self.figures(name), self.record(name).id
        if self._drawer is not None and id in self._unread:
            kept = await asyncio.to_thread(self._drawer.read, id)
            if id in self._unread:
                self._unread.remove(id)
                if kept is not None:
                    figures.add(kept)
        return figures

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    async def _tell(self, name: str, **fields: Any) -> None:
        """What has happened to an endpoint: written down now or, if that cannot be, later."""
        async with self._edit(name):
            self._note(name, replace(self.record(name), **fields))
            await self._try_to_write(name)

    async def _save(self, name: str, **fields: Any) -> None:
        """What somebody wants of an endpoint: written down before it is done.

        Raises:
            UnknownModel: it was removed meanwhile.
            Unreachable: it cannot be written; then nothing has changed here either.
        """
        async with self._edit(name):
            await self._put(name, replace(self.record(name), **fields))

    async def _erase(self, name: str) -> None:
        """Forgets an endpoint. Raises Unreachable; then it is known as before."""
        async with self._edit(name):
            await self._put(name, None)
            self._here.pop(name, None)

    async def _drop(self, record: Record) -> None:
        """Forgets an endpoint of which nothing came, unless another one has its name by now."""
        async with self._edit(record.name):
            if record.name in self._here and self._here[record.name].id == record.id:
                del self._here[record.name]
                self._note(record.name, None)
                await self._try_to_write(record.name)

    async def _put(self, name: str, record: Record | None) -> None:
        """Written now, or never; within :meth:`_edit`."""
        here = {name: self._here[name]} if name in self._here else {}
        unwritten = {name: self._unwritten[name]} if name in self._unwritten else {}
        self._note(name, record)
        try:
            await self._written(name)
        except Error:
            self._here.pop(name, None)
            self._here.update(here)
            self._unwritten.pop(name, None)
            self._unwritten.update(unwritten)
            raise

    async def _try_to_write(self, name: str) -> None:
        try:
            await self._written(name)
        except Error as error:
            log.warning("what became of the endpoint '%s' is written down later: %s", name, error.message)

    def _edit(self, name: str) -> asyncio.Lock:
        """Held from before a record is changed until the change is written: of two, none undoes the other."""
        return self._edits.setdefault(name, asyncio.Lock())

    def _note(self, name: str, record: Record | None) -> None:
        if record is not None:
            self._here[name] = record
        self._unwritten[name] = record

    async def _written(self, name: str) -> None:
        """Returns when what was noted is written; who waits may leave."""
        await asyncio.shield(self._write_soon(name))

    def _write_soon(self, name: str) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self._write(name))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _write(self, name: str) -> None:
        """One write at a time, and always the newest: none can overtake another."""
        async with self._writing:
            if name not in self._unwritten:
                return
            record = self._unwritten[name]
            try:
                if record is None:
                    await asyncio.to_thread(self._records.remove, name)
                else:
                    await asyncio.to_thread(self._records.save, record)
            except (RuntimeError, OSError) as error:  # no thread, say: not written either
                raise short_of(error) or error from None
            if self._unwritten.get(name, name) is record:
                del self._unwritten[name]

    async def _keep_writing(self) -> None:
        """Writes what could not be written before."""
        while True:
            await asyncio.sleep(REWRITE_S)
            if self._unwritten and not self._writes:
                for name in self._unwritten:
                    self._write_soon(name)

    def _spawn(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _words(error: Exception) -> str:
    """What an endpoint's own log and its callers are told of an error; the server's log gets the place of a bug."""
    known = error if isinstance(error, Error) else short_of(error)
    if known is not None:
        return known.message
    log.error("internal error with an endpoint: %s", place(error))
    return "An internal error; the server's log tells where."
