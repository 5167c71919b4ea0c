"""What the engine's tests share: invented models that need no files, and pictures that cost nothing to decode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

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


def picture(brightness: int = 100) -> bytes:
    """A tiny grey picture whose brightness its answer tells."""
    return b"P6\n4 4\n255\n" + bytes([brightness]) * 48


def photo_sized(brightness: int = 100, size: int = 60_000) -> bytes:
    """The same as a JPEG of so many bytes: nearly all of them are a comment, so that decoding costs nothing."""
    import cv2

    grey = np.full((8, 8, 3), brightness, dtype=np.uint8)
    jpeg = bytes(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 100])[1])
    parts: list[bytes] = []
    left = size - len(jpeg)
    while left > 4:
        length = min(left - 2, 65535)
        parts.append(b"\xff\xfe" + length.to_bytes(2, "big") + bytes(length - 2))
        left -= length + 2
    return jpeg[:2] + b"".join(parts) + jpeg[2:]


@asynccontextmanager
async def running(library: Shelf, **rules: Any) -> AsyncIterator[Engine]:
    engine = Engine(library, Rules(**{"threads": 2, "cache_bytes": 0, "max_batch": 1, **rules}))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()
