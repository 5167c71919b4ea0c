"""Which files a model was opened from, so that others that lie there later are not taken for them."""

from __future__ import annotations

import os
from typing import TypeAlias

from saccade.card import Card
from saccade.errors import Changed

Files: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Number, bytes and time of change of each of a Card's files; None where there is none."""


def seen(card: Card) -> Files:
    """What lies there now. May take a while."""
    return tuple(map(_facts, card.files))


def check_same(card: Card, files: Files) -> None:
    """Raises Changed: what lies there is not ``files`` any more."""
    if seen(card) != files:
        raise Changed(f"The files of the model '{card.name}' were replaced. Try again.")


def _facts(file: str) -> tuple[int, int, int] | None:
    try:
        facts = os.stat(file)
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
