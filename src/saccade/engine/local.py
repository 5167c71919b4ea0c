"""A replica in this very process."""

from __future__ import annotations

import asyncio
import threading

from saccade.card import Card
from saccade.discover import resident_bytes
from saccade.engine.job import Job, Reply
from saccade.engine.link import Link, OnReply
from saccade.engine.replica import Duty, Replica
from saccade.errors import Error
from saccade.runtimes.session import Compute


class LocalLink:
    """See :class:`saccade.engine.link.Link`. Cannot be lost, nor saved from an image that crashes the process."""

    def __init__(self, card: Card, compute: Compute, duty: Duty, on_reply: OnReply) -> None:
        self._card = card
        self._compute = compute
        self._duty = duty
        self._on_reply = on_reply
        self._replica: Replica | None = None
        self._loop = asyncio.get_running_loop()
        self.slots = 0
        self.memory_bytes = 0
        self.culprit: tuple[int, Error] | None = None
        self.killed = False

    @property
    def facts(self) -> dict[str, str | int | float]:
        """See the contract."""
        return {"isolated": 0}

    async def open(self) -> None:
        """See the contract."""
        before = resident_bytes()
        opening = asyncio.ensure_future(asyncio.to_thread(Replica, self._card, self._compute, self._duty))
        try:
            self._replica = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_put_away)
            raise
        self.slots = self._replica.slots
        self.memory_bytes = max(self._card.size_bytes, resident_bytes() - before)

    def send(self, job: Job, data: bytes) -> None:
        """See the contract."""
        self._opened.submit(job, data, self._forward)

    def cancel(self, job_id: int) -> None:
        """See the contract."""
        self._opened.cancel(job_id)

    def grant(self, job_id: int, frames: int) -> None:
        """See the contract."""
        self._opened.grant(job_id, frames)

    async def check(self, patience_s: float) -> str | None:
        """See the contract."""
        return await asyncio.to_thread(self._opened.check)

    def kill(self) -> None:
        """See the contract; threads cannot be killed."""

    async def close(self) -> None:
        """See the contract."""
        replica, self._replica = self._replica, None
        if replica is not None:
            await asyncio.to_thread(replica.close)

    @property
    def _opened(self) -> Replica:
        if self._replica is None:
            raise RuntimeError("the link is not open")
        return self._replica

    def _forward(self, reply: Reply) -> None:
        """From a thread of the replica to the event loop; silent when the loop has ended."""
        link: Link = self
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_reply, link, reply)


def _put_away(opening: asyncio.Future[Replica]) -> None:
    """Closes a replica that came up when nobody waited for it any more."""
    if not opening.cancelled() and opening.exception() is None:
        threading.Thread(target=opening.result().close, name="put-away", daemon=True).start()
