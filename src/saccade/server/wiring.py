"""Builds the parts of a server from its settings, and puts them together."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.middleware.exceptions import ExceptionMiddleware

from saccade.card import Card
from saccade.dialects import hub, platform, yolo_v1
from saccade.dialects.dialect import Dialect
from saccade.endpoints.drawer import Drawer
from saccade.endpoints.endpoint import Endpoint, Plan, Record, Records
from saccade.endpoints.endpoint import Engine as EndpointEngine
from saccade.endpoints.fleet import Fleet
from saccade.endpoints.local import LocalEndpoint
from saccade.engine.engine import Engine as LocalEngine
from saccade.engine.rules import Rules
from saccade.errors import BadSettings, Error
from saccade.media import Limits
from saccade.server.access import Gate, is_loopback
from saccade.server.app import App, Fetch, installed
from saccade.server.database import Database
from saccade.server.dedicated import Dedicated
from saccade.server.desk import Engine, FrontDesk, Library
from saccade.server.gate import CountingOpenGate, KeyGate
from saccade.server.metrics import Metrics
from saccade.server.pages import Pages
from saccade.server.quotas import SqlWindows, Windows
from saccade.server.settings import FILE, Settings, load

if TYPE_CHECKING:
    from saccade.server.elsewhere import Regions


def build(
    settings: Settings,
    library: Library,
    engine: Engine,
    gate: Gate,
    dialects: Sequence[Dialect] | None = None,
    records: Records | None = None,
) -> App:
    """The application, wired; without ``records`` it has no dedicated endpoints."""
    desk = FrontDesk(library, engine, settings.default_model, "gpu" if settings.device == "cuda" else "cpu")

    def state() -> dict[str, Any]:
        return {**engine.info(), "endpoints": {} if app.fleet is None else app.fleet.facts()}

    app = App(
        configured(installed(), settings) if dialects is None else dialects,
        desk,
        gate,
        settings,
        metrics=Metrics(state),
        fetch=open_fetcher(settings),
    )
    if records is not None:
        app.regions = open_regions(settings)
        host = engine if isinstance(engine, LocalEngine) else None
        app.fleet = Fleet(
            records,
            Resolving(library),
            lambda record: placed(record, settings, library, app.regions, host),
            Drawer(Path(settings.home) / "figures"),
        )
        app.dedicated = Dedicated(app, app.fleet, furnish)
    furnish(app)
    return app


def configured(dialects: Sequence[Dialect], settings: Settings) -> list[Dialect]:
    """The same dialects, those of Ultralytics as the settings want them."""
    clamp, default = settings.clamp_arguments, settings.default_model or None
    chosen: dict[str, Dialect] = {
        "yolo_v1": yolo_v1.YoloV1(
            normalize=settings.legacy_normalize, response=settings.legacy_response, clamp=clamp, default=default
        ),
        "hub": hub.Hub(topk=settings.hub_topk, clamp=clamp, default=default),
        "platform": platform.Platform(clamp=clamp, default=default),
    }
    return [chosen.get(dialect.name, dialect) for dialect in dialects]


def furnish(app: App) -> None:
    """Gives the application its pages."""
    pages = Pages(app)
    app.house, app.is_house = ExceptionMiddleware(pages.router), pages.serves
    app.house_methods = pages.methods


def placed(
    record: Record, settings: Settings, library: Library, regions: Regions | None, host: LocalEngine | None = None
) -> Endpoint:
    """An endpoint where its plan wants it; ``host`` is the engine beside which its own works.

    Raises:
        BadSettings: its region is not in the settings any more.
    """
    if not record.plan.region:
        return endpoint(settings, library, host)
    if regions is None:
        raise BadSettings(f"The region '{record.plan.region}' of the endpoint '{record.name}' is not in saccade.toml.")
    from saccade.server.elsewhere import RegionEndpoint

    return RegionEndpoint(regions, record)


def open_regions(settings: Settings) -> Regions | None:
    """The way to the other saccades, if the settings name any. Raises BadSettings: calls are to be sent to none."""
    if not settings.regions:
        if settings.forward != "never":
            raise BadSettings(
                f"The setting 'forward' is '{settings.forward}', and there are no regions to which calls could be "
                f"sent. Name them in {FILE} ([[regions]]), or leave 'forward' out."
            )
        return None
    from saccade.server.elsewhere import Regions

    return Regions(settings.regions)


def endpoint(settings: Settings, library: Library, host: LocalEngine | None = None) -> LocalEndpoint:
    """A dedicated endpoint on this machine: an engine of its own, with the plan's replicas and memory."""
    share = object()

    def engine(card: Card, plan: Plan) -> EndpointEngine:
        return LocalEngine(
            Pinned(card, library),
            msgspec.structs.replace(
                rules_of(settings),
                pins=(),
                replicas=max(1, plan.min_replicas),
                worker_memory_bytes=plan.memory_bytes or settings.worker_memory_bytes,
                cache_bytes=0,
            ),
            host,
            share,
        )

    return LocalEndpoint(engine)


def open_gate(settings: Settings, database: Database) -> Gate:
    """Who may call.

    Raises:
        BadSettings: the server would be open to a network without keys, or the database cannot be used.
    """
    windows = open_windows(settings, database)
    if settings.no_auth:
        return CountingOpenGate(database, windows)
    gate = KeyGate(database, settings, windows, open_without_keys=is_loopback(settings.host))
    if is_loopback(settings.host) or gate.keys.exist():
        return gate
    where = settings.host or "all addresses"
    raise BadSettings(
        f"Refusing to serve on {where} without keys: everybody who reaches this host could use the server. "
        f"Create a key with {key_line(settings)}, or start with --no-auth if that is what you want."
    )


def key_line(settings: Settings) -> str:
    """What to type to make a key where this server looks for it: only a flag of its own may tell where that is."""
    try:
        usual = load({}, os.environ)
    except BadSettings:
        usual = settings
    if settings.database_url != usual.database_url:
        return "'saccade keys create NAME' and SACCADE_DATABASE_URL as here"
    home = "" if settings.database_url or settings.home == usual.home else f" --home {shlex.quote(settings.home)}"
    return f"'saccade keys create NAME{home}'"


def open_windows(settings: Settings, database: Database) -> Windows:
    """Where quotas are counted: in Redis if there is one, else in the database."""
    if settings.redis_url:
        from saccade.server.redis import RedisWindows

        return RedisWindows(settings.redis_url)
    return SqlWindows(database)


def open_engine(settings: Settings, library: Library) -> Engine:
    """The engine on this machine; the preloaded models stay in memory."""
    return LocalEngine(library, rules_of(settings))


def rules_of(settings: Settings) -> Rules:
    """The settings in the engine's words."""
    limits = Limits(
        max_bytes=settings.max_body_bytes,
        max_video_bytes=settings.max_body_bytes,
        max_pixels=settings.max_pixels,
        max_frames=settings.max_frames,
        max_seconds=settings.max_seconds,
    )
    return Rules(
        precision=settings.precision,
        device=settings.device,
        threads=settings.threads,
        memory_bytes=settings.memory_bytes,
        cache_dir=str(Path(settings.home) / "compiled"),
        limits=limits,
        queue_calls=settings.queue_calls,
        queue_total=settings.queue_total_calls,
        pins=settings.preload,
        replicas=settings.replicas,
        isolate=settings.isolate,
        fork_workers=settings.fork_workers,
        max_batch=settings.max_batch,
        cache_bytes=settings.cache_bytes,
        cache_ttl_s=settings.cache_ttl_s,
        redis_url=settings.redis_url,
        request_timeout_s=settings.request_timeout_s,
        video_timeout_s=settings.video_timeout_s,
        load_timeout_s=settings.load_timeout_s,
        min_residency_s=settings.min_residency_s,
        decode_s=settings.decode_timeout_s,
        hang_s=settings.hang_timeout_s,
        check_s=settings.check_interval_s,
        worker_memory_bytes=settings.worker_memory_bytes,
        dry_run=settings.admission_dry_run,
    )


def open_fetcher(settings: Settings) -> Fetch | None:
    """What fetches addresses that callers name, if any host is allowed."""
    if not settings.allow_url:
        return None
    from saccade.server.fetch import Fetcher

    return Fetcher(settings.allow_url, max_bytes=settings.url_max_bytes, timeout_s=settings.url_timeout_s)


class Resolving:
    """plan → Card. A model that is to run in a region need not be known here; the region looks for it."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def __call__(self, plan: Plan) -> Card:
        """Raises UnknownModel."""
        if plan.region:
            return Card(name=plan.model, task="detect", family="elsewhere", runtime="elsewhere")
        return self._library.card(plan.model, fetch=True)


class Pinned:
    """A library of one model, for the engine of a dedicated endpoint: as it is, or as it was when it was last here."""

    def __init__(self, card: Card, library: Library) -> None:
        self._card = card
        self._library = library

    def card(self, ref: str) -> Card:
        """The one, whatever it is asked by; also when its files are gone, as long as it is in memory."""
        with contextlib.suppress(Error):
            self._card = self._library.card(self._card.name)
        return self._card

    def ready(self, card: Card) -> Card:
        """The Card whose files can be opened at once, as the library makes it."""
        made: Callable[[Card], Card] | None = getattr(self._library, "ready", None)
        return card if made is None else made(card)
