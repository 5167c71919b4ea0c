"""What was measured, kept in a file after every turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

MISSING = "cannot be installed here"


class Level(msgspec.Struct):
    """One number of callers. ``others`` is the share of all cores that neither server nor callers used, but were not
    idle."""

    per_second: float
    p50_ms: float
    slowest_ms: float
    cpu_ms: float
    callers_cpu_ms: float
    failed: int
    others: float


class Turn(msgspec.Struct):
    """One candidate in one round of its group; ``objects`` found on all photos together."""

    group: str
    round: int
    name: str
    levels: dict[int, Level] = {}
    memory_bytes: int = 0
    objects: int = 0
    broken: str = ""


class Results:
    """All turns so far."""

    def __init__(self, path: Path, head: dict[str, str], turns: list[Turn]) -> None:
        self.path = path
        self.head = head
        self.turns = turns

    @classmethod
    def opened(cls, path: Path) -> Results:
        """What the file holds; nothing when there is none."""
        if not path.exists():
            return cls(path, {}, [])
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        return cls(path, kept.head, kept.turns)

    def has(self, group: str, number: int, names: Sequence[str]) -> bool:
        """Whether a round of a group is complete; what failed is tried again, except what cannot be installed."""
        done = [turn for turn in self.turns if (turn.group, turn.round) == (group, number)]
        return set(names) <= {turn.name for turn in done if not turn.broken or turn.broken.startswith(MISSING)}

    def drop(self, group: str, number: int) -> None:
        """Forgets a round that was not finished: ratios are of one turn."""
        self.turns = [turn for turn in self.turns if (turn.group, turn.round) != (group, number)]

    def add(self, turn: Turn) -> None:
        """Keeps a turn, also on disk."""
        self.turns.append(turn)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = msgspec.json.format(msgspec.json.encode(_Kept(self.head, self.turns)), indent=1)
        draft = self.path.with_suffix(".part")
        draft.write_bytes(kept)
        draft.replace(self.path)


class _Kept(msgspec.Struct):
    head: dict[str, str]
    turns: list[Turn]
