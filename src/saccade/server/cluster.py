"""The server on a Ray cluster: the shared API and every dedicated endpoint as applications of Ray Serve.

Each replica is a whole saccade: the same ASGI application with an engine of its own, so that decoding and inference
happen in the replica that HAProxy chose and no picture crosses the cluster twice. Models stay in worker processes of
the replica (unless ``isolate`` is off): a crash costs one worker and no answer, and a model that leaves gives all its
memory back. Keys, quotas, usage and the list of endpoints are in the database that all replicas share.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvicorn

from saccade.call import Answer, Call
from saccade.dialects.dialect import ModelState
from saccade.endpoints import ray
from saccade.endpoints.endpoint import Endpoint, Plan, Record, State, replicas
from saccade.endpoints.figures import Line
from saccade.endpoints.fleet import Fleet
from saccade.errors import BadOptions, BadSettings, Error, Overloaded, Stopped, place
from saccade.server import systemd
from saccade.server.app import App
from saccade.server.connection import Connection
from saccade.server.database import Database
from saccade.server.dedicated import PREFIX, Dedicated
from saccade.server.desk import Engine, Library
from saccade.server.reception import listening, speak
from saccade.server.records import SqlRecords
from saccade.server.settings import Settings
from saccade.server.shelves import open_library
from saccade.server.wiring import Resolving, build, furnish, open_engine, open_gate, placed

if TYPE_CHECKING:
    from saccade.server.elsewhere import Regions

log = logging.getLogger("saccade.server")

BUSY_CALLS, BUSY_S = 30, 10.0
"""A model that is asked for so often in so many seconds is loaded by every replica that is asked for it."""

SYNC_S = 1.0
"""How often a replica looks what the others did."""

TELL_S = 1.0
"""How often a replica tells what it counted."""

LOOK_S = 0.02
"""How often is looked whether the last call is finished."""

STOP_S = 90.0
"""How long an endpoint may take to stop before a start that waits for it is given up."""

ORPHAN_S = 60.0
"""An endpoint that should come up, but that no replica is working on for so long, is started again."""

Shelf = Callable[[Settings], Library]
"""Makes the library on a node; tests hand in invented models."""


def deploy(settings: Settings, shelf: Shelf = open_library) -> None:
    """Runs the shared API on the cluster that this process is connected to; endpoints come back by themselves. Blocks.

    Raises:
        BadSettings: the database cannot be shared by the cluster's machines.
        RunFailed: it does not come up.
    """
    if not settings.database_url and len(ray.hosts()) > 1:
        raise BadSettings(
            "A cluster of several machines needs one database for keys and usage: set database_url to PostgreSQL "
            "(and redis_url to Redis for quotas)."
        )
    database = Database(settings.database_url, settings.home)
    open_gate(settings, database)
    database.close()
    least, most = replicas(settings.ray_replicas)
    ray.open_doors(settings.host, settings.port, settings.ray_proxies == "every_node")
    ray.open_ledger(str(Path(settings.home) / "figures"))
    scale = msgspec.structs.replace(_scale(settings, max(1, least), most), by_model=True)
    ray.publish(ray.SHARED, "/", functools.partial(shared, settings, shelf), scale)


def serve(settings: Settings, address: str | None) -> None:
    """Serves on the cluster at ``address``, or on one that is started on this machine, until a signal comes.

    Then accepted calls are finished, as long as the settings allow; a second signal ends everything at once.

    Raises:
        MissingExtra: Ray is not installed.
        SetupError, RunFailed: it cannot be run there.
    """
    begun = time.perf_counter()
    speak()
    variables = prepare(address)
    if not address:
        ray.sweep()
        with listening(settings.host, settings.port) as free:  # a cluster would find out late, and say less
            settings = msgspec.structs.replace(settings, port=free.getsockname()[1])
    signals = Signals()
    signals.heed()
    with contextlib.suppress(KeyboardInterrupt):
        started = ray.connect(address, variables)
        signals.heed()
        try:
            with contextlib.suppress(KeyboardInterrupt):
                deploy(settings)
                signals.ready = True
                print(f"saccade ready on http://{settings.host}:{settings.port}", flush=True)
                systemd.notify("READY=1")
                log.info("ready on Ray after %.2f s", time.perf_counter() - begun)
                while not signals.stop.wait(systemd.pause_s()):
                    systemd.notify("WATCHDOG=1")
            systemd.notify("STOPPING=1")
            withdraw(settings.drain_timeout_s, stay=started)
        finally:
            ray.disconnect(started)


def withdraw(drain_timeout_s: float, stay: bool = False) -> None:
    """Ends every application of ours; the database keeps saying what should run. Blocks.

    The shared API goes first, because it would bring back endpoints that it sees ending, and the ledger last, because
    all others tell it what they counted. With ``stay`` they are only closed, because their cluster ends now.
    """
    found = ray.standings()
    up = {name for name, standing in found.items() if standing.replicas}
    last_things = ({ray.SHARED}, up - {ray.SHARED, ray.LEDGER}, {ray.LEDGER})
    for names in last_things:
        ray.farewell(up & names, drain_timeout_s)
    if not stay:
        ray.withdraw(found)


def prepare(address: str | None) -> dict[str, str]:
    """Sets what Ray reads when it is imported, and returns it; what the operator has set stays.

    A cluster that is started here does without HAProxy where there is none; one at an address has its own machines.

    Raises:
        MissingExtra: Ray is not installed.
    """
    ray.check_installed()
    program = os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH", "")
    if not address and not ray.has_haproxy(program) and os.environ.setdefault("RAY_SERVE_ENABLE_HA_PROXY", "0") == "0":
        log.warning("There is no HAProxy here. %s", ray.INSTEAD)
    return {name: os.environ.setdefault(name, value) for name, value in ray.ENVIRONMENT.items()}


class Signals:
    """What SIGINT and SIGTERM do: give up while the server comes up, then stop it; the second ends it at once.

    SIGHUP, which a closed terminal may send twice, stops it, too, unless ``nohup`` has it ignored.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.ready = False

    def heed(self) -> None:
        """From now on; called again after Ray put in a handler of its own."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._came)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._came)

    def _came(self, number: int, _frame: object) -> None:
        if self.stop.is_set():
            if number == signal.SIGHUP:
                return
            ray.abandon()
            os._exit(128 + number)
        self.stop.set()
        if not self.ready:
            raise KeyboardInterrupt


async def shared(settings: Settings, shelf: Shelf) -> House:
    """A replica of the shared API."""
    speak()
    _answer_whole()
    settings = _portion(settings)
    database = Database(settings.database_url, settings.home)
    library = shelf(settings)
    engine = Neighbourly(open_engine(settings, library), ray.Peers(ray.SHARED, by_model=True))
    app = build(settings, library, engine, open_gate(settings, database), None, SqlRecords(database))
    fleet = ClusterFleet(SqlRecords(database), library, settings, shelf, app.regions)
    app.fleet = fleet
    app.dedicated = Dedicated(app, fleet, furnish)
    furnish(app)
    for name in settings.preload:
        await app.fetched(name)
    await app.engine.start()
    await fleet.open()
    app.ready = True
    return House(app, app, Books(fleet))


async def dedicated(settings: Settings, shelf: Shelf, record: Record) -> House:
    """A replica of a dedicated endpoint: a saccade with one endpoint, which is up when this returns.

    Raises:
        Error: the model cannot be served.
    """
    speak()
    _answer_whole()
    settings = _portion(settings)
    plan = msgspec.structs.replace(
        record.plan, min_replicas=1, max_replicas=1, idle_stop_s=0, region="", port=0, hostname=""
    )
    database = Database(settings.database_url, settings.home)
    library = shelf(settings)
    app = build(settings, library, open_engine(settings, library), open_gate(settings, database))
    fleet = Fleet(
        One(msgspec.structs.replace(record, plan=plan, state="ready")),
        Resolving(library),
        lambda one: placed(one, settings, library, None),
    )
    app.fleet = fleet
    await fleet.open()
    while fleet.running(record.name) is None:
        if fleet.record(record.name).state == "failed":
            raise BadSettings(fleet.record(record.name).reason)
        await asyncio.sleep(0.02)
    app.ready = True
    fleet.counted()
    fleet.figures(record.name).note("INFO", f"A replica with {plan.model} came up.")
    return House(app, Dedicated(app, fleet, furnish).app(record.name), Books(fleet), f"{PREFIX}{record.name}")


class House:
    """An application in a replica; see :class:`saccade.endpoints.ray.House`."""

    def __init__(self, whole: App, front: App, books: Books, prefix: str = "") -> None:
        """``front`` answers the requests, and sees their paths without ``prefix``; ``whole`` owns all that it needs."""
        self._whole, self._front = whole, front
        self._books = books
        self._prefix = prefix
        self._from_replicas = 0
        self._closed = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request; starting and stopping was done elsewhere."""
        if scope["type"] == "lifespan":
            await _lived(receive, send)
        elif not self._prefix:
            await self._front(scope, receive, send)
        else:
            path = scope["path"].removeprefix(self._prefix) or "/"
            await self._front(
                {**scope, "path": path, "raw_path": path.encode(), "root_path": self._prefix}, receive, send
            )

    async def predict(self, call: Call) -> Answer:
        """The answer to a call that came through another replica."""
        with self._working():
            return await self._engine().predict(call)

    async def stream(self, call: Call) -> AsyncGenerator[Answer]:
        """The answers to a video that came through another replica."""
        with self._working():
            async for answer in self._engine().stream(call):
                yield answer

    async def leave(self, wait_s: float) -> None:
        """Takes no more calls, finishes the accepted ones as long as it may, and closes."""
        self._whole.drain()
        end = time.monotonic() + wait_s
        while (self._whole.inflight or self._front.inflight or self._from_replicas) and time.monotonic() < end:
            await asyncio.sleep(LOOK_S)
        await self.close()

    async def close(self) -> None:
        """Ends the engine and writes down what was counted."""
        if not self._closed:
            self._closed = True
            await self._books.close()
            await self._whole.close()

    def _engine(self) -> Engine:
        engine = self._front.engine
        return engine.here if isinstance(engine, Neighbourly) else engine

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        self._from_replicas += 1
        try:
            yield
        finally:
            self._from_replicas -= 1


class Books:
    """Tells the cluster's ledger what this replica counted."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._ledger = ray.Peers(ray.LEDGER)
        self._keeping = asyncio.create_task(self._keep())

    async def tell(self) -> None:
        """Now; what cannot be told is kept until it can."""
        counted = self._fleet.counted()
        try:
            if counted:
                await self._ledger.ask("add", counted)
        except Error:
            self._fleet.recount(counted)

    async def close(self) -> None:
        """The last time."""
        self._keeping.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TELL_S):
                await self.tell()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            await self.tell()


class Neighbourly:
    """The engine of a shared replica: calls for models that are cold here go to the replica that the model belongs to.

    So a rarely asked model is in the memory of one replica, and a busy one in that of all.
    """

    def __init__(self, here: Engine, peers: ray.Peers) -> None:
        self.here = here
        self._peers = peers
        self._passed: Counter[str] = Counter()
        self._counted_at = 0.0

    async def start(self) -> None:
        """Here."""
        await self.here.start()

    async def predict(self, call: Call) -> Answer:
        """The answer, from here or from the replica that holds the model."""
        if self.here.state(call.model) != "cold" or self._busy(call.model):
            return await self.here.predict(call)
        try:
            return await self._peers.predict(call)
        except (Overloaded, Stopped):
            return await self.here.predict(call)

    def stream(self, call: Call) -> Any:
        """Videos are answered where they arrive."""
        return self.here.stream(call)

    async def load(self, ref: str) -> Any:
        """Here."""
        return await self.here.load(ref)

    async def unload(self, ref: str) -> Any:
        """Here."""
        here: Any = self.here
        return await here.unload(ref)

    def state(self, ref: str) -> ModelState:
        """As it is here."""
        return self.here.state(ref)

    def info(self) -> dict[str, Any]:
        """Of this replica."""
        return self.here.info()

    async def drain(self) -> None:
        """Here."""
        await self.here.drain()

    async def close(self) -> None:
        """Here."""
        await self.here.close()

    def _busy(self, model: str) -> bool:
        """Whether so many calls were passed on lately that the model should be here, too."""
        now = time.monotonic()
        if now - self._counted_at > BUSY_S:
            self._passed.clear()
            self._counted_at = now
        self._passed[model] += 1
        return self._passed[model] > BUSY_CALLS


class ClusterFleet(Fleet):
    """The endpoints as the database lists them and Serve runs them, the same in every replica of the shared API.

    Those of a region run there, and are known here as on one machine.
    """

    def __init__(
        self, records: SqlRecords, library: Library, settings: Settings, shelf: Shelf, regions: Regions | None
    ) -> None:
        def made(record: Record) -> Endpoint:
            if record.plan.region:
                return placed(record, settings, library, regions)
            return ray.RayEndpoint(
                record,
                lambda one: functools.partial(dedicated, settings, shelf, one),
                lambda plan: _scale_of(settings, plan),
            )

        super().__init__(records, Resolving(library), made)
        self._shared_records = records
        self._ledger = ray.Peers(ray.LEDGER)
        self._since: dict[str, tuple[float, float]] = {}
        self._reading = asyncio.Lock()
        self._next_reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Looks once, then keeps looking."""
        await self._look()
        self._spawn(self._keep_looking())
        self._spawn(self._measure())

    async def meet(self, name: str) -> bool:
        """Also an endpoint that another replica made a moment ago."""
        if not self.knows(name):
            if self._next_reading is None:
                self._next_reading = self._spawn(self._read_again())
                self._next_reading.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(self._next_reading)
        return self.knows(name)

    async def current(self, name: str) -> Record:
        """As the database has it, for another replica may have changed it a moment ago."""
        kept = await asyncio.to_thread(lambda: next((one for one in self._records.all() if one.name == name), None))
        if name in self._unwritten:
            return self.record(name)
        if kept is None:
            self._forget(name)
            return self.record(name)
        self._here[name] = kept
        if kept.state == "stopped":  # one that failed may still have an older version that runs
            self._running.pop(name, None)
        return kept

    async def metrics(self, name: str, span: str) -> dict[str, Any]:
        """As all replicas counted."""
        told: dict[str, Any] = await self._ledger.ask("metrics", self.record(name).id, span)
        return told

    async def sparkline(self, name: str) -> dict[str, Any]:
        """As all replicas counted."""
        told: dict[str, Any] = await self._ledger.ask("sparkline", self.record(name).id)
        return told

    async def lines(
        self, name: str, limit: int, severity: str | None = None, before: float | None = None
    ) -> list[Line]:
        """As all replicas told."""
        told: list[Line] = await self._ledger.ask("lines", self.record(name).id, limit, severity, before)
        return told

    async def create(self, name: str, plan: Plan, *, title: str = "", project: str = "") -> Record:
        """See :meth:`Fleet.create`.

        Raises:
            BadOptions: it wants a port of its own.
        """
        if plan.port:
            raise BadOptions(
                f"On a Ray cluster all endpoints share one port, so '{name[:60]}' cannot have port {plan.port} of its "
                f"own. Give it a host name (--hostname), or use its address {PREFIX}{name[:60]}."
            )
        return await super().create(name, plan, title=title, project=project)

    async def remove(self, name: str) -> str:
        """See :meth:`Fleet.remove`."""
        id = (await self.current(name)).id
        left = await super().remove(name)
        with contextlib.suppress(Error):
            await self._ledger.ask("forget", id)
        return left

    async def _replace(self, name: str, model: str, title: str, project: str) -> Record:
        await self._look()
        return await super()._replace(name, model, title, project)

    async def _resize(self, name: str, plan: Plan) -> Record:
        await self._look()
        return await super()._resize(name, plan)

    def _left_over(self, record: Record) -> Endpoint | None:
        """Any replica may have started it."""
        return self._make(record)

    async def _while_stopping(self, record: Record) -> None:
        """Another replica may be stopping it; if it has died over that, the endpoint is taken over as stopped.

        Raises:
            Stopped: it takes too long.
        """
        await super()._while_stopping(record)
        end = time.monotonic() + STOP_S
        while await self.current(record.name) == record:
            if time.monotonic() > end:
                raise Stopped(f"The endpoint '{record.name}' is still stopping. Try again soon.", retry_after_s=30)
            seen = await asyncio.to_thread(ray.standings)
            await asyncio.sleep(SYNC_S)
            if ray.application(record.name) not in seen:
                stopped = msgspec.structs.replace(record, state="stopped")
                await asyncio.to_thread(self._shared_records.swap, record, stopped)

    def _matters(self, old: Plan, new: Plan) -> bool:
        """Replicas enforce the endpoint's limit themselves, so they must be told of that, too."""
        return old != new

    def _forget(self, name: str) -> None:
        for known in (self._here, self._running, self._figures, self._since):
            known.pop(name, None)

    async def _read_again(self) -> None:
        """One at a time, each for all who asked since the last one began: names that nobody has come in floods."""
        async with self._reading:
            self._next_reading = None
            for one in await asyncio.to_thread(lambda: list(self._records.all())):
                self._here.setdefault(one.name, one)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(SYNC_S)
            try:
                await self._look()
            except Error:
                continue
            except Exception as error:  # The next look may see more; without any, this replica would never learn again.
                log.error("could not look at the endpoints: %s", place(error))

    async def _look(self) -> None:
        """Takes over what the database and Serve say of endpoints that this replica is not changing itself."""
        kept = {one.name: one for one in await asyncio.to_thread(lambda: list(self._records.all()))}
        seen = await asyncio.to_thread(ray.standings)
        for name in set(self._here) - set(kept):
            if not self._changing(name):
                self._forget(name)
        for name, record in kept.items():
            if not self._changing(name):
                self._here[name] = record
                self._compare(record, seen.get(ray.application(name)))

    def _changing(self, name: str) -> bool:
        """Whether this replica knows more of an endpoint than the database."""
        return self._lock(name).locked() or name in self._unwritten

    def _compare(self, record: Record, standing: ray.Standing | None) -> None:
        name = record.name
        if standing is not None and standing.state == "ready" and record.state not in ("stopped", "stopping"):
            running = self._running.setdefault(name, self._make(record))
            if isinstance(running, ray.RayEndpoint):
                running.standing = standing
            self._show(record, "ready")
            return
        if record.plan.region and record.state == "ready":
            self._running.setdefault(name, self._make(record))
            return
        if standing is None or standing.state in ("failed", "stopping"):
            self._running.pop(name, None)
        if standing is None and record.state in ("creating", "deploying", "ready"):
            if record.state == "ready" or self._orphaned(record):
                self._spawn(self._adopt(record))
        elif standing is None and record.state == "stopping":
            self._show(record, "stopped")

    def _orphaned(self, record: Record) -> bool:
        """Whether nothing came of the last claim for so long that its replica must have died."""
        claimed, since = self._since.get(record.name, (-1.0, 0.0))
        if claimed != record.claimed:
            self._since[record.name] = record.claimed, time.monotonic()
            return False
        return time.monotonic() - since > ORPHAN_S

    async def _adopt(self, record: Record) -> None:
        """Brings up an endpoint that no replica is working on, unless another replica was quicker to claim it."""
        claimed = msgspec.structs.replace(record, state="deploying", claimed=time.time())
        if await asyncio.to_thread(self._shared_records.swap, record, claimed):
            self._here[record.name] = claimed
            await self._start(record.name)

    def _show(self, record: Record, state: State) -> None:
        """Only here: the replica that changes an endpoint writes it down, and may be removing it now."""
        self._here[record.name] = msgspec.structs.replace(record, state=state)


class One:
    """The record of the one endpoint that a replica serves."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def all(self) -> Iterable[Record]:
        """It."""
        return [self._record]

    def save(self, record: Record) -> None:
        """The replicas of the shared API keep records."""
        self._record = record

    def remove(self, name: str) -> None:
        """They forget them, too."""


async def _lived(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def _answer_whole() -> None:
    """Lets the uvicorn that Serve starts after this send head and body of an answer together.

    HAProxy gives a call to another replica if one dies, but not when the head of an answer has come already.
    """
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{Connection.__module__}:{Connection.__name__}"


def _portion(settings: Settings) -> Settings:
    """The settings of one replica: so many threads as it takes processors, and its part of the machine's memory."""
    threads = settings.threads or max(1, round(settings.ray_cpus))
    memory = settings.memory_bytes
    if not memory:
        side_by_side = max(1, (os.cpu_count() or 1) // max(1, round(settings.ray_cpus)))
        memory = int(_machine_bytes() * 0.6 / side_by_side)
    return msgspec.structs.replace(settings, threads=threads, memory_bytes=memory)


def _machine_bytes() -> int:
    from saccade.discover import budget

    return budget().memory_bytes


def _scale(settings: Settings, least: int, most: int) -> ray.Scale:
    return ray.Scale(
        least=least,
        most=most,
        processors=settings.ray_cpus,
        gpus=1.0 if settings.device == "cuda" else 0.0,
        busy_calls=2.0 * max(1.0, settings.ray_cpus),
        most_calls=2 * settings.queue_calls,
        line_calls=settings.queue_calls,
    )


def _scale_of(settings: Settings, plan: Plan) -> ray.Scale:
    return msgspec.structs.replace(
        _scale(settings, plan.min_replicas, plan.max_replicas),
        memory_bytes=plan.memory_bytes,
        idle_stop_s=plan.idle_stop_s,
    )
