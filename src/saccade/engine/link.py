"""A way to one replica, wherever it lives; used from the event loop only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from saccade.engine.job import Job, Reply
from saccade.errors import Error

OnReply = Callable[["Link", Reply], None]
OnLost = Callable[["Link", str], None]


class Link(Protocol):
    """Opened once, closed once. Every job that was sent gets exactly one Done, Failed or End, unless the replica is
    lost: then ``on_lost`` is called once with the reason, and nothing comes any more."""

    slots: int
    """How many jobs the replica can use at one time."""

    memory_bytes: int
    """What the replica holds, as measured after it was opened and from time to time."""

    culprit: tuple[int, Error] | None
    """The job that made the replica end itself, and what to tell its caller."""

    killed: bool
    """Whether somebody else ended the replica (SIGKILL), for no reason of its own."""

    @property
    def facts(self) -> dict[str, str | int | float]:
        """What is told about the replica in /info."""

    async def open(self) -> None:
        """Returns when the model is warm.

        Raises:
            ModelError, SetupError: it cannot be opened.
        """

    def send(self, job: Job, data: bytes) -> None:
        """Starts a job; never waits."""

    def cancel(self, job_id: int) -> None:
        """Nobody wants this job any more."""

    def grant(self, job_id: int, frames: int) -> None:
        """Lets a video go on by so many frames."""

    async def check(self, patience_s: float) -> str | None:
        """Whether the model still sees what it saw when it was loaded; in words what is wrong, also that it did not
        look within ``patience_s``, or None."""

    def kill(self) -> None:
        """Ends the replica at once, where that is possible; ``close`` is still called."""

    async def close(self) -> None:
        """Ends the replica; the caller has seen to it that nothing is in flight. ``on_lost`` is not called."""
