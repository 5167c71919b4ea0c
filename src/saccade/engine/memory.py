"""The bytes that all models of this process may hold together, whichever engine they belong to."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol


class Holder(Protocol):
    """What has models in memory."""

    @property
    def held_bytes(self) -> int:
        """What they hold, and what those will need that are being opened."""

    async def make_way(self, name: str) -> bool:
        """Puts one of them away for a model of somebody else; False: all of them stay."""


class Memory:
    """One budget of bytes. The models of the first who joins leave for those of the others, never the other way round.

    ``beside`` tells how much of it something holds that is no model.
    """

    def __init__(self, budget_bytes: int, beside: Callable[[], int] = lambda: 0) -> None:
        self.budget_bytes = budget_bytes
        self._beside = beside
        self._holders: dict[Holder, Hashable] = {}

    def join(self, holder: Holder, share: Hashable = None) -> None:
        """From now on, what it holds counts. Of those with one ``share`` one replaces the other, as with new files."""
        self._holders[holder] = share if share is not None else id(holder)

    def leave(self, holder: Holder) -> None:
        """It holds nothing any more. Harmless if it never joined."""
        self._holders.pop(holder, None)

    def taken(self, holder: Holder) -> int:
        """What the models of others hold, except of those that it is about to replace."""
        own = self._holders.get(holder)
        return sum(other.held_bytes for other, share in self._holders.items() if share != own)

    def lacks(self, holder: Holder, need: int) -> bool:
        """Whether there is too little left for it to take so many bytes more."""
        return holder.held_bytes + self.taken(holder) + self._beside() + need > self.budget_bytes

    async def make_way(self, holder: Holder, name: str) -> bool:
        """Has a model leave that may, for one of this holder; False: there is none."""
        first = next(iter(self._holders), None)
        return first is not None and first is not holder and await first.make_way(name)
