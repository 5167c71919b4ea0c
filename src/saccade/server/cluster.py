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
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from saccade.call import Answer, Call
from saccade.dialects.dialect import ModelState
from saccade.endpoints import ray
from saccade.endpoints.endpoint import Plan, Record, State, replicas
from saccade.endpoints.fleet import Fleet
from saccade.errors import BadSettings, Error, Overloaded, Stopped
from saccade.server.app import App
from saccade.server.database import Database
from saccade.server.dedicated import PREFIX, Dedicated
from saccade.server.desk import Engine, Library
from saccade.server.records import SqlRecords
from saccade.server.settings import Settings
from saccade.server.shelves import open_library
from saccade.server.wiring import Resolving, build, furnish, open_engine, open_gate, placed

log = logging.getLogger("saccade.server")

BUSY_CALLS, BUSY_S = 30, 10.0
"""A model that is asked for so often in so many seconds is loaded by every replica that is asked for it."""

SYNC_S = 1.0
"""How often a replica looks what the others did."""

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
    scale = msgspec.structs.replace(_scale(settings, max(1, least), most), by_model=True)
    ray.publish(ray.SHARED, "/", functools.partial(shared, settings, shelf), scale)


def serve(settings: Settings, address: str | None) -> None:
    """Serves on the cluster at ``address``, or on one that is started on this machine, until a signal comes.

    Raises:
        MissingExtra: Ray is not installed.
        BadSettings, RunFailed: it cannot be run there.
    """
    begun = time.perf_counter()
    prepare()
    started = ray.connect(address)
    try:
        deploy(settings)
        print(f"saccade ready on http://{settings.host}:{settings.port}", flush=True)
        log.info("ready on Ray after %.2f s", time.perf_counter() - begun)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        stop.wait()
        withdraw()
    finally:
        ray.disconnect(started)


def withdraw() -> None:
    """Ends every application of ours; the database keeps saying what should run. Blocks."""
    for name in ray.standings():
        ray.withdraw(name)


def prepare() -> None:
    """Sets what Ray reads when it is imported; what the operator has set stays."""
    for name, value in ray.ENVIRONMENT.items():
        os.environ.setdefault(name, value)


async def shared(settings: Settings, shelf: Shelf) -> Shared:
    """A replica of the shared API."""
    settings = _portion(settings)
    database = Database(settings.database_url, settings.home)
    library = shelf(settings)
    engine = Neighbourly(open_engine(settings, library), ray.Peers(ray.SHARED, by_model=True))
    app = build(settings, library, engine, open_gate(settings, database), None, SqlRecords(database))
    fleet = ClusterFleet(SqlRecords(database), library, settings, shelf)
    app.fleet = fleet
    app.dedicated = Dedicated(app, fleet, furnish)
    furnish(app)
    for name in settings.preload:
        await app.fetched(name)
    await app.engine.start()
    await fleet.open()
    app.ready = True
    return Shared(app)


async def dedicated(settings: Settings, shelf: Shelf, record: Record) -> Endpoint:
    """A replica of a dedicated endpoint: a saccade with one endpoint, which is up when this returns.

    Raises:
        Error: the model cannot be served.
    """
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
        lambda one: placed(one, settings, None),
    )
    app.fleet = fleet
    await fleet.open()
    while fleet.running(record.name) is None:
        if fleet.record(record.name).state == "failed":
            raise BadSettings(fleet.record(record.name).reason)
        await asyncio.sleep(0.02)
    app.ready = True
    return Endpoint(app, Dedicated(app, fleet, furnish).app(record.name), record.name)


class Shared:
    """The shared API in a replica; see :class:`saccade.endpoints.ray.House`."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request; starting and stopping was done elsewhere."""
        if scope["type"] == "lifespan":
            await _lived(receive, send)
        else:
            await self._app(scope, receive, send)

    async def predict(self, call: Call) -> Answer:
        """The answer to a call that came through another replica."""
        engine = self._app.engine
        return await (engine.here.predict(call) if isinstance(engine, Neighbourly) else engine.predict(call))

    async def close(self) -> None:
        """Ends the engine."""
        await self._app.close()


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


class Endpoint:
    """A dedicated endpoint in a replica; see :class:`saccade.endpoints.ray.House`."""

    def __init__(self, house: App, app: App, name: str) -> None:
        self._house = house
        self._app = app
        self._prefix = f"{PREFIX}{name}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request; the application sees the path behind the endpoint's own."""
        if scope["type"] == "lifespan":
            await _lived(receive, send)
            return
        path = scope["path"].removeprefix(self._prefix) or "/"
        await self._app({**scope, "path": path, "raw_path": path.encode(), "root_path": ""}, receive, send)

    async def predict(self, call: Call) -> Answer:
        """The answer to a call that came through a replica of the shared API."""
        return await self._app.engine.predict(call)

    async def close(self) -> None:
        """Ends the engines."""
        await self._house.close()


class ClusterFleet(Fleet):
    """The endpoints as the database lists them and Serve runs them, the same in every replica of the shared API."""

    def __init__(self, records: SqlRecords, library: Library, settings: Settings, shelf: Shelf) -> None:
        def made(record: Record) -> ray.RayEndpoint:
            return ray.RayEndpoint(
                record,
                lambda one: functools.partial(dedicated, settings, shelf, one),
                lambda plan: _scale_of(settings, plan),
            )

        super().__init__(records, Resolving(library), made)
        self._since: dict[str, float] = {}
        self._mine: set[str] = set()

    async def open(self) -> None:
        """Looks once, then keeps looking."""
        await self._look()
        self._spawn(self._keep_looking())

    def knows(self, name: str) -> bool:
        """Also an endpoint that another replica made a moment ago."""
        return super().knows(name) or self._read_again(name)

    def record(self, name: str) -> Record:
        """See :meth:`Fleet.record`."""
        self.knows(name)
        return super().record(name)

    async def stop(self, name: str) -> Record:
        """See :meth:`Fleet.stop`; also what another replica started."""
        self._running.setdefault(name, self._make(self.record(name)))
        return await super().stop(name)

    async def replace(self, name: str, model: str) -> Record:
        """See :meth:`Fleet.replace`."""
        await self._look()
        return await super().replace(name, model)

    async def resize(self, name: str, plan: Plan) -> Record:
        """See :meth:`Fleet.resize`."""
        await self._look()
        return await super().resize(name, plan)

    def _read_again(self, name: str) -> bool:
        self._here.update({one.name: one for one in self._records.all() if one.name not in self._here})
        return name in self._here

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(SYNC_S)
            with contextlib.suppress(Error, OSError, RuntimeError):
                await self._look()

    async def _look(self) -> None:
        """Takes over what the database and Serve say of endpoints that this replica is not changing itself."""
        kept = {one.name: one for one in await asyncio.to_thread(lambda: list(self._records.all()))}
        seen = await asyncio.to_thread(ray.standings)
        for name in set(self._here) - set(kept):
            if not self._lock(name).locked():
                self._here.pop(name, None)
                self._running.pop(name, None)
        for name, record in kept.items():
            if not self._lock(name).locked():
                self._here[name] = record
                self._compare(record, seen.get(ray.application(name)))

    def _compare(self, record: Record, standing: ray.Standing | None) -> None:
        name = record.name
        if standing is not None and standing.state == "ready" and record.state not in ("stopped", "stopping"):
            running = self._running.setdefault(name, self._make(record))
            if isinstance(running, ray.RayEndpoint):
                running.standing = standing
            self._show(record, "ready")
            self._since.pop(name, None)
            return
        if standing is None or standing.state in ("failed", "stopping"):
            self._running.pop(name, None)
        if standing is None and record.state in ("creating", "deploying", "ready"):
            since = self._since.setdefault(name, time.monotonic())
            if record.state == "ready" or time.monotonic() - since > ORPHAN_S:
                self._since.pop(name, None)
                self._spawn(self._start(name))
        elif standing is None and record.state == "stopping":
            self._show(record, "stopped")

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
