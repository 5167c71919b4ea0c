"""What dialects may ask the house when they describe models."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.dialects.dialect import ModelState
from saccade.engine.aside import aside
from saccade.errors import Error, Overloaded, UnknownModel, anew
from saccade.server.inquiries import FRESH_S, LONGEST_S, PATIENCE_S, Inquiries, Unasked

STARTER = "picodet-s"
"""The model of requests that name none, on a server that has many and was told of no default."""

MOST_MISSED = 1024
MOST_QUESTIONS = 50
"""So many models may have to be looked up for one request (one name in it may mean several), before it is given up."""

T = TypeVar("T")


class Library(Protocol):
    """Where Cards come from."""

    def card(self, ref: str, *, fetch: bool = False) -> Card: ...

    def cards(self) -> Sequence[Card]: ...


class Engine(Protocol):
    """What the server asks of the engine."""

    async def start(self) -> None: ...

    async def predict(self, call: Call) -> Answer: ...

    def stream(self, call: Call) -> Any: ...

    async def load(self, ref: str) -> Any: ...

    def state(self, ref: str) -> ModelState: ...

    def info(self) -> dict[str, Any]: ...

    async def drain(self) -> None: ...

    async def close(self) -> None: ...


class NotHere(UnknownModel):
    """The catalogue knows the model ``ref``, but its files are not on this machine yet."""

    def __init__(self, message: str, *, ref: str, offered: str = "") -> None:
        super().__init__(message)
        self.ref = ref
        self.offered = offered


class FrontDesk:
    """The Desk of this server. It touches no file: what it was not told yet must be asked for first."""

    def __init__(self, library: Library, engine: Engine, default_model: str, device: Literal["cpu", "gpu"]) -> None:
        self.library = library
        self.engine = engine
        self._default = default_model
        self._device = device
        self._cards = Inquiries(self._look_up)
        self._lists = Inquiries(self._look_around)
        self._missed: dict[str, tuple[float, UnknownModel]] = {}
        self.ready_at = time.monotonic()

    def card(self, ref: str) -> Card:
        """The Card behind a ref, as last told.

        Raises:
            Unasked: :meth:`find` it first, and read the request again.
            UnknownModel: see :meth:`miss`.
        """
        if (missed := self._missed.get(ref)) is not None:  # one look: this may be a thread
            until, error = missed
            if time.monotonic() < until:
                raise anew(error)
            self._missed.pop(ref, None)
        return self._cards.told(ref)

    async def find(self, ref: str) -> Card:
        """The Card behind a ref.

        Raises:
            NotHere: it can be fetched first. (The app does that and asks the dialect again.)
            UnknownModel: nobody knows it.
            Overloaded: the disk does not answer.
        """
        with contextlib.suppress(Unasked):
            return self._cards.told(ref)
        return await self._cards.ask(ref)

    async def all(self, patience_s: float = LONGEST_S) -> Sequence[Card]:
        """All models that can be served now; what they were when last told, if looking takes too long."""
        return await self._lists.ask(None, patience_s)

    def miss(self, ref: str, error: UnknownModel) -> None:
        """Takes note of a name that a caller may go on to use, because a part of it is a model's: it is not looked for
        with each call."""
        if len(self._missed) >= MOST_MISSED:
            self._missed.clear()
        self._missed[ref] = (time.monotonic() + FRESH_S, anew(error))

    def state(self, ref: str) -> ModelState:
        """Whether the model is in memory."""
        return self.engine.state(ref)

    def device(self) -> Literal["cpu", "gpu"]:
        """What the engine computes on."""
        return self._device

    def default_model(self) -> str | None:
        """The configured one, else the only one, else the starter.

        Raises:
            Unasked: that must be looked up, see :meth:`default`.
        """
        if self._default:
            return self._default
        cards = self._lists.told(None)
        return cards[0].name if len(cards) == 1 else STARTER

    async def default(self) -> str | None:
        """The same, looked up if need be; the starter while that cannot be."""
        with contextlib.suppress(Unasked):
            return self.default_model()
        with contextlib.suppress(Unasked, Overloaded, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self.all(PATIENCE_S / 2)
            return self.default_model()
        return STARTER

    def uptime_s(self) -> float:
        """Seconds since the server was ready."""
        return time.monotonic() - self.ready_at

    async def _look_up(self, ref: str | None) -> Card:
        name = ref or ""
        try:
            return await self._card(name)
        except UnknownModel as error:
            raise NotHere(error.message, ref=name, offered=error.offered) from error

    async def _card(self, ref: str) -> Card:
        return await aside(lambda: self.library.card(ref))

    async def _look_around(self, ref: str | None) -> Sequence[Card]:
        return await aside(self.library.cards)


async def read(desk: FrontDesk, work: Callable[[Reading], T], threaded: bool = False) -> T:
    """What a dialect makes of a request; begun anew while it names models that must be looked up first."""
    reading = Reading(desk)
    for _ in range(MOST_QUESTIONS):
        try:
            made = await asyncio.to_thread(work, reading) if threaded else work(reading)
        except Unasked as missing:
            await reading.ask(missing.ref)
        else:
            reading.end()
            return made
    raise Overloaded("The server is too busy to look for the model. Try again shortly.")


class Reading:
    """The Desk while one request is read: what was found for it stays so until it is read."""

    __slots__ = ("_all", "_desk", "_patience_s", "_told", "device", "state", "uptime_s")

    def __init__(self, desk: FrontDesk) -> None:
        self._desk = desk
        self._told: dict[str, Card | Error] = {}
        self._all: Sequence[Card] | None = None
        self._patience_s = LONGEST_S
        self.state, self.device, self.uptime_s = desk.state, desk.device, desk.uptime_s

    def card(self, ref: str) -> Card:
        """Raises Unasked, or what was found instead of a Card."""
        found = self._told.get(ref) or self._desk.card(ref)
        if isinstance(found, Error):
            raise anew(found)
        return found

    def cards(self) -> Sequence[Card]:
        """Raises Unasked."""
        if self._all is None:
            raise Unasked(None)
        return self._all

    def default_model(self) -> str | None:
        """Raises Unasked."""
        try:
            return self._desk.default_model()
        except Unasked:
            self._patience_s = PATIENCE_S  # to choose among models, those of a moment ago will do
            raise

    async def ask(self, ref: str | None) -> None:
        """Looks up what was missing."""
        if ref is None:
            self._all = await self._desk.all(self._patience_s)
            return
        try:
            self._told[ref] = await self._desk.find(ref)
        except Error as error:
            self._told[ref] = anew(error)

    def end(self) -> None:
        """The request was read, and names a model."""
        for ref, found in self._told.items():
            if isinstance(found, UnknownModel):
                self._desk.miss(ref, found)
