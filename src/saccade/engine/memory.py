"""The bytes that all models of this process may hold together, whichever engine they belong to."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol


class Holder(Protocol):
    """What has models in memory."""

    @property
    def held_bytes(self) -> int:
        """What they hold, and what those will need that are being opened."""

    @property
    def spare_bytes(self) -> int:
        """What those hold that may leave for somebody else's."""

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

    @property
    def used_bytes(self) -> int:
        """What is held of it, by whomever."""
        return sum(holder.held_bytes for holder in self._holders) + self._beside()

    def taken(self, holder: Holder) -> int:
        """What the models of others hold, except of those that it is about to replace."""
        own = self._holders.get(holder)
        return sum(other.held_bytes for other, share in self._holders.items() if share != own)

    def lack(self, holder: Holder, need: int) -> int:
        """How many bytes are missing for it to take so many more; 0: none."""
        return max(0, holder.held_bytes + self.taken(holder) + self._beside() + need - self.budget_bytes)

    async def make_way(self, holder: Holder, name: str, need: int) -> bool:
        """Has a model leave for one of this holder that needs so much; False: none may, or all were not enough.

        What is larger than the budget may be alone, so that all leave for it if they may.
        """
        first = next(iter(self._holders), None)
        if first is None or first is holder:
            return False
        in_vain = self.taken(holder) > first.spare_bytes < self.lack(holder, need)
        return not in_vain and await first.make_way(name)
