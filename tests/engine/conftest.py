"""What the engine's tests share: invented models that need no files, and pictures that cost nothing to decode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from saccade.card import Card
from saccade.engine import Engine, Rules
from saccade.errors import UnknownModel


class Shelf:
    """A library of simulated models; what each does is given by keywords."""

    def __init__(self, **behaviours: dict[str, Any]) -> None:
        self.cards_by_name: dict[str, Card] = {}
        self.asked = 0
        for name, behaviour in behaviours.items():
            self.put(name, behaviour)

    def put(self, name: str, behaviour: dict[str, Any], revision: str = "1", size_bytes: int = 0) -> None:
        self.cards_by_name[name] = Card(
            name=name,
            task="detect",
            family="simulated",
            runtime="simulated",
            labels={0: revision},
            revision=revision,
            size_bytes=size_bytes,
            config={"simulated": behaviour},
        )

    def card(self, ref: str) -> Card:
        self.asked += 1
        if ref not in self.cards_by_name:
            raise UnknownModel(f"There is no model '{ref}'.")
        return self.cards_by_name[ref]


def picture(brightness: int = 100, padding: int = 0) -> bytes:
    """A tiny grey picture whose brightness its answer tells; ``padding`` bytes of comment make the body larger."""
    comment = b"#" + b"x" * padding + b"\n" if padding else b""
    return b"P6\n" + comment + b"4 4\n255\n" + bytes([brightness]) * 48


@asynccontextmanager
async def running(library: Shelf, **rules: Any) -> AsyncIterator[Engine]:
    engine = Engine(library, Rules(**{"threads": 2, "cache_bytes": 0, **rules}))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


@pytest.fixture(params=[False, True], ids=["in-process", "worker"])
def isolate(request: pytest.FixtureRequest) -> bool:
    """The engine's behaviour is the same in one process and with workers."""
    return bool(request.param)


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine to its end, within a minute."""

    def within(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(asyncio.wait_for(work, 60))

    return within
