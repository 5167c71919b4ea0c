"""How answers leave a connection."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from saccade.server.connection import GO_ON, Whole


class Wire:
    """A transport that remembers what each of its writes held."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.writes.append(b"".join(parts))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def written(*parts: bytes, pause_after: int = -1, close: bool = False) -> Wire:
    """What a wire saw of these parts, with the event loop turning once after one of them."""

    async def play() -> Wire:
        wire = Wire()
        whole: Any = Whole(cast(asyncio.Transport, wire), asyncio.get_running_loop())
        for number, part in enumerate(parts):
            whole.write(part)
            if number == pause_after:
                await asyncio.sleep(0)
        if close:
            whole.close()
        return wire

    return asyncio.run(play())


def test_head_and_body_leave_together_so_that_nobody_gets_half_an_answer() -> None:
    assert written(b"head ", b"body ", b"more").writes == [b"head body ", b"more"]


def test_so_they_do_for_who_was_asked_for_a_body_before() -> None:
    assert written(GO_ON, b"head ", b"body", pause_after=0).writes == [GO_ON, b"head body"]


def test_a_head_whose_body_takes_its_time_leaves_alone() -> None:
    assert written(b"head ", b"body", pause_after=0).writes == [b"head ", b"body"]


def test_closing_loses_nothing() -> None:
    wire = written(b"head", close=True)
    assert (wire.writes, wire.closed) == ([b"head"], True)
