"""A dialect turns HTTP into a Call and an Answer back into HTTP, in the words of one API.

One file a dialect. It exports ``DIALECT``, an object that satisfies :class:`Dialect`. A dialect sees calls, answers
and errors, never the engine: ``server/app.py`` is where the two meet.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from saccade import errors
from saccade.call import Answer, Call
from saccade.card import Card

STATUS: Mapping[type[errors.Error], int] = {
    errors.BadInput: 400,
    errors.UnknownFormat: 415,
    errors.BadOptions: 400,
    errors.UnknownKey: 404,
    errors.WrongTask: 400,
    errors.UnknownModel: 404,
    errors.TooLarge: 413,
    errors.NoKey: 401,
    errors.Forbidden: 403,
    errors.QuotaSpent: 429,
    errors.Overloaded: 503,
    errors.StillLoading: 503,
    errors.Stopped: 503,
    errors.DeadlinePassed: 504,
    errors.CorruptFiles: 500,
    errors.UnsupportedModel: 400,
    errors.RunFailed: 500,
    errors.MissingExtra: 501,
    errors.BadSettings: 500,
    errors.CallError: 400,
    errors.AccessError: 403,
    errors.Busy: 503,
    errors.ModelError: 500,
    errors.SetupError: 500,
    errors.Error: 500,
}
"""The one table from errors to HTTP status codes."""


def status_of(error: errors.Error) -> int:
    """The HTTP status of an error: its own class's, or the nearest ancestor's."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """One HTTP request, read whole. (A Struct, because several are made at every request.)

    ``path`` is percent-decoded with a single leading slash; ``match`` holds the route's path parameters; header names
    are lower-case; ``base_url`` is this server's address as the caller wrote it, without a trailing slash. ``device``
    and ``worked_s`` are given with a call that failed at work: what it was computed on, and for how many seconds.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = {}
    body: bytes = b""
    match: Mapping[str, str] = {}
    request_id: str = ""
    base_url: str = ""
    device: str = ""
    worked_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One HTTP response. ``stream`` is sent chunk by chunk instead of ``body`` when it is given."""

    status: int = 200
    body: bytes = b""
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    stream: AsyncIterator[bytes] | None = None


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a request asks for: one call, or several images at once. Dialects subclass it with what render needs."""

    calls: tuple[Call, ...]
    streamed: bool = False
    """Whether the caller wants an entry per frame as soon as it is ready (video)."""
    stream_type: str = "application/x-ndjson"
    """The media type of what :meth:`Dialect.render_stream` yields."""


@dataclass(frozen=True, slots=True)
class Route:
    """One URL form. ``path`` is a Starlette path template; ``action`` "predict" runs parse → engine → render,
    "describe" calls :meth:`Dialect.describe` with the facts of the house. Where ``endings`` are given, it is that of
    paths with one of them alone."""

    methods: tuple[str, ...]
    path: str
    action: Literal["predict", "describe"] = "predict"
    endings: tuple[str, ...] = ()


ModelState = Literal["cold", "loading", "warm", "failed"]


class Desk(Protocol):
    """What a dialect may ask the house when it describes models; the server implements it."""

    def card(self, ref: str) -> Card:
        """The Card behind a ref. Raises UnknownModel."""

    def cards(self) -> Sequence[Card]:
        """All models that can be served now."""

    def state(self, ref: str) -> ModelState:
        """Whether the model is in memory."""

    def device(self) -> Literal["cpu", "gpu"]:
        """What the engine computes on."""

    def default_model(self) -> str | None:
        """The model that answers a request that names none: the only one, or the configured one."""

    def uptime_s(self) -> float:
        """Seconds since the server was ready."""


class Dialect(Protocol):
    """One API."""

    name: str
    routes: tuple[Route, ...]

    def claims(self, incoming: Incoming) -> bool:
        """Whether this request, on a path that several dialects share (``POST /``, ``/predict``), is this one's."""

    def parse(self, incoming: Incoming, desk: Desk) -> Ask:
        """The calls that a request makes.

        Raises:
            CallError: whatever the bytes are.
            StillLoading: the model would have to be fetched first, and the caller wants nothing loaded.
        """

    def render(self, ask: Ask, answers: Sequence[Answer]) -> Outgoing:
        """The HTTP answer; one Answer per call, in order (a video call yields several)."""

    def render_stream(self, ask: Ask, answers: AsyncIterator[Answer]) -> AsyncIterator[bytes]:
        """An entry per answer as it comes, for asks with ``streamed``."""

    def refuse(self, error: errors.Error, incoming: Incoming) -> Outgoing:
        """The error in this API's words; never raises."""

    def describe(self, incoming: Incoming, desk: Desk) -> Outgoing:
        """The answer to a "describe" route."""
