"""What dialects may ask the house when they describe models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.dialects.dialect import ModelState
from saccade.errors import UnknownModel

STARTER = "picodet-s"
"""The model of requests that name none, on a server that has many and was told of no default."""

MOST_CARDS = 1024
"""How many Cards are remembered."""
FRESH_S = 1.0
"""How long a Card is believed before the library, which looks at the files, is asked again."""


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
    """The Desk of this server."""

    def __init__(self, library: Library, engine: Engine, default_model: str, device: Literal["cpu", "gpu"]) -> None:
        self.library = library
        self.engine = engine
        self._default = default_model
        self._device = device
        self._cards: dict[str, tuple[float, Card]] = {}
        self._starter: tuple[float, str] | None = None
        self.ready_at = time.monotonic()

    def card(self, ref: str) -> Card:
        """The Card behind a ref.

        Raises:
            NotHere: it can be fetched first. (The app does that and asks the dialect again.)
            UnknownModel: nobody knows it.
        """
        now = time.monotonic()
        kept = self._cards.get(ref)
        if kept is not None and now - kept[0] < FRESH_S:
            return kept[1]
        self._cards.pop(ref, None)
        try:
            card = self.library.card(ref)
        except UnknownModel as error:
            raise NotHere(error.message, ref=ref, offered=error.offered) from error
        if len(self._cards) >= MOST_CARDS:  # callers write one name in many ways
            self._cards.clear()
        self._cards[ref] = (now, card)
        return card

    def cards(self) -> Sequence[Card]:
        """All models that can be served now."""
        return self.library.cards()

    def state(self, ref: str) -> ModelState:
        """Whether the model is in memory."""
        return self.engine.state(ref)

    def device(self) -> Literal["cpu", "gpu"]:
        """What the engine computes on."""
        return self._device

    def default_model(self) -> str | None:
        """The configured one, else the only one, else the starter."""
        if self._default:
            return self._default
        now = time.monotonic()
        if self._starter is None or now - self._starter[0] > FRESH_S:
            cards = self.library.cards()
            self._starter = now, cards[0].name if len(cards) == 1 else STARTER
        return self._starter[1]

    def uptime_s(self) -> float:
        """Seconds since the server was ready."""
        return time.monotonic() - self.ready_at
